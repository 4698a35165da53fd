"""The three processes of the call benchmark: who sends, the server between, who receives.

Each is told what to do over a pipe, signals over it, and gives its figures back over it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

import aiortc.rtcrtpreceiver
import aiortc.rtcrtpsender
import numpy as np
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame, VideoFrame
from av.video.reformatter import VideoReformatter

from streamsr.collector import spare_what_is_loaded
from streamsr.errors import StreamSRError
from streamsr.io.colour import to_rgb
from streamsr.loop import run as run_loop
from streamsr.rtc import CodecProfile, DelayedAudioTrack, EnhancedTrack, tune
from streamsr.rtc.bridge import bt601_if_untagged

from .call_address import use_address
from .call_scene import CAMERA_PX, SCALE, TRUTH_PX, CallScene
from .call_tracks import CameraTrack, MicrophoneTrack, Tap, beep_onset, marked_ms

__all__ = ["Setup", "receive", "send", "serve"]

KEEP_EVERY = 10  # frames: pictures kept for the measures, converted when the call is over


@dataclass(frozen=True, slots=True)
class Setup:
    """What all three are told. enhance: False relays the camera's pictures as they are. kept: where the
    viewer's pictures go; None: of a call that lasts, of which the server notes nothing frame by frame."""

    address: str
    codec: str
    scene: CallScene
    enhance: bool = True
    upload_kbps: int | None = None
    fidelity: float | None = None
    steps: int | str | None = None
    device: str = "auto"
    weights: Path | None = None
    threads: int | None = None
    kept: Path | None = None


def send(pipe: Connection, setup: Setup) -> None:
    _run(pipe, setup, _send, _profile(*CAMERA_PX, setup.upload_kbps))


def serve(pipe: Connection, setup: Setup) -> None:
    _run(pipe, setup, _serve, _profile(*TRUTH_PX))


def receive(pipe: Connection, setup: Setup) -> None:
    _run(pipe, setup, _receive, _profile(*CAMERA_PX))


async def _send(pipe: Connection, setup: Setup, codec_ms: dict[str, list[float]]) -> dict[str, Any]:
    pictures = setup.scene.camera()
    peer = RTCPeerConnection()
    start_s = monotonic() + 3.0
    camera = CameraTrack(pictures, start_s)
    peer.addTrack(camera)
    peer.addTrack(MicrophoneTrack(start_s))
    _prefer(peer, setup.codec)
    await _offer(pipe, peer)
    await _told(pipe, "stop")
    sent = await _sent_bytes(peer)
    await peer.close()
    return {"shown": camera.shown, "sent_bytes": sent, "codec_ms": codec_ms}


async def _serve(pipe: Connection, setup: Setup, codec_ms: dict[str, list[float]]) -> dict[str, Any]:
    enhancer = None
    if setup.enhance:
        from streamsr import Enhancer

        enhancer = Enhancer(setup.weights, device=setup.device, threads=setup.threads)
        enhancer.session().close()  # as serve begins
        spare_what_is_loaded()
    pipe.send(("ready", None))
    incoming, outgoing = RTCPeerConnection(), RTCPeerConnection()
    tracks: dict[str, MediaStreamTrack] = {}
    incoming.on("track", lambda track: tracks.update({track.kind: track}))
    await _answer(pipe, incoming)

    before = Tap(tracks["video"], keeps=setup.kept is not None)
    enhanced: EnhancedTrack | None = None
    if enhancer is not None:
        enhanced = EnhancedTrack(before, enhancer, scale=SCALE, fidelity=setup.fidelity, steps=setup.steps)
    after = Tap(enhanced or before, keeps=setup.kept is not None)
    outgoing.addTrack(after)
    outgoing.addTrack(
        DelayedAudioTrack(tracks["audio"], lambda: enhanced.delay_ms if enhanced is not None else 0.0)
    )
    _prefer(outgoing, setup.codec)
    await _offer(pipe, outgoing)
    await _told(pipe, "stop")

    sent = await _sent_bytes(outgoing)
    report = None if enhanced is None else enhanced.report().model_dump(mode="json")
    if enhanced is not None:
        await enhanced.close()
    await outgoing.close()
    await incoming.close()
    if enhancer is not None:
        enhancer.close()
    added = [
        (left, 1e3 * (left - before.seen_s[pts]))
        for pts, left in after.seen_s.items()
        if pts in before.seen_s
    ]
    return {"added_ms": added, "report": report, "sent_bytes": sent, "codec_ms": codec_ms}


async def _receive(pipe: Connection, setup: Setup, codec_ms: dict[str, list[float]]) -> dict[str, Any]:
    peer = RTCPeerConnection()
    tracks: dict[str, MediaStreamTrack] = {}
    peer.on("track", lambda track: tracks.update({track.kind: track}))
    await _answer(pipe, peer)
    watching = asyncio.create_task(_watch(tracks["video"], setup.kept is not None))
    listening = asyncio.create_task(_listen(tracks["audio"]))
    await _told(pipe, "stop")
    await peer.close()
    frames, unread, kept = await watching
    if setup.kept is not None:
        reformatter = VideoReformatter()
        pictures = [to_rgb(bt601_if_untagged(frame), reformatter) for _, frame in kept]
        np.savez(setup.kept, ms=np.array([ms for ms, _ in kept], np.int64), pictures=np.array(pictures))
    return {"frames": frames, "unread": unread, "beeps_s": await listening, "codec_ms": codec_ms}


