"""The main job on the embedded sample: a coded live stream in, an enhanced one out, all of it measured.

The film, the contact sheet and the quality figures are made after the live run from what its sink
kept: drawing takes many times longer than enhancing and would disturb the figures of the run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from .bench.baselines import bicubic
from .bench.fidelity import haarpsi, psnr_y, ssim
from .clock import MONOTONIC, NS_PER_MS, Clock
from .errors import ConfigError, SinkError
from .frame import Colour, Frame, Matrix, StreamInfo
from .io import open_sink
from .io.colour import from_rgb, tag
from .io.synthetic import SAMPLE_PX, TIME_BASE, DegradedSource, MotionSample
from .loop import run as run_loop
from .pipeline import Pipeline
from .run_report import Percentiles, RunReport
from .side_by_side import FILM_SIZE, Facts, Film, Moment, contact_sheet
from .stages import Enhancer

__all__ = ["DemoReport", "LiveSink", "Quality", "Scores", "run"]

SCALE = 2
RATE = Fraction(25)
SECONDS = (0.2, 60.0)
CAMERA_CRF = 30
OUTGOING_CRF = 23
FILM_CRF = 18
KEPT_FRAMES = 250  # of 0.8 MB each
MEASURED_FRAMES = 40  # evenly spread over the kept ones: a frame takes about 0.2 s to measure
SHEET_MOMENTS = 4
FACE_BOX_PX = (128, 144)  # width, height around the middle of the face, in output px


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Scores(_Model):
    """Against the clean sample, mean over the measured frames: dB, then 0..1 twice."""

    psnr_y_db: float
    ssim: float
    haarpsi: float


class Quality(_Model):
    """Of the whole frame and of the box around the face, for bicubic and for what came out."""

    frame_bicubic: Scores
    frame_out: Scores
    face_bicubic: Scores
    face_out: Scores
    frames_measured: int


class DemoReport(RunReport):
    """What the live run reports, and the quality of its pictures.

    camera_kbps, outgoing_kbps: of the coded streams in and out. frames_shown: in the film.
    """

    quality: Quality
    camera_crf: int
    camera_kbps: float
    outgoing_crf: int
    outgoing_kbps: float
    frames_shown: int
    film: str
    sheet: str


class _Kept(NamedTuple):
    frame: Frame
    age_ms: float


class LiveSink:
    """The far end of the live path: codes each picture as a stream that goes out, and keeps the first.

    x264 (veryfast, zerolatency), so that the encoder's time is in the age. At most ``keep`` pictures
    are kept, as they were before coding.
    """

    url = "demo:live"

    def __init__(self, *, crf: int = OUTGOING_CRF, keep: int = KEPT_FRAMES, clock: Clock = MONOTONIC) -> None:
        self.kept: list[_Kept] = []
        self.coded_bytes = 0
        self.frames = 0
        self._crf, self._keep, self._clock = crf, keep, clock
        self._encoder: av.VideoCodecContext | None = None
        self._reformatter = VideoReformatter()
        self._colour = Colour()

    def open(self, info: StreamInfo) -> None:
        self._colour = info.colour
        encoder = av.CodecContext.create("libx264", "w")
        encoder.width, encoder.height = info.width, info.height
        encoder.pix_fmt = "yuv420p"
        encoder.framerate, encoder.time_base = info.rate, info.time_base
        encoder.gop_size = round(2 * info.rate)
        encoder.options = {"preset": "veryfast", "tune": "zerolatency", "crf": str(self._crf)}
        tag(encoder, info.colour, "yuv420p")
        self._encoder = encoder

    def write(self, frame: Frame) -> None:
        if self._encoder is None:
            raise SinkError("write before open", self.url)
        picture = from_rgb(frame.image, self._colour, "yuv420p", self._reformatter)
        picture.pts, picture.time_base = frame.pts, frame.time_base
        self.coded_bytes += sum(packet.size for packet in self._encoder.encode(picture))
        self.frames += 1
        if len(self.kept) < self._keep:
            age_ms = (self._clock.now_ns() - frame.captured_ns) / NS_PER_MS
            self.kept.append(_Kept(frame.with_image(frame.image.copy()), age_ms))

    def close(self) -> None:
        self._encoder = None

    def abort(self) -> None:
        self._encoder = None


def run(
    out_dir: Path = Path("out"),
    *,
    seconds: float = 10.0,
    device: str = "auto",
    fidelity: float | None = None,
    steps: int | str | None = None,
    seed: int = 0,
    overwrite: bool = True,
    enhancer: Enhancer | None = None,
    console: Console | None = None,
) -> DemoReport:
    """Write demo.mp4, demo.png and demo.json to ``out_dir``, print the table, return the report.

    device, fidelity, steps: of the enhancer, used where none is given. Each file appears whole or
    not at all. Raises ConfigError, DeviceError, ModelError, SinkError.
    """
    shortest, longest = SECONDS
    if not shortest <= seconds <= longest:
        raise ConfigError(f"seconds must be in {shortest:g}..{longest:g}, got {seconds:g}")
    film, sheet, report_path = (out_dir / f"demo.{suffix}" for suffix in ("mp4", "png", "json"))
    _prepare(out_dir, (film, sheet, report_path), overwrite)
    console = console or Console()
    if enhancer is None:
        from .enhancer import Enhancer as PackagedEnhancer  # torch loads here

        with PackagedEnhancer(device=device) as enhancer:
            return run(
                out_dir,
                seconds=seconds,
                fidelity=fidelity,
                steps=steps,
                seed=seed,
                overwrite=overwrite,
                enhancer=enhancer,
                console=console,
            )

    source = DegradedSource(MotionSample(round(seconds * RATE), RATE, seed), crf=CAMERA_CRF)
    sink = LiveSink()
    with console.status("coding the sample", refresh_per_second=4) as status:

        def show(report: RunReport) -> None:
            age = f", age p50 {report.age_ms.p50:.0f} ms" if report.age_ms else ""
            status.update(f"live: {report.frames_out} frames{age}")

        pipeline = Pipeline(
            source, sink, enhancer, scale=SCALE, fidelity=fidelity, steps=steps, seed=seed, on_progress=show
        )
        live_report = run_loop(_live(pipeline))
        status.update("measuring against the clean sample")
        quality = _measure(source, sink.kept)
        report = DemoReport(
            **live_report.model_dump(),
            quality=quality,
            camera_crf=CAMERA_CRF,
            camera_kbps=round(source.coded_bytes * 8e-3 / float(source.sample.frames / RATE), 1),
            outgoing_crf=OUTGOING_CRF,
            outgoing_kbps=round(sink.coded_bytes * 8e-3 / float(sink.frames / RATE), 1),
            frames_shown=len(sink.kept),
            film=str(film),
            sheet=str(sheet),
        )
        status.update("drawing the film")
        _draw_film(film, source, sink.kept, report)
        _draw_sheet(sheet, source, sink.kept, report)
    report.save(report_path)
    _print(report, console, report_path)
    return report


def _prepare(out_dir: Path, targets: tuple[Path, ...], overwrite: bool) -> None:
    """Find out what cannot be written before anything long is done."""
    for target in targets:
        if target.exists() and not overwrite:
            raise ConfigError(f"{target} exists: remove it, choose another folder or allow overwriting")
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"cannot make the folder {out_dir}: {error.strerror}", str(out_dir)) from error
    if not os.access(out_dir, os.W_OK | os.X_OK):
        raise SinkError(f"cannot write to the folder {out_dir}: permission denied", str(out_dir))


async def _live(pipeline: Pipeline) -> RunReport:
    async with pipeline:
        return await pipeline.run()


def _moments(source: DegradedSource, kept: Sequence[_Kept], truth: bool = True) -> Iterator[Moment]:
    """What went in, what bicubic and streamsr made of it, and what it should have been, frame by frame."""
    cameras = enumerate(source.replay())
    for frame, age_ms in kept:
        sent = source.index(frame.pts)
        camera = next(image for index, image in cameras if index == sent)
        yield Moment(
            camera=camera,
            bicubic=bicubic(camera, SCALE),
            out=frame.image,
            truth=source.sample.frame(sent) if truth else None,
            face_px=source.sample.face_px(sent),
            note=f"{frame.time_s:.2f} s   frame {sent}   age {age_ms:.0f} ms",
        )


def _measure(source: DegradedSource, kept: Sequence[_Kept]) -> Quality:
    chosen = _spread(kept, MEASURED_FRAMES)
    found: dict[str, list[tuple[float, float, float]]] = {}
    for moment in _moments(source, chosen):
        truth, box = moment.truth, _face_box(moment.face_px)
        assert truth is not None
        for name, image in (("bicubic", moment.bicubic), ("out", moment.out)):
            found.setdefault(f"frame_{name}", []).append(_scores(image, truth))
            found.setdefault(f"face_{name}", []).append(_scores(image[box], truth[box]))
    means = {name: np.mean(values, axis=0) for name, values in found.items()}
    scores = {
        name: Scores(psnr_y_db=round(psnr, 3), ssim=round(similarity, 4), haarpsi=round(haar, 4))
        for name, (psnr, similarity, haar) in means.items()
    }
    return Quality(**scores, frames_measured=len(chosen))


def _scores(image: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    return psnr_y(image, truth), ssim(image, truth), haarpsi(image, truth)


def _face_box(centre_px: tuple[float, float]) -> tuple[slice, slice]:
    """Rows and columns of the box around the face; even, so that blocks of 2 stay whole."""
    width, height = FACE_BOX_PX
    left = int(np.clip(round((centre_px[0] - width / 2) / 2) * 2, 0, SAMPLE_PX - width))
    top = int(np.clip(round((centre_px[1] - height / 2) / 2) * 2, 0, SAMPLE_PX - height))
    return slice(top, top + height), slice(left, left + width)


def _spread(kept: Sequence[_Kept], count: int) -> list[_Kept]:
    """At most ``count`` of ``kept``, evenly spread, from the middle of each part."""
    count = min(count, len(kept))
    return [kept[int((part + 0.5) * len(kept) / count)] for part in range(count)]


def _subtitle(report: DemoReport) -> str:
    side = SAMPLE_PX // SCALE
    return (
        f"NASA portrait in motion, {side}x{side} at {report.nominal_fps:g} fps, "
        f"x264 CRF {report.camera_crf}, {report.camera_kbps:.0f} kbit/s, "
        f"paced as a live camera; device {report.device}"
    )


def _captions(report: DemoReport) -> list[str]:
    side = SAMPLE_PX // SCALE
    return [f"in: camera {side}x{side}, coded", f"bicubic x{SCALE}", f"out: streamsr x{SCALE}"]


def _facts(report: DemoReport) -> Facts:
    """The film's column of figures: heading, then lines."""
    quality, age = report.quality, report.age_ms
    pairs = (
        ("Frame: bicubic / out", quality.frame_bicubic, quality.frame_out),
        ("Face: bicubic / out", quality.face_bicubic, quality.face_out),
    )
    live = [
        ("rate", f"{report.fps:.1f} fps"),
        ("age p50", f"{age.p50:.0f} ms" if age else "-"),
        ("age p95", f"{age.p95:.0f} ms" if age else "-"),
        ("age p99", f"{age.p99:.0f} ms" if age else "-"),
        ("dropped", f"{report.frames_dropped} of {report.frames_in}"),
        ("restored share", _share(report.restored_share)),
    ]
    stages = [(name, f"{ms.p50:.1f}") for name, ms in _stages(report).items()]
    facts: Facts = [("Live", live), ("Stages, p50 ms", stages)]
    for heading, before, after in pairs:
        lines = [
            ("PSNR-Y dB", f"{before.psnr_y_db:.2f} / {after.psnr_y_db:.2f}"),
            ("SSIM", f"{before.ssim:.3f} / {after.ssim:.3f}"),
            ("HaarPSI", f"{before.haarpsi:.3f} / {after.haarpsi:.3f}"),
        ]
        facts.append((heading, lines))
    if report.certificate_rms is not None and report.certificate_max is not None:
        distance = [("rms", f"{report.certificate_rms:.2f}"), ("maximum", f"{report.certificate_max:.1f}")]
        facts.append(("Certificate, 1/255", distance))
    return facts


