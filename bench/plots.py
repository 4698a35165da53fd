"""Plots of result rows, by matplotlib."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from streamsr.errors import ConfigError

from .tables import title

__all__ = ["figure", "perception_distortion", "save_figure"]


def perception_distortion(path: Path, rows: Sequence[Mapping[str, Any]], groups: Sequence[str]) -> None:
    """PSNR-Y of the face (distortion) against feature distance (perception), a panel a comparison.

    After Blau and Michaeli 2018: nobody is at the upper left; what counts is who is on the frontier.
    Labels: method and ratio of high-frequency energy. Raises ConfigError.
    """
    panels: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row.get("feature_distance") is not None and row.get("face_psnr_y") is not None:
            panels.setdefault(tuple(row[name] for name in groups), []).append(row)
    if not panels:
        raise ConfigError("no row has a feature distance to plot: --data needs peers/ with SqueezeNet")
    canvas = figure(len(panels))
    for axes, (key, members) in zip(canvas.axes, panels.items(), strict=True):
        axes.set_title(title(groups, key))
        axes.margins(0.25)
        axes.set_xlabel("PSNR-Y of the face, dB")
        axes.set_ylabel("feature distance (lower: looks more alike)")
        ours = [row for row in members if row["method"].startswith("streamsr")]
        axes.plot(*_points(ours), "o-", color="tab:blue")
        axes.plot(*_points([row for row in members if row not in ours]), "s", color="tab:grey")
        for row in members:
            text = f"{row['method']} ({row['face_hf_ratio']:.2f})"
            at = (row["face_psnr_y"], row["feature_distance"])
            axes.annotate(text, at, xytext=(4, 4), textcoords="offset points", fontsize=7)
    save_figure(canvas, path)


def figure(panels: int) -> Any:
    """A figure with so many axes, about as high as wide. Raises ConfigError where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("plots need matplotlib: pip install matplotlib") from error
    columns = math.ceil(math.sqrt(panels))
    rows = -(-panels // columns)
    canvas = Figure(figsize=(5 * columns, 4 * rows), layout="constrained")
    for index in range(panels):
        canvas.add_subplot(rows, columns, index + 1)
    return canvas


def save_figure(canvas: Any, path: Path) -> None:
    """Raises ConfigError for a name that cannot be written."""
    try:
        canvas.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot write the plot {path}: {error}") from error


def _points(rows: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    ordered = sorted(rows, key=lambda row: row["face_psnr_y"])
    return [row["face_psnr_y"] for row in ordered], [row["feature_distance"] for row in ordered]