async def _watch(
    track: MediaStreamTrack, keeps: bool
) -> tuple[list[tuple[float, int, bool]], int, list[tuple[int, VideoFrame]]]:
    """(seen at, in s; shown at, in ms; flash) of each frame, how many could not be read, every tenth if
    it keeps them."""
    frames: list[tuple[float, int, bool]] = []
    kept: list[tuple[int, VideoFrame]] = []
    unread = count = 0
    with contextlib.suppress(MediaStreamError):
        while True:
            frame = await track.recv()
            assert isinstance(frame, VideoFrame)
            now_s = monotonic()
            found = marked_ms(frame, round(1e3 * now_s))
            if found is None:
                unread += 1
                continue
            frames.append((now_s, *found))
            count += 1
            if keeps and count % KEEP_EVERY == 0:
                kept.append((found[0], frame))
    return frames, unread, kept


async def _listen(track: MediaStreamTrack) -> list[float]:
    """When each beep began to sound, in s, if every frame of sound is played as it comes."""
    beeps: list[float] = []
    loud_s = 0.0
    with contextlib.suppress(MediaStreamError):
        while True:
            frame = await track.recv()
            assert isinstance(frame, AudioFrame)
            now_s, onset = monotonic(), beep_onset(frame)
            if onset is not None:
                if now_s - loud_s > 0.5:
                    beeps.append(now_s + onset)
                loud_s = now_s
    return beeps


# -- what they share ----------------------------------------------------------------------------------


def _run(
    pipe: Connection,
    setup: Setup,
    main: Callable[[Connection, Setup, dict[str, list[float]]], Coroutine[Any, Any, dict[str, Any]]],
    profile: CodecProfile,
) -> None:
    use_address(setup.address)
    tune(profile)
    codec_ms = _time_codecs() if setup.kept is not None else {}
    try:
        pipe.send(("result", run_loop(main(pipe, setup, codec_ms))))
    except StreamSRError as error:
        pipe.send(("error", str(error)))


def _profile(width: int, height: int, start_kbps: int | None = None) -> CodecProfile:
    if start_kbps is None:
        return CodecProfile.for_output(width, height)
    return CodecProfile(start_kbps, max(1, start_kbps // 6), 2 * start_kbps)


def _time_codecs() -> dict[str, list[float]]:
    """Keep how long each call of this process's video codecs takes, in ms, from now on."""
    taken: dict[str, list[float]] = {"encode": [], "decode": []}

    def timed(make: Callable[[Any], Any], method: str) -> Callable[[Any], Any]:
        def make_timed(codec: Any) -> Any:
            made = make(codec)
            if not codec.mimeType.startswith("video/"):
                return made
            work = getattr(made, method)

            def worked(*arguments: Any) -> Any:
                began = perf_counter()
                result = work(*arguments)
                taken[method].append(1e3 * (perf_counter() - began))
                return result

            setattr(made, method, worked)
            return made

        return make_timed

    for module, name, method in (
        (aiortc.rtcrtpsender, "get_encoder", "encode"),
        (aiortc.rtcrtpreceiver, "get_decoder", "decode"),
    ):
        setattr(module, name, timed(getattr(module, name), method))
    return taken


def _prefer(peer: RTCPeerConnection, codec: str) -> None:
    wanted = (f"video/{codec.upper()}", "video/rtx")
    codecs = [found for found in RTCRtpSender.getCapabilities("video").codecs if found.mimeType in wanted]
    for transceiver in peer.getTransceivers():
        if transceiver.kind == "video":
            transceiver.setCodecPreferences(codecs)


async def _offer(pipe: Connection, peer: RTCPeerConnection) -> None:
    await peer.setLocalDescription(await peer.createOffer())
    pipe.send(("offer", peer.localDescription.sdp))
    await peer.setRemoteDescription(RTCSessionDescription(await _told(pipe, "answer"), "answer"))


async def _answer(pipe: Connection, peer: RTCPeerConnection) -> None:
    await peer.setRemoteDescription(RTCSessionDescription(await _told(pipe, "offer"), "offer"))
    await peer.setLocalDescription(await peer.createAnswer())
    pipe.send(("answer", peer.localDescription.sdp))


async def _told(pipe: Connection, kind: str) -> Any:
    told, value = await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
    assert told == kind, f"expected {kind}, got {told}"
    return value


async def _sent_bytes(peer: RTCPeerConnection) -> int:
    for sender in peer.getSenders():
        if sender.kind == "video":
            stats = (await sender.getStats()).values()
            return sum(found.bytesSent for found in stats if found.type == "outbound-rtp")
    return 0
