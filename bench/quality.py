"""Quality on real clips through the whole pipeline, and on held-out stills, against whom the user names.

    streamsr bench quality --data DIR [--clips talk_a,talk_b] [--conditions clean,call] [--scale 4]
    streamsr bench quality --data DIR --set val [--scale 2,4,8]

``--data`` holds ``clips/``, ``peers/``, ``faces/`` and ``faces.csv``. Measures: fidelity.py, temporal.py
and, of faces, panel.py; they stand together in every table, since each alone is won by some failing
(blur wins Ewarp, noise the HF ratio). Row "truth": what the clean pictures themselves score.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamsr.errors import ConfigError

from . import clip_quality, still_quality
from .baselines import PEERS
from .clips import CLIPS, COLOURED, CONDITIONS, SCALES, chosen, clip_path
from .command import add_data, add_device, add_list, add_steps, add_weights, answer, parser
from .entrants import Entrants
from .panel import Panel
from .peers import FacePeer, FramePeer, named_files
from .plots import Plot, frontiers, perception_distortion
from .row import write_text
from .tables import gains, markdown
from .user_networks import VideoFeatures

if TYPE_CHECKING:
    from streamsr.enhancer import Enhancer

__all__ = ["load_enhancer", "main", "run"]

FRAMES = {"clips": 100, "val": 20}
SCALES_OF = {"clips": (4,), "val": SCALES}
CONDITIONS_OF = {"clips": ("clean", "call"), "val": COLOURED}
GROUPS = {"clips": ("clip", "condition", "scale"), "val": ("size", "condition", "scale")}
COLUMNS = {"clips": clip_quality.COLUMNS, "val": still_quality.COLUMNS}
USER_COLUMNS = ("lpips", "arcface", "fvd")  # shown where a row has them


def run(given: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Compare as the options say. Returns (what the rows share, rows); see COLUMNS for the figures.

    Raises ConfigError, SourceError, ModelError, DeviceError.
    """
    head, rows = _compared(given)
    means, groups = _overall(rows), GROUPS[given.set]
    if given.plot is not None:
        perception_distortion(given.plot, means, groups)
    if given.markdown is not None:
        write_text(given.markdown, markdown(means, groups))
    if given.gains is not None:
        write_text(given.gains, gains(rows))
    return head, rows


