"""Enhancement inside WebRTC calls: tracks for aiortc, and what aiortc needs for 720p at low delay.

streamsr.rtc.tune()                                              # once, before the first peer
peer.addTrack(streamsr.EnhancedTrack(track, enhancer))           # in place of peer.addTrack(track)

On a network with strangers, every peer's transport wants ``drop_empty_datagrams`` too.
"""

from __future__ import annotations

from .codec_profile import CodecProfile, tune, with_start_bitrate
from .delayed_audio import DelayedAudioTrack
from .enhanced_track import EnhancedTrack
from .transport import drop_empty_datagrams

__all__ = [
    "CodecProfile",
    "DelayedAudioTrack",
    "EnhancedTrack",
    "drop_empty_datagrams",
    "tune",
    "with_start_bitrate",
]
