"""Metrics for Prometheus: everything that ``WatchStatus`` says, with counters that go on over restarts.

| metric | type, unit | what |
|---|---|---|
| streamsr_build_info | 1 | ``version``, and ``model_sha256`` of the weights |
| streamsr_uptime_seconds | gauge, s | since the supervisor began |
| streamsr_reloads_total | counter | configurations taken over |
| streamsr_reload_failed | 0 or 1 | the last reload was refused |
| streamsr_resident_memory_bytes | gauge, bytes | of each ``process``: supervisor, model, camera |
| streamsr_cpu_seconds_total | counter, s | CPU time of each ``process`` |
| streamsr_camera_up | 0 or 1 | pictures come |
| streamsr_camera_state | 0 or 1 | 1 for the ``state`` it is in |
| streamsr_camera_state_seconds | gauge, s | in that state for so long |
| streamsr_camera_info | 1 | ``codec``, ``input``, ``output`` (WIDTHxHEIGHT), ``priority``; ``node`` on Ray |
| streamsr_camera_restarts_total | counter | of its process |
| streamsr_camera_reconnects_total | counter | connections after the first that gave a picture |
| streamsr_camera_frames_in_total | counter, frames | read from the source |
| streamsr_camera_frames_out_total | counter, frames | given to the sinks |
| streamsr_camera_frames_dropped_total | counter, frames | pushed out of a queue by newer ones |
| streamsr_camera_frames_per_second | gauge | out, over the last seconds |
| streamsr_camera_frame_age_seconds | summary, s | capture to sink; ``quantile`` 0.5, 0.95, 0.99 |
| streamsr_camera_faces_total | counter, face-frames | by ``rung``: what became of them |
| streamsr_camera_network_evaluations_total | counter | of the network, summed over faces |
| streamsr_camera_t0_mean | gauge, 0 to 1 | start of the trajectory, mean of the process |
| streamsr_camera_certificate_rms_levels | gauge, 1/255 | output against the camera's pixels, mean |
| streamsr_camera_certificate_max_levels | gauge, 1/255 | the same, largest |
| streamsr_source_frames_total | counter, frames | decoded |
| streamsr_source_replaced_frames_total | counter, frames | of those, replaced before they were read |
| streamsr_source_late_frames_total | counter, frames | left out because they came out of order |
| streamsr_source_damaged_packets_total | counter, packets | that could not be decoded |
| streamsr_source_stalls_total | counter | connections given up because no picture came |
| streamsr_source_freezes_total | counter | times the picture stood still |
| streamsr_source_clock_jumps_total | counter | times the camera's clock was set |
| streamsr_source_size_changes_total | counter | of its pictures |
| streamsr_source_codec_changes_total | counter | from one connection to the next |
| streamsr_source_decoder_resets_total | counter | after damage that did not end |
| streamsr_sink_up | 0 or 1 | the ``sink`` takes pictures |
| streamsr_sink_state | 0 or 1 | 1 for the ``state`` it is in |
| streamsr_sink_frames_written_total | counter, frames | that it took |
| streamsr_sink_frames_dropped_total | counter, frames | that it did not: slow, away or failing |
| streamsr_sink_reconnects_total | counter | after the first connection |
| streamsr_model_up | 0 or 1 | the model process takes faces |
| streamsr_model_state | 0 or 1 | 1 for the ``state`` it is in |
| streamsr_model_info | 1 | ``device`` |
| streamsr_model_restarts_total | counter | of its process |
| streamsr_model_batch_faces | histogram, faces | in a call of the network; its sum is all faces restored |
| streamsr_model_refused_total | counter, faces | that could not be done in time |
| streamsr_model_queue_faces | gauge, faces | that wait now |
| streamsr_model_busy_ratio | gauge, 0 to 1 | part of the last seconds in which the network worked |

streamsr_camera_*, streamsr_source_* and streamsr_sink_* carry ``camera``, its name. A ``sink`` is its
address without credentials, a file or a folder. Where a figure is not known there is no sample of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import get_args

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import choose_encoder

from ..errors import redact
from ..report import Outcome
from .status import CameraState, CameraStatus, DeviceState, SinkState, SinkStatus, SourceStatus, WatchStatus
from .totals import Key, Totals

__all__ = ["Metrics"]

MB = 1e6
BATCHES = (1, 2, 4, 8, 16, 32)  # upper ends of the histogram
MODEL, KEPT_MODEL = ("process", ""), ("kept", "")  # owners of counts; a camera has a name

Value = float | None
Sample = tuple[tuple[str, ...], Value]  # labels, value

CAMERA_COUNTS = {
    "reconnects": "Connections after the first that gave a picture",
    "frames_in": "Frames read from the source",
    "frames_out": "Frames given to the sinks",
    "frames_dropped": "Frames pushed out of a queue by newer ones",
}
SOURCE_COUNTS = {  # of SourceStatus: name of the metric, help
    "frames": ("frames", "Frames decoded"),
    "drops": ("replaced_frames", "Frames decoded and replaced by newer ones before they were read"),
    "late": ("late_frames", "Frames left out because they came out of order"),
    "damaged": ("damaged_packets", "Packets that could not be decoded"),
    "stalls": ("stalls", "Connections given up because no picture came"),
    "frozen": ("freezes", "Times the picture stood still"),
    "jumps": ("clock_jumps", "Times the camera's clock was set"),
    "resized": ("size_changes", "Changes of the size of its pictures"),
    "recoded": ("codec_changes", "Changes of its codec from one connection to the next"),
    "resets": ("decoder_resets", "Times the decoder began anew after damage that did not end"),
}
SINK_COUNTS = {
    "written": ("frames_written", "Frames that it took"),
    "dropped": ("frames_dropped", "Frames that it did not take: slow, away or failing"),
    "reconnects": ("reconnects", "Connections after the first"),
}


class Metrics:
    """What ``status`` says, for Prometheus.

    Counts of a process begin at 0 again with the next one; here they go on. For that ``observe`` is to be
    called about once a second; what a process counted after the last time before it died is lost.
    """

    def __init__(self, status: Callable[[], WatchStatus]) -> None:
        self._status = status
        self._totals = Totals()
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def observe(self) -> WatchStatus:
        """Add up what has been counted since the last time."""
        status = self._status()
        model = status.model
        counts: dict[Key, float] = {("batch", str(faces)): n for faces, n in model.batches.items()}
        counts |= {("refused",): model.refused, ("cpu",): model.cpu_s or 0.0}
        self._totals.see(MODEL, model.process_id, counts)
        self._totals.see(KEPT_MODEL, None, {("restarts",): model.restarts})
        owners = {MODEL, KEPT_MODEL}
        for camera in status.cameras:
            process, kept = ("process", camera.name), ("kept", camera.name)
            self._totals.see(process, camera.process_id, _counts_of_camera(camera))
            self._totals.see(kept, None, {("restarts",): camera.restarts})
            owners |= {process, kept}
        self._totals.keep(owners)
        return status

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """The text and its Content-Type, in the format that the header ``Accept`` asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def collect(self) -> Iterator[Metric]:
        """All families, as prometheus-client asks a collector for them."""
        status = self.observe()
        yield from _supervisor(status)
        yield from self._processes(status)
        yield from self._cameras(status.cameras)
        yield from self._sinks(status.cameras)
        yield from self._model(status)

    def _processes(self, status: WatchStatus) -> Iterator[Metric]:
        model, cameras, labels = status.model, status.cameras, ("process", "camera")
        memory = [("supervisor", "", status.rss_mb), ("model", "", model.rss_mb)]
        memory += [("camera", camera.name, camera.rss_mb) for camera in cameras]
        yield _gauge(
            "streamsr_resident_memory_bytes",
            "Resident memory of a process",
            labels,
            (((process, name), None if mb is None else mb * MB) for process, name, mb in memory),
        )
        samples: list[Sample] = [(("supervisor", ""), status.cpu_s)]
        samples.append((("model", ""), self._totals.of(MODEL, "cpu")))
        samples += [
            (("camera", camera.name), self._totals.of(("process", camera.name), "cpu")) for camera in cameras
        ]
        yield _counter("streamsr_cpu_seconds", "CPU time of a process", labels, samples)

    def _cameras(self, cameras: tuple[CameraStatus, ...]) -> Iterator[Metric]:
        total = self._totals.of

        def counter(name: str, text: str, *key: str) -> Metric:
            samples = (((camera.name,), total(("process", camera.name), *key)) for camera in cameras)
            return _counter(name, text, ("camera",), samples)

        def gauge(name: str, text: str, value: Callable[[CameraStatus], Value]) -> Metric:
            samples = (((camera.name,), value(camera)) for camera in cameras)
            return _gauge(f"streamsr_camera_{name}", text, ("camera",), samples)

        states = [((camera.name,), camera.state) for camera in cameras]
        yield gauge("up", "Pictures come", lambda camera: camera.state == "streaming")
        yield _states("streamsr_camera_state", ("camera",), states, get_args(CameraState))
        yield gauge("state_seconds", "In its state for so long", lambda camera: camera.since_s)
        yield _camera_info(cameras)
        restarts: Iterable[Sample] = (
            ((camera.name,), total(("kept", camera.name), "restarts")) for camera in cameras
        )
        yield _counter("streamsr_camera_restarts", "Restarts of its process", ("camera",), restarts)
        for key, text in CAMERA_COUNTS.items():
            yield counter(f"streamsr_camera_{key}", text, key)
        yield gauge("frames_per_second", "Frames out, over the last seconds", lambda camera: camera.fps)
        yield _ages(cameras)
        yield _counter(
            "streamsr_camera_faces",
            "Face-frames by what became of them",
            ("camera", "rung"),
            (
                ((camera.name, rung.value), total(("process", camera.name), "faces", rung.value))
                for camera in cameras
                for rung in Outcome
            ),
        )
        yield counter(
            "streamsr_camera_network_evaluations",
            "Evaluations of the network, summed over faces",
            "evaluations",
        )
        yield gauge("t0_mean", "Start of the trajectory, mean", lambda camera: camera.t0_mean)
        against = "Output, reduced again, against the camera's pixels, in 1/255"
        yield gauge("certificate_rms_levels", f"{against}: mean", lambda camera: camera.certificate_rms)
        yield gauge("certificate_max_levels", f"{against}: largest", lambda camera: camera.certificate_max)
        for key, (name, text) in SOURCE_COUNTS.items():
            yield counter(f"streamsr_source_{name}", text, "source", key)

    def _sinks(self, cameras: tuple[CameraStatus, ...]) -> Iterator[Metric]:
        labels = ("camera", "sink")
        sinks = [(camera.name, label, sink) for camera in cameras for label, sink in _named(camera.sinks)]
        up = (((name, label), sink.state == "writing") for name, label, sink in sinks)
        yield _gauge("streamsr_sink_up", "The sink takes pictures", labels, up)
        states = [((name, label), sink.state) for name, label, sink in sinks]
        yield _states("streamsr_sink_state", labels, states, get_args(SinkState))
        for key, (metric, text) in SINK_COUNTS.items():
            samples = (
                ((name, label), self._totals.of(("process", name), "sink", key, label))
                for name, label, _ in sinks
            )
            yield _counter(f"streamsr_sink_{metric}", text, labels, samples)

    def _model(self, status: WatchStatus) -> Iterator[Metric]:
        model = status.model
        ready = model.state == "ready"
        yield _gauge("streamsr_model_up", "The model process takes faces", (), [((), ready)])
        yield _states("streamsr_model_state", (), [((), model.state)], get_args(DeviceState))
        if model.device is not None:
            yield InfoMetricFamily("streamsr_model", "Device it runs on", {"device": model.device})
        restarts = self._totals.of(KEPT_MODEL, "restarts")
        yield _counter("streamsr_model_restarts", "Restarts of its process", (), [((), restarts)])
        yield self._batches()
        refused = self._totals.of(MODEL, "refused")
        yield _counter("streamsr_model_refused", "Faces that could not be done in time", (), [((), refused)])
        yield _gauge("streamsr_model_queue_faces", "Faces that wait now", (), [((), model.queue)])
        busy = "Part of the last seconds in which the network worked"
        yield _gauge("streamsr_model_busy_ratio", busy, (), [((), model.busy_share)])

    def _batches(self) -> Metric:
        counts = {int(faces): n for faces, n in self._totals.parts(MODEL, "batch")}
        ends = [(str(float(end)), sum(n for faces, n in counts.items() if faces <= end)) for end in BATCHES]
        family = HistogramMetricFamily("streamsr_model_batch_faces", "Faces in a call of the network")
        family.add_metric(
            [],
            buckets=[*ends, ("+Inf", sum(counts.values()))],
            sum_value=sum(faces * n for faces, n in counts.items()),
        )
        return family


