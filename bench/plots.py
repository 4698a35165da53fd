"""Plots of result rows, by matplotlib: of a page each on its own, and of a file several side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from streamsr.errors import ConfigError

from .tables import title

__all__ = [
    "Plot",
    "call_split",
    "empty_figure",
    "endurance_memory",
    "figure",
    "frontiers",
    "kernel_bars",
    "latency_plots",
    "perception_distortion",
    "save_figure",
    "throughput_plots",
]

Row = Mapping[str, Any]
STAGES = ("decode", "track", "align", "guide", "net", "composite", "frame")  # in the order of a frame's way
SPLIT = ("compute", "waiting", "codec", "transport")  # of a call's delay


@dataclass(frozen=True, slots=True)
class Plot:
    """draw: onto empty axes. lines: how many bars lie below each other, where that decides the height."""

    title: str
    about: str
    draw: Callable[[Any], None]
    lines: int = 0


# -- by benchmark -------------------------------------------------------------------------------------


def latency_plots(head: Row, rows: Sequence[Row]) -> list[Plot]:
    """Percentiles by stage of the first picture; growth over faces and picture; the network by batch."""
    first = [row for row in rows if all(row[key] == rows[0][key] for key in ("faces", "input_px"))]
    plots = [
        Plot(
            f"S = {row['size']}, {_count(row['steps'], 'step')}",
            f"{_count(row['faces'], 'face')}, {row['input_px']}; figure and bar p50, line p95, mark p99",
            partial(_stage_bars, row),
            len(STAGES),
        )
        for row in first
    ]
    for key, across in (("faces", "faces in the picture"), ("input_px", "input, million px")):
        if len({row[key] for row in rows}) > 1:
            draw = partial(_growth, rows, key, "frame", ("size", "steps"), across)
            plots.append(Plot(f"A frame by {across.split(',')[0]}", "p50, and p95 dashed", draw))
    network = head.get("network", [])
    if len({row["batch"] for row in network}) > 1:
        draw = partial(_growth, network, "batch", "restore", ("size", "steps"), "faces in a batch")
        plots.append(Plot("The network by batch", "all steps; p50, and p95 dashed", draw))
    return plots


def throughput_plots(head: Row, rows: Sequence[Row]) -> list[Plot]:
    """Frames per second over faces and streams; times by stage of the first row; memory over time."""
    plots = []
    for key in ("faces", "streams"):
        if len({row[key] for row in rows}) > 1:
            other = "streams" if key == "faces" else "faces"
            draw = partial(_growth, rows, key, None, (other,), key)
            plots.append(Plot(f"Frames a second by {key}", "of all streams together", draw))
    bars = partial(_stage_bars, rows[0])
    about = f"{_count(rows[0]['faces'], 'face')}, {_count(rows[0]['streams'], 'stream')}; "
    plots.append(Plot("Stages", about + "figure and bar p50, line p95, mark p99", bars, len(STAGES)))
    for row in rows:
        if len(row["rss_mb"]) >= 60:
            minutes = [k / 60 for k in range(len(row["rss_mb"]))]
            draw = partial(_over_time, minutes, row["rss_mb"], "MB resident")
            about = f"of the process, once a second; {_count(row['streams'], 'stream')}"
            plots.append(Plot("Memory", about, draw))
    return plots


def kernel_bars(head: Row, rows: Sequence[Row]) -> list[Plot]:
    """A plot an operation: on a GPU the shares of its ceilings, on a CPU the product beside others."""
    ran, plots = head["kernels_ran"], []
    for op in dict.fromkeys(row["op"] for row in rows):
        cases = [row for row in rows if row["op"] == op]
        if ran:
            about = "of what a copy and a matrix product reach here in bytes and operations a second"
            draw = partial(_bars, cases, {"copy_share": "bytes", "matmul_share": "operations"}, "share")
        else:
            about = f"less is better; {cases[0]['product']}; fastest other: {cases[0]['best']}"
            labels = {
                "product_p50_ms": "here",
                "best_p50_ms": "fastest other",
                "twin_p50_ms": "twin in torch",
            }
            draw = partial(_bars, cases, labels, "ms, p50")
        plots.append(Plot(op, about, draw, 3 * len(cases)))
    if ran:
        draw = partial(_bars, rows, {"times_faster": ""}, "times faster than the twin")
        plots.append(Plot("Kernels and twins", "more is better", draw, len(rows)))
    return plots


def endurance_memory(head: Row, rows: Sequence[Row]) -> list[Plot]:
    """The server's memory, minute by minute."""
    memory = rows[0]["rss_each_minute_mb"]
    draw = partial(_over_time, list(range(1, len(memory) + 1)), memory, "MB resident")
    return [Plot("Memory", "of the server: each minute's median", draw)]


