"""Quality of the whole pipeline on real clips, and of the restorer on held-out stills.

    streamsr bench quality --data DIR [--clips talk_a,talk_b] [--conditions clean,call] [--scale 4]
    streamsr bench quality --data DIR --set val

Every method sees the same degraded file, in the same run, and is judged against the same clean
frames: over the whole frame and over the face. ``--data`` holds ``clips/``, ``peers/`` and, for
``--set val``, ``faces/`` with ``faces.csv``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from streamsr.errors import ConfigError, StreamSRError
from streamsr.face.alignment import native_side

from .baselines import Upscaler, baselines
from .clips import CONDITIONS, SCALES, DegradedClip, clean_pictures, degrade, read_clip
from .face_truth import FaceTruth, face_box, face_region, face_tracks
from .fidelity import consistency
from .identity import FaceEmbedder, embedder_if_installed
from .row import circumstances, emit
from .sheet import Sheet
from .tally import Tally, fidelity_measures
from .temporal import motion, temporal_error

if TYPE_CHECKING:
    from streamsr.run_report import RunReport

__all__ = ["main", "run"]

CLIPS = ("talk_a", "talk_b", "talk_c")
FRAMES = 100
IDENTITY_EVERY = 10  # frames: the embedding takes ten times as long as all else
COLUMNS = (
    "clip", "condition", "method", "frame_psnr_y", "frame_ssim", "frame_haarpsi", "frame_consistency_rms",
    "face_psnr_y", "face_gain_db", "face_ssim", "face_haarpsi", "face_hf_ratio", "face_warp", "face_flicker",
    "identity",
)  # fmt: skip


def run(
    data: Path,
    clips: Sequence[str] = CLIPS,
    conditions: Sequence[str] = ("clean", "call"),
    scale: int = 4,
    frames: int = FRAMES,
    fidelities: Sequence[float] = (1.0,),
    steps: int | str = "auto",
    seed: int = 0,
    device: str = "auto",
    weights: Path | None = None,
    work: Path | None = None,
    sheet: Path | None = None,
    baselines_only: bool = False,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Degrade, enhance, compare. Returns (what the rows share, rows); see COLUMNS for the figures.

    clips: names in ``data/clips``, or paths. frames: most that are taken of each clip. work: folder
    that keeps the degraded and enhanced files and the cached face tracks, else a temporary one.
    Raises ConfigError, SourceError, ModelError.
    """
    paths = [_clip_path(data, name) for name in clips]
    _require(set(conditions) <= set(CONDITIONS), "conditions", ", ".join(CONDITIONS), ", ".join(conditions))
    _require(scale in SCALES, "scale", str(SCALES), str(scale))
    _require(frames > 0, "frames", "at least 1", str(frames))
    enhancer = None if baselines_only else load_enhancer(weights, device)
    head: dict[str, Any] = {"scale": scale, "frames": frames, "seed": seed, "steps": steps}
    if enhancer is not None:
        head |= {"device": str(enhancer.device), "model_sha256": enhancer.model_sha256}
    embedder = embedder_if_installed()
    upscalers = baselines(scale, data)
    rows, contact = [], Sheet()
    with tempfile.TemporaryDirectory() as temporary:
        folder = work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        tally = Tally()
        for path in paths:
            faces = face_tracks(path, scale, frames, folder)
            for condition in conditions:
                degraded = degrade(path, condition, scale, folder, frames, seed)
                outputs: dict[str, Path] = {}
                reports: dict[str, RunReport] = {}
                for fidelity in fidelities if enhancer is not None else ():
                    name = f"streamsr f={fidelity:g}"
                    out = folder / f"{degraded.camera.stem}_f{fidelity:g}_out.mkv"
                    outputs[name] = out
                    reports[name] = enhance_file(degraded, out, enhancer, fidelity, steps, seed)
                compare(degraded, outputs, upscalers, faces, embedder, tally, contact)
                rows += _rows(tally, path.stem, condition, degraded, faces, reports)
    if sheet is not None:
        contact.save(sheet)
    return head, rows + _summary(rows)


def load_enhancer(weights: Path | None, device: str) -> Any:
    """The enhancer under test. Raises ModelError, DeviceError."""
    from streamsr import Enhancer  # torch loads here, not for --help

    return Enhancer(weights=weights, device=device)


def enhance_file(
    degraded: DegradedClip, out: Path, enhancer: Any, fidelity: float, steps: int | str, seed: int
) -> RunReport:
    """The degraded file through the real pipeline into a lossless one."""
    from streamsr.loop import run as run_loop
    from streamsr.pipeline import Pipeline

    async def enhance() -> RunReport:
        async with Pipeline(
            str(degraded.camera),
            str(out),
            enhancer,
            scale=degraded.scale,
            fidelity=fidelity,
            steps=steps,
            seed=seed,
            codec="ffv1",
            overwrite=True,
        ) as pipeline:
            return await pipeline.run()

    return run_loop(enhance())


