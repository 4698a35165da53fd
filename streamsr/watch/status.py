"""What is known of the cameras and of the model process: the documents behind metrics and dashboard.

A camera's process sends its ``CameraStatus`` to the supervisor once a second, as a line of JSON. Counters
are of that process: they begin at 0 again when it restarts, ``restarts`` excepted.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from ..run_report import Percentiles

__all__ = [
    "CameraState",
    "CameraStatus",
    "DeviceFigures",
    "DeviceState",
    "DeviceStatus",
    "SinkState",
    "SinkStatus",
    "SourceStatus",
    "WatchStatus",
]

# starting: the process loads; connecting: no picture yet; streaming: pictures come; stalled: connected, but
# none for a second; backoff: waits before it tries again; frozen: the same picture over and over;
# stopped: switched off or finished; failed: its process died, and is started again after a while
CameraState = Literal[
    "starting", "connecting", "streaming", "stalled", "backoff", "frozen", "stopped", "failed"
]
# opening: not connected yet; writing: takes pictures; backoff: waits before it tries again; full: waits for
# room on its disk; hung: has not come back from a call for ten seconds
SinkState = Literal["opening", "writing", "backoff", "full", "hung", "closed", "failed"]
DeviceState = Literal["starting", "ready", "backoff", "stopped"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class SourceStatus(_Model):
    """What comes from a camera. ``url`` is without credentials.

    frames: pictures decoded. drops: of those, replaced by a newer one before they were read.
    late: pictures left out because they came out of order. damaged: packets that could not be decoded.
    stalls: connections given up because no picture came. frozen: times the picture stood still.
    jumps: times the camera's clock was set. resized: changes of size. recoded: changes of codec.
    resets: times the decoder began anew. codec: as FFmpeg names it; None before the first picture.
    """

    url: str
    frames: int = 0
    drops: int = 0
    late: int = 0
    damaged: int = 0
    stalls: int = 0
    frozen: int = 0
    jumps: int = 0
    resized: int = 0
    recoded: int = 0
    resets: int = 0
    codec: str | None = None


class SinkStatus(_Model):
    """One output of a camera. ``url``: an address without credentials, a file or a folder.

    written: pictures it took. dropped: pictures it did not, because it was slow, away or failing.
    """

    url: str
    state: SinkState
    written: int = 0
    dropped: int = 0
    reconnects: int = 0
    error: str | None = None


class CameraStatus(_Model):
    """One camera, as its process sees it.

    priority: 0 is the highest. since_s: in ``state`` for so long, s. error: the last one, a line, without
    credentials. restarts: of its process, since the supervisor began. reconnects: connections to the camera
    after the first that gave a picture. node: the machine, where there are several. process_id: None while
    there is no process.
    input_px, output_px: width, height. fps: frames out per second, over the last seconds. age_ms: from
    capture to the moment the sinks had taken the frame.
    frames_in: read from the source; frames_out: given to the sinks; frames_dropped: pushed out of a queue by
    newer ones. faces: face-frames, as in ``RunReport``; restored_share: of those, the part that went through
    the network; rungs: face-frames by outcome, all outcomes; bypassed: already sharp; nfe: face-frames by
    number of network evaluations; restored_px: restored ones by S; t0_mean: in [0, 1], over the faces that
    have one.
    certificate_rms, certificate_max: of the output, reduced again, against the camera's pixels, in 1/255.
    rss_mb: resident memory, MB (10^6 bytes); cpu_s: CPU time used, s.
    """

    name: str
    priority: int
    state: CameraState
    since_s: float = 0.0
    error: str | None = None
    restarts: int = 0
    reconnects: int = 0
    node: str | None = None
    process_id: int | None = None
    input_px: tuple[int, int] | None = None
    output_px: tuple[int, int] | None = None
    fps: float = 0.0
    age_ms: Percentiles | None = None
    frames_in: int = 0
    frames_out: int = 0
    frames_dropped: int = 0
    faces: int = 0
    restored_share: float | None = None
    rungs: dict[str, int] = {}
    bypassed: int = 0
    nfe: dict[int, int] = {}
    restored_px: dict[int, int] = {}
    t0_mean: float | None = None
    certificate_rms: float | None = None
    certificate_max: float | None = None
    source: SourceStatus | None = None
    sinks: tuple[SinkStatus, ...] = ()
    rss_mb: float | None = None
    cpu_s: float | None = None


class DeviceFigures(_Model):
    """What the model process counts, from its beginning.

    device: what it runs on, "cpu" or "cuda". batches: network calls by number of faces in them. restored:
    faces that went through the network. refused: requests that could not be done in time. queue: faces that
    wait now. busy_share: part of the last seconds in which the network worked, in [0, 1]. rss_mb: MB (10^6
    bytes). cpu_s: CPU time used, s.
    """

    device: str | None = None
    batches: dict[int, int] = {}
    restored: int = 0
    refused: int = 0
    queue: int = 0
    busy_share: float = 0.0
    rss_mb: float | None = None
    cpu_s: float | None = None


class DeviceStatus(DeviceFigures):
    """The model process. Figures are of the process that runs now; ``restarts`` counts all."""

    state: DeviceState
    since_s: float = 0.0
    error: str | None = None
    restarts: int = 0
    process_id: int | None = None


class WatchStatus(_Model):
    """All of ``streamsr watch``. model_sha256: of the weights; None before the model process is ready.

    rss_mb, cpu_s: of the supervisor itself. reloads: configurations taken over by SIGHUP.
    reload_error: why the last SIGHUP was refused; None after one that was not.
    """

    version: str
    uptime_s: float
    cameras: tuple[CameraStatus, ...]
    model: DeviceStatus
    model_sha256: str | None = None
    reloads: int = 0
    reload_error: str | None = None
    rss_mb: float | None = None
    cpu_s: float | None = None