def call_split(head: Row, rows: Sequence[Row]) -> list[Plot]:
    """Where the median delay from camera to viewer goes."""
    about = f"the enhanced call, {head['glass_to_glass_ms']['p50']:.0f} ms in the median"
    draw = partial(_split_bar, head["split_ms"])
    return [Plot("Glass to glass", about, draw, len(SPLIT))]


def frontiers(groups: Sequence[str], rows: Sequence[Row]) -> list[Plot]:
    """PSNR-Y of the face (distortion) against feature distance (perception), a plot a comparison.

    After Blau and Michaeli 2018: nobody is at the upper left; what counts is who is on the frontier.
    Labels: method and ratio of high-frequency energy.
    """
    panels: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row.get("feature_distance") is not None and row.get("face_psnr_y") is not None:
            panels.setdefault(tuple(row[name] for name in groups), []).append(row)
    about = "to the right: truer; lower: looks more alike; in brackets the ratio of fine detail"
    return [Plot(title(groups, key), about, partial(_frontier, each)) for key, each in panels.items()]


def perception_distortion(path: Path, rows: Sequence[Row], groups: Sequence[str]) -> None:
    """``frontiers`` side by side in a file. Raises ConfigError."""
    plots = frontiers(groups, rows)
    if not plots:
        raise ConfigError("no row has a feature distance to plot: --data needs peers/ with SqueezeNet")
    canvas = figure(len(plots))
    for axes, plot in zip(canvas.axes, plots, strict=True):
        axes.set_title(plot.title)
        plot.draw(axes)
    save_figure(canvas, path)


# -- figures ------------------------------------------------------------------------------------------


