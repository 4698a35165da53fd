"""``bench quality`` on clips: the whole pipeline from a degraded file to an enhanced one.

Every method sees the same degraded file, in the same run, and is judged against the same clean frames:
over the whole frame, over the face and, for what depends on the order of frames, from frame to frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from streamsr.errors import StreamSRError
from streamsr.face.alignment import native_side

from .clips import DegradedClip, degrade, read_clip
from .entrants import Entrants
from .face_truth import FaceTruth, face_box, face_region, face_tracks
from .fidelity import consistency
from .panel import Panel
from .sheet import Profiles, Sheet
from .tally import Tally, add_gain, fidelity_measures, means_over_clips
from .temporal import flow_error, motion, temporal_error
from .user_networks import VideoFeatures

if TYPE_CHECKING:
    from streamsr.run_report import RunReport

__all__ = ["COLUMNS", "ClipComparison", "measure_change"]

PANEL_EVERY = 4  # frames: its networks take three times as long as all else
COLUMNS = (
    "clip", "condition", "scale", "method", "frame_psnr_y", "face_psnr_y", "face_gain_db", "face_ssim",
    "face_haarpsi", "face_hf_ratio", "feature_distance", "niqe", "identity", "landmark_error", "warp_ratio",
    "tof_px", "flicker", "consistency_rms",
)  # fmt: skip
OF_REPORT = ("nfe", "restored_share", "bypassed", "t0_mean", "certificate_rms", "certificate_rms_before")
Pictures = dict[str, np.ndarray]


@dataclass
class ClipComparison:
    """Degrade, enhance, compare. work: folder of the degraded and enhanced files and of cached tracks.

    sheet, profiles, videos: filled while clips are compared.
    """

    entrants: Entrants
    panel: Panel
    work: Path
    frames: int
    videos: VideoFeatures | None = None
    sheet: Sheet = field(default_factory=Sheet)
    profiles: Profiles = field(default_factory=Profiles)

    def run(
        self, clips: Sequence[Path], conditions: Sequence[str], scales: Sequence[int]
    ) -> list[dict[str, Any]]:
        """A row a clip, condition, scale and method; then their means over the clips.

        Raises ConfigError, SourceError, ModelError.
        """
        rows = []
        for path in clips:
            for scale in scales:
                faces = face_tracks(path, scale, self.frames, self.work)
                for condition in conditions:
                    rows += self._compare(path, condition, scale, faces)
        summary = means_over_clips(rows, "condition", "scale", "method") if len(clips) > 1 else []
        if self.videos is not None:
            for row in summary or rows:
                key = (row["condition"], str(row["scale"]), row["method"])
                row["fvd"] = self.videos.distance(key, (*key[:2], "truth"))
        return rows + summary

    def _compare(
        self, path: Path, condition: str, scale: int, faces: list[list[FaceTruth]]
    ) -> list[dict[str, Any]]:
        entrants = self.entrants
        degraded = degrade(path, condition, scale, self.work, self.frames, entrants.seed)
        outputs, reports = {}, {}
        for name, fidelity in entrants.streamsr().items():
            outputs[name] = self.work / f"{degraded.camera.stem}_f{fidelity:g}_out.mkv"
            reports[name] = enhance_file(degraded, outputs[name], entrants, fidelity)
        tally = Tally()
        self._measure(degraded, outputs, faces, tally)
        return _rows(tally, degraded, faces, reports)

    def _measure(
        self,
        degraded: DegradedClip,
        outputs: Mapping[str, Path],
        faces: list[list[FaceTruth]],
        tally: Tally,
    ) -> None:
        """Every method on every frame into ``tally`` under its name."""
        label = f"{degraded.clean.stem} {degraded.condition} x{degraded.scale}"
        results = {name: read_clip(path) for name, path in outputs.items()}
        before: Pictures = {}
        for index, (truth, camera) in enumerate(degraded.pairs()):
            pictures = self.entrants.enlarged(camera.image, degraded.scale, faces[index])
            pictures |= {name: _next(result, name, index, degraded) for name, result in results.items()}
            now = {"truth": truth.image, **pictures}
            region = face_region(faces[index], truth.image.shape)
            box = face_box(region) if region.any() else None
            for name, picture in pictures.items():
                tally.add((name,), fidelity_measures(picture, truth.image, prefix="frame_"))
                rms, worst = consistency(picture, camera.image, degraded.scale)
                tally.add((name,), {"consistency_rms": rms, "consistency_max": worst})
            if box is not None:
                self._measure_face(degraded, index, now, box, region, faces[index], tally)
                if before:
                    measure_change(before, now, box, region, tally)
                self.profiles.add(label, now, box)
                if index == degraded.frames // 2:
                    self.sheet.add(label, {name: picture[box] for name, picture in now.items()})
            before = now
        for name, result in results.items():
            if next(result, None) is not None:
                raise StreamSRError(f"{name} gave more than the {degraded.frames} frames of its source")
        if self.videos is not None:
            self.videos.cut()

    def _measure_face(
        self,
        degraded: DegradedClip,
        index: int,
        now: Pictures,
        box: tuple[slice, slice],
        region: np.ndarray,
        faces: Sequence[FaceTruth],
        tally: Tally,
    ) -> None:
        truth = now["truth"]
        pictures = {name: picture for name, picture in now.items() if name != "truth"}
        for name, picture in pictures.items():
            tally.add((name,), fidelity_measures(picture[box], truth[box], region[box], "face_"))
        largest = max(faces, key=lambda face: native_side(face.matrix))
        if index % PANEL_EVERY == 0:
            for name, figures in self.panel.measure(truth, pictures, largest.matrix).items():
                tally.add((name,), figures)
        if self.videos is not None:
            for name, picture in now.items():
                key = (degraded.condition, str(degraded.scale), name)
                self.videos.add(key, picture, largest.matrix)


def enhance_file(degraded: DegradedClip, out: Path, entrants: Entrants, fidelity: float) -> RunReport:
    """The degraded file through the real pipeline into a lossless one."""
    from streamsr.loop import run as run_loop
    from streamsr.pipeline import Pipeline

    enhancer = entrants.enhancer
    assert enhancer is not None, "rows of streamsr need it"

    async def enhance() -> RunReport:
        async with Pipeline(
            str(degraded.camera),
            str(out),
            enhancer,
            scale=degraded.scale,
            fidelity=fidelity,
            steps=entrants.steps,
            seed=entrants.seed,
            codec="ffv1",
            overwrite=True,
        ) as pipeline:
            return await pipeline.run()

    return run_loop(enhance())


def _next(result: Iterator[Any], name: str, index: int, degraded: DegradedClip) -> np.ndarray:
    picture = next(result, None)
    if picture is None:
        raise StreamSRError(f"{name} gave {index} of {degraded.frames} frames")
    return picture.image


def measure_change(
    before: Pictures, now: Pictures, box: tuple[slice, slice], region: np.ndarray, tally: Tally
) -> None:
    """From the frame before to this one: of every method, and of the truth itself."""
    truths = (before["truth"][box], now["truth"][box])
    moved = motion(*truths)
    for name in now:
        pair = (before[name][box], now[name][box])
        warp, flicker = temporal_error(pair, truths, moved, region[box])
        figures = {"warp": warp}
        if name != "truth":
            figures |= {"flicker": flicker, "tof_px": flow_error(pair, moved, region[box])}
        tally.add((name,), figures)


def _rows(
    tally: Tally, degraded: DegradedClip, faces: list[list[FaceTruth]], reports: Mapping[str, RunReport]
) -> list[dict[str, Any]]:
    sides = [native_side(face.matrix) / degraded.scale for found in faces for face in found]
    truth_warp = tally.means(("truth",)).get("warp")
    rows: list[dict[str, Any]] = []
    for key in sorted(tally, key=lambda key: key[0] != "truth"):  # it comes first
        row: dict[str, Any] = {
            "clip": degraded.clean.stem,
            "condition": degraded.condition,
            "scale": degraded.scale,
            "method": key[0],
            "input_px": [degraded.width // degraded.scale, degraded.height // degraded.scale],
            "n": degraded.frames,
            "native_px": float(np.median(sides)) if sides else None,
            **tally.means(key),
        }
        if truth_warp and "warp" in row:
            row["warp_ratio"] = row["warp"] / truth_warp
        if (report := reports.get(key[0])) is not None:
            row |= {name: getattr(report, name) for name in OF_REPORT} | {"file_fps": report.fps}
        rows.append(row)
    return add_gain(rows)