def _stages(report: RunReport) -> dict[str, Percentiles]:
    """Without "read": a live source's is the wait for the camera."""
    return {name: ms for name, ms in report.stage_ms.items() if name != "read"}


def _share(share: float | None) -> str:
    return "none wanted" if share is None else f"{share:.3f}"


def _draw_film(path: Path, source: DegradedSource, kept: Sequence[_Kept], report: DemoReport) -> None:
    """The kept frames at their own times: a dropped one leaves its predecessor standing."""
    film = Film(
        f"streamsr: live face enhancement, x{SCALE}", _subtitle(report), _captions(report), _facts(report)
    )
    width, height = FILM_SIZE
    colour = Colour(Matrix.BT709, primaries=1, transfer=1)
    sink = open_sink(str(path), codec="h264", crf=FILM_CRF, overwrite=True)
    try:
        sink.open(StreamInfo(width, height, source.sample.rate, TIME_BASE, colour))
        for one, moment in zip(kept, _moments(source, kept, truth=False), strict=True):
            sink.write(one.frame.with_image(film.draw(moment)))
        sink.close()
    finally:
        sink.abort()  # after close it does nothing


def _draw_sheet(path: Path, source: DegradedSource, kept: Sequence[_Kept], report: DemoReport) -> None:
    moments = list(_moments(source, _spread(kept, SHEET_MOMENTS)))
    captions = [*_captions(report), "the clean sample"]
    quality = report.quality
    subtitle = (
        f"{_subtitle(report)}; face PSNR-Y {quality.face_bicubic.psnr_y_db:.2f} dB bicubic, "
        f"{quality.face_out.psnr_y_db:.2f} dB out; HaarPSI {quality.face_bicubic.haarpsi:.3f}, "
        f"{quality.face_out.haarpsi:.3f}"
    )
    sheet = contact_sheet(f"streamsr: live face enhancement, x{SCALE}", subtitle, captions, moments)
    coded, data = cv2.imencode(".png", sheet[..., ::-1])
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        if not coded:
            raise SinkError("the contact sheet cannot be coded as PNG", str(path))
        part.write_bytes(data.tobytes())
        os.replace(part, path)
    except OSError as error:
        raise SinkError(f"cannot write {path}: {error.strerror}", str(path)) from error
    finally:
        part.unlink(missing_ok=True)