def _compared(given: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    if given.set == "val" and (given.fvd is not None or given.profile is not None):
        raise ConfigError("--fvd and --profile need clips: stills have no time")
    if given.set != "val" and given.gains is not None:
        raise ConfigError("--gains is for stills: --set val")
    conditions = chosen(given.conditions or CONDITIONS_OF[given.set], "--conditions", CONDITIONS)
    scales = chosen(given.scale or SCALES_OF[given.set], "--scale", SCALES)
    frames = FRAMES[given.set] if given.frames is None else given.frames
    if frames < 1:
        raise ConfigError(f"--frames must be at least 1, got {frames}")
    clips = [clip_path(given.data, name) for name in given.clips] if given.set == "clips" else []
    frame_peers = named_files(given.peer, "--peer")
    face_peers = named_files(given.face_peer, "--face-peer")
    _check_names([*frame_peers, *face_peers])
    _check_outputs(given)
    enhancer = None if given.baselines_only else load_enhancer(given.weights, given.device)
    entrants = Entrants(
        given.data,
        enhancer,
        given.fidelity,
        given.steps,
        given.seed,
        {name: FramePeer(name, path) for name, path in frame_peers.items()},
        {name: FacePeer(name, path) for name, path in face_peers.items()},
    )
    head: dict[str, Any] = {"device": "cpu", "set": given.set, "seed": given.seed, "steps": given.steps}
    if enhancer is not None:
        head |= {"device": enhancer.device, "model_sha256": enhancer.model_sha256}
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        videos = None if given.fvd is None else VideoFeatures(given.fvd)
        panel = Panel(given.data, work, given.lpips, given.arcface)
        try:
            if given.set == "val":
                return head, still_quality.run(entrants, panel, conditions, scales, frames, given.sheet)
            comparison = clip_quality.ClipComparison(entrants, panel, work, frames, videos)
            rows = comparison.run(clips, conditions, scales)
            if given.sheet is not None:
                comparison.sheet.save(given.sheet)
            if given.profile is not None:
                comparison.profiles.save(given.profile)
            return head, rows
        finally:
            panel.close()
            if enhancer is not None:
                enhancer.close()


def load_enhancer(weights: Path | None, device: str) -> Enhancer:
    """The enhancer under test. Raises ModelError, DeviceError."""
    from streamsr.enhancer import Enhancer  # torch loads here, not for --help

    return Enhancer(weights=weights, device=device)


def main(argv: Sequence[str] | None = None) -> int:
    """See command.answer."""

    def plots(head: dict[str, Any], rows: list[dict[str, Any]]) -> list[Plot]:
        return frontiers(GROUPS[head["set"]], _overall(rows))

    def compare(**options: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        return run(argparse.Namespace(**options))

    return answer(_parser(), argv, compare, _columns, plots=plots)


def _parser() -> argparse.ArgumentParser:
    words = parser("quality", "Quality against clean clips or stills, with baselines in the same run.")
    add = words.add_argument
    add_data(words, "clips/, peers/, faces/ and faces.csv")
    add("--set", choices=("clips", "val"), default="clips", help="val: held-out stills")
    add_list(words, "--clips", str, CLIPS, "names in DATA/clips, or paths")
    add_list(
        words,
        "--conditions",
        str,
        None,
        f"of {', '.join(CONDITIONS)}; clips: clean,call, val: and cctv",
    )
    add_list(words, "--scale", int, None, "of 2, 4, 8, comma-separated; clips: 4, val: all")
    add("--frames", type=int, help="most frames of a clip (100), or stills of each size (20)")
    add_list(
        words, "--fidelity", float, (1.0,), "0..1, comma-separated: one streamsr row for each; default 1"
    )
    add_steps(words, default="auto")
    add("--seed", type=int, default=0)
    add_device(words)
    add_weights(words)
    add("--peer", action="append", default=[], metavar="NAME=FILE", help="a network of whole frames")
    add("--face-peer", action="append", default=[], metavar="NAME=FILE", help="one of aligned 512-px faces")
    add("--lpips", type=Path, metavar="FILE", help="TorchScript; see user_networks.py, as for the next two")
    add("--arcface", type=Path, metavar="FILE")
    add("--fvd", type=Path, metavar="FILE", help="clips only")
    add("--work", type=Path, help="keep degraded and enhanced files, face tracks and NIQE models here")
    add("--sheet", type=Path, help="write a contact sheet (PNG)")
    add("--profile", type=Path, help="write temporal profiles of the clips (PNG)")
    add("--plot", type=Path, help="write PSNR-Y against feature distance (PNG, SVG or PDF)")
    add("--markdown", type=Path, help="write the tables as Markdown")
    add("--gains", type=Path, help="write the stills' gains over bicubic as one Markdown table")
    add("--baselines-only", action="store_true", help="leave streamsr itself out")
    return words


def _columns(head: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    extra = [name for name in USER_COLUMNS if any(name in row for row in rows)]
    return [*COLUMNS[head["set"]], *extra]


def _overall(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The means over the clips, where there are any, else every row."""
    return [row for row in rows if row.get("clip") == "mean"] or rows


def _check_names(peers: Sequence[str]) -> None:
    taken = {"truth", "bicubic", "lanczos", "back_projection", *PEERS}
    for name in peers:
        if name in taken or name.startswith("streamsr"):
            raise ConfigError(f"a peer needs a name of its own, got {name}")
        taken.add(name)


def _check_outputs(given: argparse.Namespace) -> None:
    """Before the work is done, not after it."""
    for path in (given.sheet, given.profile, given.plot, given.markdown, given.gains):
        if path is not None and not path.parent.is_dir():
            raise ConfigError(f"cannot write {path}: no folder {path.parent}")


if __name__ == "__main__":
    sys.exit(main())