def compare(
    degraded: DegradedClip,
    outputs: dict[str, Path],
    upscalers: dict[str, Upscaler],
    faces: list[list[FaceTruth]],
    embedder: FaceEmbedder | None,
    tally: Tally,
    contact: Sheet,
) -> None:
    """Measure every method on every frame into ``tally`` under (clip, condition, method)."""
    truths = clean_pictures(degraded.clean, degraded.scale, degraded.frames)
    cameras = read_clip(degraded.camera)
    results = {name: read_clip(path) for name, path in outputs.items()}
    before: dict[str, np.ndarray] = {}
    middle = degraded.frames // 2
    for index, (truth, camera) in enumerate(zip(truths, cameras, strict=True)):
        pictures = {name: up(camera.image, degraded.scale) for name, up in upscalers.items()}
        for name, result in results.items():
            pictures[name] = _next_image(result, name, index, degraded)
        now = {"truth": truth.image, **pictures}
        region = face_region(faces[index], truth.image.shape)
        box = face_box(region) if region.any() else None
        for name, picture in pictures.items():
            figures = fidelity_measures(picture, truth.image, prefix="frame_")
            rms, worst = consistency(picture, camera.image, degraded.scale)
            figures |= {"frame_consistency_rms": rms, "frame_consistency_max": worst}
            if box is not None:
                figures |= fidelity_measures(picture[box], truth.image[box], region[box], "face_")
            tally.add((degraded.clean.stem, degraded.condition, name), figures)
        if box is not None:
            if before:
                _add_temporal(degraded, before, now, box, region, tally)
            if embedder is not None and index % IDENTITY_EVERY == 0:
                _add_identity(degraded, now, faces[index], embedder, tally)
            if index == middle:
                contact.add(f"{degraded.clean.stem} {degraded.condition}", _tiles(now, box))
        before = now
    for name, result in results.items():
        if next(result, None) is not None:
            raise StreamSRError(f"{name} gave more than the {degraded.frames} frames of its source")


def _next_image(result: Iterator[Any], name: str, index: int, degraded: DegradedClip) -> np.ndarray:
    picture = next(result, None)
    if picture is None:
        raise StreamSRError(f"{name} gave {index} of {degraded.frames} frames")
    return picture.image


def _add_temporal(
    degraded: DegradedClip,
    before: dict[str, np.ndarray],
    now: dict[str, np.ndarray],
    box: tuple[slice, slice],
    region: np.ndarray,
    tally: Tally,
) -> None:
    truths = (before["truth"][box], now["truth"][box])
    moved = motion(*truths)
    for name in now.keys() - {"truth"}:
        warp, flicker = temporal_error((before[name][box], now[name][box]), truths, moved, region[box])
        key = (degraded.clean.stem, degraded.condition, name)
        tally.add(key, {"face_warp": warp, "face_flicker": flicker})


def _add_identity(
    degraded: DegradedClip,
    now: dict[str, np.ndarray],
    faces: Sequence[FaceTruth],
    embedder: FaceEmbedder,
    tally: Tally,
) -> None:
    largest = max(faces, key=lambda face: native_side(face.matrix))
    face = embedder.locate(now["truth"], largest.matrix)
    reference = embedder.embed(now["truth"], face)
    for name in now.keys() - {"truth"}:
        distance = float(np.linalg.norm(embedder.embed(now[name], face) - reference))
        tally.add((degraded.clean.stem, degraded.condition, name), {"identity": distance})


def _tiles(now: dict[str, np.ndarray], box: tuple[slice, slice]) -> dict[str, np.ndarray]:
    """What a person wants to see of it: the truth, the two simple ways, ours."""
    wanted = [name for name in now if name in ("truth", "bicubic", "back_projection", "espcn")]
    wanted += [name for name in now if name.startswith("streamsr")]
    return {name: now[name][box] for name in wanted}