def _counts_of_camera(camera: CameraStatus) -> dict[Key, float]:
    source = camera.source or SourceStatus(url="")
    counts: dict[Key, float] = {(key,): getattr(camera, key) for key in CAMERA_COUNTS}
    counts |= {("source", key): getattr(source, key) for key in SOURCE_COUNTS}
    counts |= {("faces", rung): n for rung, n in camera.rungs.items()}
    counts[("evaluations",)] = sum(evaluations * n for evaluations, n in camera.nfe.items())
    counts[("cpu",)] = camera.cpu_s or 0.0
    for label, sink in _named(camera.sinks):
        counts |= {("sink", key, label): getattr(sink, key) for key in SINK_COUNTS}
    return counts


def _named(sinks: Iterable[SinkStatus]) -> Iterator[tuple[str, SinkStatus]]:
    """Sinks by a label: their address without credentials, which two of them may share."""
    seen: Counter[str] = Counter()
    for sink in sinks:
        url = redact(sink.url)
        seen[url] += 1
        yield (url if seen[url] == 1 else f"{url} ({seen[url]})"), sink


def _supervisor(status: WatchStatus) -> Iterator[Metric]:
    about = {"version": status.version, "model_sha256": status.model_sha256 or ""}
    yield InfoMetricFamily("streamsr_build", "What runs", about)
    yield _gauge("streamsr_uptime_seconds", "Since the supervisor began", (), [((), status.uptime_s)])
    yield _counter("streamsr_reloads", "Configurations taken over", (), [((), status.reloads)])
    failed = status.reload_error is not None
    yield _gauge("streamsr_reload_failed", "The last reload was refused", (), [((), failed)])