def figure(panels: int) -> Any:
    """A figure with so many axes, about as high as wide. Raises ConfigError where matplotlib is missing."""
    columns = math.ceil(math.sqrt(panels))
    rows = -(-panels // columns)
    canvas = empty_figure(5 * columns, 4 * rows)
    for index in range(panels):
        canvas.add_subplot(rows, columns, index + 1)
    return canvas


def empty_figure(width: float, height: float) -> Any:
    """In inches, without axes. Raises ConfigError where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("plots need matplotlib: pip install matplotlib") from error
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(canvas: Any, path: Path) -> None:
    """Raises ConfigError for a name that cannot be written."""
    try:
        canvas.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot write the plot {path}: {error}") from error


# -- drawing ------------------------------------------------------------------------------------------


def _stage_bars(row: Row, axes: Any) -> None:
    shown = [name for name in STAGES if f"{name}_p50_ms" in row]
    for k, name in enumerate(shown):
        p50, p95, p99 = (row[f"{name}_{p}_ms"] for p in ("p50", "p95", "p99"))
        colour = "C1" if name == "frame" else "C0"
        axes.barh(k, p50, height=0.55, color=colour)
        axes.plot([p50, p95], [k, k], color=colour, linewidth=2, alpha=0.6)
        axes.plot([p99], [k], "|", color=colour, markersize=11, markeredgewidth=2)
        _write_beside(axes, f"{p50:.1f}", p99, k)
    _name_bars(axes, shown)
    axes.margins(x=0.16)
    axes.set_xlim(left=0)
    axes.set_xlabel("ms")


def _growth(
    rows: Sequence[Row], key: str, name: str | None, groups: Sequence[str], across: str, axes: Any
) -> None:
    """Over the values of ``key``, a line for each of ``groups``, everything else as in the first row.

    name: of what took so many ms; None: frames per second.
    """
    measures = (("fps", "-"),) if name is None else ((f"{name}_p50_ms", "-"), (f"{name}_p95_ms", "--"))
    varied = [each for each in groups if len({row[each] for row in rows}) > 1]
    lines: dict[tuple[Any, ...], list[Row]] = {}
    same = {k for k in ("faces", "input_px") if k in rows[0]} - {key, *groups}
    for row in rows:
        if all(row[k] == rows[0][k] for k in same):
            lines.setdefault(tuple(row[each] for each in varied), []).append(row)
    ticks: set[float] = set()
    for k, (values, members) in enumerate(lines.items()):
        x = [_number(row[key]) for row in members]
        ticks |= set(x)
        label = ", ".join(_named(each, value) for each, value in zip(varied, values, strict=True))
        for measure, style in measures:
            axes.plot(
                x,
                [row[measure] for row in members],
                style,
                color=f"C{k}",
                marker="o",
                markersize=4,
                label=label if style == "-" else None,
            )
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted(ticks), [f"{tick:.3g}" for tick in sorted(ticks)])
    axes.set_xticks([], minor=True)
    axes.margins(y=0.12)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(across)
    axes.set_ylabel("frames a second" if name is None else "ms")
    if varied:
        axes.figure.legend(loc="outside lower center", ncols=2, frameon=False)


def _bars(rows: Sequence[Row], measures: Mapping[str, str], unit: str, axes: Any) -> None:
    """Below each other, of each row one for each of ``measures``, which are named where there are several."""
    height = 0.72 / len(measures)
    for j, (key, name) in enumerate(measures.items()):
        at = [k + (j - (len(measures) - 1) / 2) * (height + 0.04) for k in range(len(rows))]
        values = [row[key] for row in rows]
        axes.barh(at, values, height=height, color=f"C{j}", label=name)
        for value, k in zip(values, at, strict=True):
            _write_beside(axes, f"{value:.0f}" if value >= 1000 else f"{value:.3g}", value, k)
    _name_bars(axes, [row["case"] for row in rows])
    axes.margins(x=0.14)
    axes.set_xlabel(unit)
    if len(measures) > 1:
        axes.figure.legend(loc="outside lower center", ncols=2, frameon=False)
    if unit == "share":
        axes.axvline(1, color="C7", linewidth=1)
        axes.set_xlim(0, 1.15)


def _over_time(minutes: Sequence[float], values: Sequence[float], unit: str, axes: Any) -> None:
    axes.plot(minutes, values, color="C0")
    axes.set_ylim(0, 1.15 * max(values))
    axes.set_xlabel("minutes")
    axes.set_ylabel(unit)


def _split_bar(parts: Mapping[str, float], axes: Any) -> None:
    left = 0.0
    for k, name in enumerate(SPLIT):
        axes.barh(k, parts[name], left=left, height=0.6, color=f"C{k}")
        end = left + parts[name]
        _write_beside(axes, f"{parts[name]:.1f}", max(left, end), k)
        left = end
    _name_bars(axes, SPLIT)
    axes.margins(x=0.12)
    axes.set_xlabel("ms, one after another")


def _frontier(rows: Sequence[Row], axes: Any) -> None:
    axes.margins(0.25)
    axes.set_xlabel("PSNR-Y of the face, dB")
    axes.set_ylabel("feature distance")
    ours = [row for row in rows if row["method"].startswith("streamsr")]
    axes.plot(*_points(ours), "o-", color="C0")
    axes.plot(*_points([row for row in rows if row not in ours]), "s", color="C7")
    for row in rows:
        text = f"{row['method']} ({row['face_hf_ratio']:.2f})"
        at = (row["face_psnr_y"], row["feature_distance"])
        axes.annotate(text, at, xytext=(4, 4), textcoords="offset points", fontsize=8)


def _points(rows: Sequence[Row]) -> tuple[list[float], list[float]]:
    ordered = sorted(rows, key=lambda row: row["face_psnr_y"])
    return [row["face_psnr_y"] for row in ordered], [row["feature_distance"] for row in ordered]


def _write_beside(axes: Any, text: str, x: float, y: float) -> None:
    axes.annotate(text, (x, y), xytext=(6, 0), textcoords="offset points", va="center")


def _name_bars(axes: Any, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)


def _number(value: Any) -> float:
    """A picture's size counts in millions of px."""
    if isinstance(value, str):
        width, _, height = value.partition("x")
        return int(width) * int(height) / 1e6
    return float(value)


def _named(key: str, value: Any) -> str:
    return f"S = {value}" if key == "size" else _count(value, key.removesuffix("s"))


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
