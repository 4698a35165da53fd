"""Enhancement inside WebRTC calls: tracks for aiortc, and what aiortc needs for 720p at low delay.

streamsr.rtc.tune()                                              # once, before the first peer
peer.addTrack(streamsr.EnhancedTrack(track, enhancer))           # in place of peer.addTrack(track)
"""

from __future__ import annotations

from .codec_profile import CodecProfile, tune, with_start_bitrate
from .delayed_audio import DelayedAudioTrack
from .enhanced_track import EnhancedTrack

__all__ = ["CodecProfile", "DelayedAudioTrack", "EnhancedTrack", "tune", "with_start_bitrate"]
