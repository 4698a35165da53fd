"""Does streamsr serve everyone alike? Gain and identity on held-out faces, by what kind of face it is.

    streamsr bench groups --data DIR [--condition call] [--scale 4] [--sheet FILE]

Groups stand in ``groups.csv``, labelled by hand, by looking at the validation stills: skin as it appears
in the picture (dark, medium, light), glasses, beards and moustaches, children, old faces, faces turned
far to a side, hands at the face, dim light. Another data folder brings its own: ``--labels FILE``, columns
name, skin, labels (words). A difference below two standard errors says nothing, and groups are small.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from streamsr.errors import ConfigError

from .clips import CONDITIONS, SCALES
from .command import add_data, add_device, add_weights, answer, parser
from .entrants import Entrants, streamsr_name
from .panel import Panel, face_part
from .row import write_text
from .sheet import Sheet
from .still_quality import Still, measure_still, pictures_of, stills_with_faces
from .stills import aligned_stills, photograph
from .tables import listing

__all__ = ["main", "read_labels", "run"]

LABELS = Path(__file__).with_name("groups.csv")
SIZE, FRAMES = 256, 1000
COLUMNS = (
    "group", "n", "bicubic_psnr_y", "gain_db", "gain_standard_error", "bicubic_identity", "identity",
    "identity_standard_error", "bicubic_landmark_error", "landmark_error",
)  # fmt: skip
TITLES = {
    "group": "faces",
    "n": "n",
    "gain_db": "over bicubic, dB",
    "gain_standard_error": "standard error",
    "bicubic_identity": "identity, bicubic",
    "identity": "identity",
    "bicubic_landmark_error": "landmarks, bicubic, %",
    "landmark_error": "landmarks, %",
}


def run(
    data: Path,
    condition: str = "call",
    scale: int = 4,
    fidelity: float = 1.0,
    frames: int = FRAMES,
    labels: Path = LABELS,
    seed: int = 0,
    device: str = "auto",
    weights: Path | None = None,
    sheet: Path | None = None,
    markdown: Path | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns what the rows share, and a row a group. Raises ConfigError, ModelError, DeviceError.

    sheet: of every group the face that gains least. markdown: the table as Markdown.
    """
    from streamsr.enhancer import Enhancer  # torch loads here, not for --help

    groups = read_labels(labels)
    if not set(groups) & {name for name, _, _ in aligned_stills(data)}:
        raise ConfigError(f"{labels} names no validation still of {data}")
    ours = streamsr_name(fidelity)
    figures: dict[str, dict[str, dict[str, float]]] = {}
    shown: dict[str, dict[str, np.ndarray]] = {}
    with tempfile.TemporaryDirectory() as work, Enhancer(weights=weights, device=device) as enhancer:
        entrants, panel = Entrants(data, enhancer, [fidelity], seed=seed), Panel(data, Path(work))
        try:
            for still in stills_with_faces(data, SIZE, frames):
                shown[still.name], figures[still.name] = _measured(entrants, panel, still, condition, scale)
        finally:
            panel.close()
        head = {"condition": condition, "scale": scale, "size": SIZE, "method": ours, "seed": seed}
        head |= {"device": enhancer.device, "model_sha256": enhancer.model_sha256}
    members = {
        group: [name for name in figures if group in groups.get(name, ())]
        for group in sorted({group for found in groups.values() for group in found})
    }
    members = {"all": list(figures)} | {group: names for group, names in members.items() if names}
    if sheet is not None:
        contact = Sheet()
        for group, names in members.items():
            worst = min(names, key=lambda name: _gain(figures[name], ours))
            contact.add(f"{group}: {worst}", shown[worst])
        contact.save(sheet)
    rows = [_row(group, [figures[name] for name in names], ours) for group, names in members.items()]
    if markdown is not None:
        write_text(markdown, listing(rows, TITLES))
    return head, rows


def read_labels(path: Path) -> dict[str, set[str]]:
    """Groups by name of the still. Raises ConfigError."""
    try:
        with path.open(newline="") as lines:
            return {
                line["name"]: {*line["labels"].split(), *([f"skin: {line['skin']}"] if line["skin"] else [])}
                for line in csv.DictReader(lines)
            }
    except (OSError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} must be a table with name, skin, labels: {error}") from error


def _measured(
    entrants: Entrants, panel: Panel, still: Still, condition: str, scale: int
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, float]]]:
    """Of bicubic and streamsr: their faces, the clean one first, and their figures."""
    low = photograph(still.truth, condition, scale, entrants.seed)
    pictures, _ = pictures_of(entrants, still, low, scale)
    pictures = {name: pictures[name] for name in ("bicubic", *entrants.streamsr())}
    faces = {name: face_part(picture) for name, picture in {"truth": still.truth, **pictures}.items()}
    return faces, measure_still(panel, still, low, pictures)


def _gain(figures: Mapping[str, Mapping[str, float]], ours: str) -> float:
    return figures[ours]["face_psnr_y"] - figures["bicubic"]["face_psnr_y"]


def _row(group: str, members: Sequence[Mapping[str, Mapping[str, float]]], ours: str) -> dict[str, Any]:
    row: dict[str, Any] = {"group": group, "n": len(members)}
    row["bicubic_psnr_y"] = float(np.mean([each["bicubic"]["face_psnr_y"] for each in members]))
    row["gain_db"], row["gain_standard_error"] = _mean([_gain(each, ours) for each in members])
    for measure in ("identity", "landmark_error"):
        for prefix, method in (("bicubic_", "bicubic"), ("", ours)):
            values = [each[method][measure] for each in members if measure in each[method]]
            row[prefix + measure], row[f"{prefix}{measure}_standard_error"] = _mean(values)
    return row


def _mean(values: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error; NaN where there are too few for either."""
    if not values:
        return float("nan"), float("nan")
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    return float(np.mean(values)), float(error)


def main(argv: Sequence[str] | None = None) -> int:
    """See command.answer."""
    words = parser("groups", __doc__)
    add = words.add_argument
    add_data(words, "faces.csv, faces/ and peers/")
    add("--condition", choices=CONDITIONS, default="call")
    add("--scale", type=int, choices=SCALES[:2], default=4)
    add("--fidelity", type=float, default=1.0)
    add("--frames", type=int, default=FRAMES, help="most stills")
    add("--labels", type=Path, default=LABELS, help="CSV: name, skin, labels")
    add("--seed", type=int, default=0)
    add_device(words)
    add_weights(words)
    add("--sheet", type=Path, help="write a contact sheet (PNG): of every group the face that gains least")
    add("--markdown", type=Path, help="write the table as Markdown")
    return answer(words, argv, run, COLUMNS)


if __name__ == "__main__":
    sys.exit(main())