def _print(report: DemoReport, console: Console, report_path: Path) -> None:
    live = Table(title="live run", title_justify="left", show_header=False)
    live.add_column(style="dim")
    live.add_column(justify="right")
    for _, lines in _facts(report)[:1]:
        for label, value in lines:
            live.add_row(label, value)
    live.add_row("coded in / out", f"{report.camera_kbps:.0f} / {report.outgoing_kbps:.0f} kbit/s")
    live.add_row("device", str(report.device))

    stages = Table(title="stages, ms", title_justify="left")
    for name in ("stage", "p50", "p95", "p99"):
        stages.add_column(name, justify="left" if name == "stage" else "right")
    for name, ms in _stages(report).items():
        stages.add_row(name, f"{ms.p50:.1f}", f"{ms.p95:.1f}", f"{ms.p99:.1f}")

    quality = report.quality
    title = f"against the clean sample, mean of {quality.frames_measured} frames"
    scores = Table(title=title, title_justify="left")
    for name in ("", "PSNR-Y dB", "SSIM", "HaarPSI"):
        scores.add_column(name, justify="right" if name else "left")
    for name, score in (
        ("frame, bicubic", quality.frame_bicubic),
        ("frame, out", quality.frame_out),
        ("face, bicubic", quality.face_bicubic),
        ("face, out", quality.face_out),
    ):
        scores.add_row(name, f"{score.psnr_y_db:.2f}", f"{score.ssim:.4f}", f"{score.haarpsi:.4f}")

    for table in (live, stages, scores):
        console.print(table)
    note = "film and sheet were drawn after the live run: its figures do not contain that work"
    console.print(note, soft_wrap=True)
    for path in (report.film, report.sheet, str(report_path)):
        console.print(path, soft_wrap=True, markup=False, highlight=False)