def _rows(
    tally: Tally,
    clip: str,
    condition: str,
    degraded: DegradedClip,
    faces: list[list[FaceTruth]],
    reports: dict[str, RunReport],
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    sides = [native_side(face.matrix) / degraded.scale for found in faces for face in found]
    for key in [key for key in tally if key[:2] == (clip, condition)]:
        row: dict[str, Any] = {
            "clip": clip,
            "condition": condition,
            "method": key[2],
            "input_px": [degraded.width // degraded.scale, degraded.height // degraded.scale],
            "n": degraded.frames,
            "native_px": float(np.median(sides)) if sides else None,
            **tally.means(key),
        }
        if (report := reports.get(key[2])) is not None:
            row |= {
                "nfe": report.nfe,
                "restored_share": report.restored_share,
                "bypassed": report.bypassed,
                "t0_mean": report.t0_mean,
                "certificate_rms": report.certificate_rms,
                "certificate_rms_before": report.certificate_rms_before,
                "file_fps": report.fps,
            }
        rows.append(row)
    return add_gain(rows, "face_psnr_y", "face_gain_db")


def add_gain(rows: list[dict[str, Any]], measure: str, name: str) -> list[dict[str, Any]]:
    """To each row, how much better than bicubic's row it is by ``measure``."""
    plain = next(row for row in rows if row["method"] == "bicubic")
    if measure in plain:
        for row in rows:
            row[name] = row[measure] - plain[measure]
    return rows


def _summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Over the clips, one row for each condition and method."""
    if len({row["clip"] for row in rows}) < 2:
        return []
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["condition"], row["method"]), []).append(row)
    summary = []
    for (condition, method), members in groups.items():
        mean: dict[str, Any] = {"clip": "mean", "condition": condition, "method": method}
        for column in COLUMNS[3:]:
            values = [member[column] for member in members if member.get(column) is not None]
            if values:
                mean[column] = float(np.mean(values))
        summary.append(mean)
    return summary


def _clip_path(data: Path, name: str) -> Path:
    path = Path(name) if Path(name).suffix else data / "clips" / f"{name}.mp4"
    if not path.is_file():
        raise ConfigError(f"no clip {path}: --data must hold clips/, and --clips names files in it")
    return path


def _require(right: bool, name: str, expected: str, found: str) -> None:
    if not right:
        raise ConfigError(f"{name} must be {expected}, got {found}")


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(
        prog="streamsr bench quality",
        description="Quality against clean clips or stills, with baselines in the same run.",
    )
    add = words.add_argument
    add("--data", type=Path, required=True, help="folder with clips/, peers/ and faces/")
    add("--set", choices=("clips", "val"), default="clips", help="val: held-out stills")
    add("--clips", default=",".join(CLIPS), help="names in DATA/clips, or paths")
    add("--conditions", default="clean,call", help=f"of {', '.join(CONDITIONS)}")
    add("--scale", type=int, choices=SCALES, default=4)
    add("--frames", type=int, default=FRAMES, help="most frames of a clip, or stills of the set")
    add("--fidelity", help="0..1, comma-separated: one streamsr row for each; default 1")
    add("--steps", default="auto", help="auto or a number of network evaluations")
    add("--seed", type=int, default=0)
    add("--device", default="auto", help="auto, cpu or cuda")
    add("--weights", type=Path, help="a weights file instead of the packaged ones")
    add("--work", type=Path, help="keep the degraded and enhanced files here")
    add("--sheet", type=Path, help="write a contact sheet (PNG)")
    add("--baselines-only", action="store_true", help="leave streamsr itself out")
    add("--json", action="store_true", help="print only the line of JSON")
    return words


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 after one line that says what is wrong."""
    argv = sys.argv[1:] if argv is None else list(argv)
    given = parser().parse_args(argv)
    try:
        fidelities = [_number(float, text, "--fidelity") for text in (given.fidelity or "1").split(",")]
        steps: int | str = "auto" if given.steps == "auto" else _number(int, given.steps, "--steps")
        shared = {
            "data": given.data,
            "steps": steps,
            "device": given.device,
            "weights": given.weights,
            "sheet": given.sheet,
            "seed": given.seed,
            "frames": given.frames,
            "baselines_only": given.baselines_only,
        }
        if given.set == "val":
            if given.fidelity is not None:
                raise ConfigError("--fidelity is for clips: the stills measure the network itself")
            from . import stills

            head, rows = stills.run(**shared)
            columns: Sequence[str] = stills.COLUMNS
        else:
            head, rows = run(
                **shared,
                clips=given.clips.split(","),
                conditions=given.conditions.split(","),
                scale=given.scale,
                fidelities=fidelities,
                work=given.work,
            )
            columns = COLUMNS
    except StreamSRError as error:
        print(f"streamsr bench quality: {error}", file=sys.stderr)
        return 2
    device = head.pop("device", "cpu")
    emit({**circumstances("quality", argv, device), **head}, rows, columns, given.json)
    return 0


def _number(kind: type[Any], text: str, name: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise ConfigError(f"{name} must be a number, got {text!r}") from None


if __name__ == "__main__":
    sys.exit(main())
