"""The process behind ``RtspSink``: encodes pictures as H264 and publishes them, on one connection.

``python -m streamsr.io.rtsp_publisher`` talks to its parent in lines of JSON. In, first the job,
credentials and all (a command line would show them to every user of the machine), then one line for
each picture: its slot in the shared memory, its pts and its SEI, "" for none. Out: "open" once the server
has agreed, "ready" whenever the next picture may come, "failed" with the reason. At {"finish": true} or the
end of input it says goodbye to the server and exits.

FFmpeg may hang in any call, with the interpreter's lock held. A timer of the kernel's ends the process
then (SIGALRM, left at its default): nothing in here has to be able to run for that.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import IO, Any, cast

import av
import av.error
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter

from ..frame import Colour, Matrix, Range
from .colour import from_rgb, tag
from .hardware import encoder_options
from .nal import with_sei
from .rtsp_peer import explain, knock
from .x264 import live_options

__all__ = ["Job", "main"]

KEYFRAME_S = 2  # who joins, or lost a packet, waits no longer than this for a picture
PIXEL_FORMAT = "yuv420p"


@dataclass(frozen=True, slots=True)
class Job:
    """What to publish. Pictures are (height, width, 3) uint8 RGB, slot after slot in shared memory.

    rate, time_base: "numerator/denominator". memory_fd: an inherited descriptor. crf: 0..51, less is
    better; bit_rate: bit/s, in its place. timeout_s: longest wait for the server in one call.
    """

    url: str
    transport: str
    width: int
    height: int
    rate: str
    time_base: str
    matrix: str
    range: str
    primaries: int
    transfer: int
    encoder: str
    crf: float
    bit_rate: int | None
    memory_fd: int
    slots: int
    timeout_s: float

    def line(self) -> str:
        return json.dumps(asdict(self)) + "\n"


def main() -> int:
    say = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # nothing else may get between the messages
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # whatever the parent had made of it
    job = Job(**json.loads(sys.stdin.readline()))
    began = time.monotonic()
    try:
        _arm(2 * job.timeout_s)
        reason = knock(job.url, job.timeout_s) or _publish(job, sys.stdin, say)
    except av.error.FFmpegError as error:
        reason = explain(error, job.url, time.monotonic() - began, float("inf"))
    except BrokenPipeError:  # the parent is gone: there is nobody to tell
        return 1
    if reason is not None:
        print(json.dumps({"event": "failed", "reason": reason}), file=say)
    return 0 if reason is None else 1


def _publish(job: Job, commands: IO[str], say: IO[str]) -> str | None:
    """Returns None when told to finish, otherwise why it cannot go on. Raises FFmpegError."""
    size = job.width * job.height * 3
    memory = mmap.mmap(job.memory_fd, size * job.slots, access=mmap.ACCESS_READ)
    slots = np.frombuffer(memory, np.uint8).reshape(job.slots, job.height, job.width, 3)
    colour = Colour(Matrix(job.matrix), Range(job.range), job.primaries, job.transfer)
    time_base = Fraction(job.time_base)
    reformatter = VideoReformatter()
    with av.open(job.url, "w", format="rtsp", options={"rtsp_transport": job.transport}) as container:
        stream = _add_stream(container, job, colour, time_base)
        container.start_encoding()
        _tell(say, "open")
        keyframe_pts: int | None = None
        while True:
            _arm(0)  # waiting for the parent may take forever; its end is the end of our input
            _tell(say, "ready")
            line = commands.readline()
            command: dict[str, Any] = json.loads(line) if line else {"finish": True}
            _arm(job.timeout_s)
            if command.get("finish"):
                container.mux(stream.encode(None))
                return None
            frame = from_rgb(_even(slots[command["slot"]]), colour, PIXEL_FORMAT, reformatter)
            frame.pts, frame.time_base = command["pts"], time_base
            if keyframe_pts is None or (frame.pts - keyframe_pts) * time_base >= KEYFRAME_S:
                keyframe_pts = frame.pts
                frame.pict_type = PictureType.I
            container.mux([_saying(command["sei"], packet) for packet in stream.encode(frame)])


def _saying(text: str, packet: av.Packet) -> av.Packet:
    """``packet`` with ``text`` as SEI: the encoder holds no picture back, so it is of the newest."""
    if not text:
        return packet
    marked = av.Packet(with_sei(bytes(packet), text))
    marked.pts, marked.dts, marked.duration = packet.pts, packet.dts, packet.duration
    marked.time_base, marked.is_keyframe, marked.stream = packet.time_base, packet.is_keyframe, packet.stream
    return marked


def _add_stream(
    container: av.container.OutputContainer, job: Job, colour: Colour, time_base: Fraction
) -> av.VideoStream:
    rate = Fraction(job.rate)
    stream = cast(av.VideoStream, container.add_stream(job.encoder, rate=rate, options=_encoder_options(job)))
    stream.width, stream.height = job.width + job.width % 2, job.height + job.height % 2
    stream.pix_fmt = PIXEL_FORMAT
    stream.codec_context.time_base = time_base
    stream.codec_context.gop_size = max(1, round(KEYFRAME_S * rate))
    tag(stream.codec_context, colour, PIXEL_FORMAT)
    return stream


def _encoder_options(job: Job) -> dict[str, str]:
    if job.encoder != "libx264":
        return encoder_options(job.crf, job.bit_rate, live=True)
    options = {
        **live_options(),
        "forced-idr": "1",
        "x264-params": "repeat-headers=1",  # for whoever joins a server that does not keep them
    }
    if job.bit_rate is None:
        return options | {"crf": f"{job.crf:g}"}
    return options | {"b": str(job.bit_rate), "maxrate": str(job.bit_rate), "bufsize": str(job.bit_rate)}


def _even(image: np.ndarray) -> np.ndarray:
    """Odd sides get one more row or column, a copy of the last: 4:2:0 has no odd ones."""
    height, width = image.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return image
    return np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _arm(seconds: float) -> None:
    """End this process in ``seconds`` unless armed anew; 0: never."""
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _tell(say: IO[str], event: str) -> None:
    print(json.dumps({"event": event}), file=say)


if __name__ == "__main__":
    raise SystemExit(main())