def _camera_info(cameras: tuple[CameraStatus, ...]) -> Metric:
    family = InfoMetricFamily("streamsr_camera", "Its pictures and its place", labels=["camera"])
    for camera in cameras:
        codec = camera.source.codec if camera.source is not None else None
        about = {
            "codec": codec or "",
            "input": _size(camera.input_px),
            "output": _size(camera.output_px),
            "priority": str(camera.priority),
            "node": camera.node or "",
        }
        family.add_metric([camera.name], about)
    return family


def _size(px: tuple[int, int] | None) -> str:
    return "" if px is None else f"{px[0]}x{px[1]}"


def _ages(cameras: tuple[CameraStatus, ...]) -> Metric:
    """Quantiles alone: no sum is known."""
    name = "streamsr_camera_frame_age_seconds"
    family = Metric(name, "Age of a frame when the sinks had taken it, last 4096", "summary")
    for camera in cameras:
        if (age := camera.age_ms) is not None:
            for quantile, ms in (("0.5", age.p50), ("0.95", age.p95), ("0.99", age.p99)):
                family.add_sample(name, {"camera": camera.name, "quantile": quantile}, ms / 1e3)
    return family


def _states(
    name: str, labels: tuple[str, ...], found: Iterable[tuple[tuple[str, ...], str]], states: tuple[str, ...]
) -> Metric:
    samples = (((*values, state), now == state) for values, now in found for state in states)
    return _gauge(name, "1 for the state it is in", (*labels, "state"), samples)


def _gauge(name: str, text: str, labels: tuple[str, ...], samples: Iterable[Sample]) -> Metric:
    return _filled(GaugeMetricFamily(name, text, labels=labels), samples)


def _counter(name: str, text: str, labels: tuple[str, ...], samples: Iterable[Sample]) -> Metric:
    return _filled(CounterMetricFamily(name, text, labels=labels), samples)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, samples: Iterable[Sample]) -> Metric:
    for labels, value in samples:
        if value is not None:
            family.add_metric(labels, float(value))
    return family
