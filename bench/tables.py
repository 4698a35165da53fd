"""Rows of figures as Markdown, ready for a README: the best of every column in bold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["MEASURES", "Measure", "gains", "listing", "markdown", "title"]


class Measure(NamedTuple):
    """better: 1 higher, -1 lower, 0 neither (or nearest to one)."""

    title: str
    digits: int
    better: int


MEASURES = {
    "frame_psnr_y": Measure("PSNR-Y, frame", 2, 1),
    "face_psnr_y": Measure("PSNR-Y", 2, 1),
    "face_gain_db": Measure("over bicubic, dB", 2, 1),
    "face_ssim": Measure("SSIM", 3, 1),
    "face_haarpsi": Measure("HaarPSI", 3, 1),
    "face_hf_ratio": Measure("HF ratio", 2, 0),
    "feature_distance": Measure("feature distance", 3, -1),
    "lpips": Measure("LPIPS", 3, -1),
    "niqe": Measure("NIQE", 2, -1),
    "identity": Measure("identity", 3, -1),
    "arcface": Measure("ArcFace", 3, -1),
    "landmark_error": Measure("landmarks, %", 2, -1),
    "warp_ratio": Measure("Ewarp / truth's", 2, 0),
    "tof_px": Measure("tOF, px", 3, -1),
    "flicker": Measure("flicker", 2, -1),
    "fvd": Measure("FVD", 1, -1),
    "consistency_rms": Measure("certificate, rms", 2, 0),
}


def markdown(
    rows: Sequence[Mapping[str, Any]], groups: Sequence[str], measures: Sequence[str] = tuple(MEASURES)
) -> str:
    """A table for each value of ``groups`` (columns that name a comparison), methods downwards.

    Measures that no row of a table has are left out of it.
    """
    tables: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        tables.setdefault(tuple(row[name] for name in groups), []).append(row)
    texts = [_table(title(groups, key), members, measures) for key, members in tables.items()]
    return "\n\n".join(texts) + "\n"


def gains(rows: Sequence[Mapping[str, Any]]) -> str:
    """Gain over bicubic in dB of stills: sizes and methods downwards, conditions and scales across."""
    conditions, scales = (dict.fromkeys(row[name] for row in rows) for name in ("condition", "scale"))
    kinds = [(condition, scale) for condition in conditions for scale in sorted(scales)]
    found = {
        (row["size"], row["method"], row["condition"], row["scale"]): row["face_gain_db"]
        for row in rows
        if "face_gain_db" in row and row["method"] != "bicubic"
    }
    lines = [["gain over bicubic, dB", *(f"{condition} x{scale}" for condition, scale in kinds)]]
    lines.append(["---"] * len(lines[0]))
    for size, method in dict.fromkeys(key[:2] for key in found):
        cells = []
        for kind in kinds:
            value = found.get((size, method, *kind))
            rivals = [gain for key, gain in found.items() if key[0] == size and key[2:] == kind]
            text = "" if value is None else _number(value, 2)
            cells.append(f"**{text}**" if text and text == _number(max(rivals), 2) else text)
        lines.append([f"S = {size}, {method}", *cells])
    return _joined(lines) + "\n"


def listing(rows: Sequence[Mapping[str, Any]], titles: Mapping[str, str]) -> str:
    """The columns that ``titles`` names, under its titles."""
    lines = [list(titles.values()), ["---"] * len(titles)]
    for row in rows:
        lines.append([_cell(row.get(name)) for name in titles])
    return _joined(lines) + "\n"


def title(groups: Sequence[str], key: Sequence[Any]) -> str:
    """What a comparison is called: "mean, call, x4"."""
    words = {"scale": "x{}", "size": "S = {}"}
    return ", ".join(words.get(name, "{}").format(value) for name, value in zip(groups, key, strict=True))


def _table(title: str, rows: Sequence[Mapping[str, Any]], measures: Sequence[str]) -> str:
    shown = [name for name in measures if any(row.get(name) is not None for row in rows)]
    best = {name: _best(name, rows) for name in shown}
    lines = [[title, *(MEASURES[name].title for name in shown)], ["---"] * (len(shown) + 1)]
    for row in rows:
        cells = []
        for name in shown:
            value = row.get(name)
            text = "" if value is None else _number(value, MEASURES[name].digits)
            cells.append(f"**{text}**" if text and text == best[name] else text)
        lines.append([str(row["method"]), *cells])
    return _joined(lines)


def _best(name: str, rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The best figure as it is printed: figures that print alike are equally good."""
    _, digits, better = MEASURES[name]
    values = [row[name] for row in rows if row.get(name) is not None and row["method"] != "truth"]
    if not better or len(values) < 2:
        return None
    return _number(max(values) if better > 0 else min(values), digits)


def _number(value: float, digits: int) -> str:
    """Two digits after the point, but no nought before it: .83, 35.48."""
    text = f"{round(value, digits) + 0.0:.{digits}f}"  # no minus before a nought
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def _cell(value: Any) -> str:
    if value is None or value != value:  # NaN
        return ""
    return _number(value, 3) if isinstance(value, float) else str(value)


def _joined(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
