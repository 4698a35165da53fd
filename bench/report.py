"""A report of one run as a single HTML page: no other file, light and dark, wide and narrow."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from .plots import Plot, empty_figure
from .row import cell, finite, write_text

__all__ = ["write_report"]

Row = Mapping[str, Any]
WIDTH, HEIGHT, LINE = 4.2, 2.9, 0.32  # of a plot, in inches; of a bar's line
COLOURS = 8
# drawn in these, which no plot uses otherwise; the page says what they are by its theme
INK, FAINT, SERIES = "#0101f0", "#0101f1", tuple(f"#0102f{k}" for k in range(COLOURS))
MARKS = {INK: "var(--soft)", FAINT: "var(--line)"} | {c: f"var(--series-{k})" for k, c in enumerate(SERIES)}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "streamsr",  # the same page for the same figures
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
}
FIRST = ("command", "device", "cpu", "cores", "commit", "version")  # the others follow


def write_report(
    path: Path,
    about: str,
    head: Row,
    tables: Mapping[str, tuple[Sequence[str], Sequence[Row]]],
    plots: Sequence[Plot],
) -> None:
    """head: what all rows share. tables: by name their columns and rows. Raises ConfigError."""
    name = f"streamsr bench {head['bench']}"
    facts = {key: head[key] for key in FIRST} | {k: v for k, v in head.items() if _plain(v)}
    facts = {
        key: value for key, value in facts.items() if key not in ("bench", "note") and value not in ("", None)
    }
    parts = [f"<h1>{escape(name)}</h1>", f'<p class="about">{escape(about)}</p>']
    if "note" in head:
        parts.append(f'<p class="note">{escape(head["note"])}</p>')
    parts.append("<dl>" + "".join(_fact(key, value) for key, value in facts.items()) + "</dl>")
    if plots:
        panels = "".join(_panel(k, plot) for k, plot in enumerate(plots))
        parts.append(f'<div class="plots">{panels}</div>')
    for title, (columns, rows) in tables.items():
        parts.append(f"<h2>{escape(title or 'results')}</h2>" + _table(columns, rows))
    for title, (columns, rows) in tables.items():
        plain = dict.fromkeys(key for row in rows for key in row if _plain(row[key]))
        if rest := [key for key in plain if key not in columns]:
            named = [key for key in columns if isinstance(rows[0].get(key), str | int)]
            summary = f"<summary>{escape(title or 'results')}: all other figures</summary>"
            parts.append(f"<details>{summary}{_table([*named, *rest], rows)}</details>")
    data = {**head, "rows": tables[""][1]}
    lines = escape(json.dumps(finite(data), indent=1))
    parts.append(f"<details><summary>everything, as JSON</summary><pre>{lines}</pre></details>")
    write_text(path, _page(name, "\n".join(parts)))


def _page(title: str, body: str) -> str:
    styles = [resources.files("streamsr.web").joinpath("page", "base.css")]
    styles.append(resources.files("streamsr.bench").joinpath("report.css"))
    css = "\n".join(style.read_text(encoding="utf-8") for style in styles)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>\n{css}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _fact(key: str, value: Any) -> str:
    text = cell(value)
    wide = ' class="wide"' if len(text) > 24 else ""
    return f"<div{wide}><dt>{escape(key)}</dt><dd>{escape(text)}</dd></div>"


def _table(columns: Sequence[str], rows: Sequence[Row]) -> str:
    columns = [name for name in columns if any(row.get(name) is not None for row in rows)]
    words = {name for name in columns if any(isinstance(row.get(name), str) for row in rows)}
    kinds = {name: ' class="word"' if name in words else "" for name in columns}
    heads = "".join(f"<th{kinds[name]}>{escape(name).replace('_', '_<wbr>')}</th>" for name in columns)
    lines = [
        "<tr>" + "".join(f"<td{kinds[name]}>{escape(cell(row.get(name)))}</td>" for name in columns) + "</tr>"
        for row in rows
    ]
    body = "\n".join(lines)
    return f'<div class="table"><table><thead><tr>{heads}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


def _panel(index: int, plot: Plot) -> str:
    about = f"<figcaption><b>{escape(plot.title)}</b> {escape(plot.about)}</figcaption>"
    return f"<figure>{about}{_svg(f'plot{index}', plot)}</figure>"


def _svg(key: str, plot: Plot) -> str:
    """Of ``plot``, to be put into a page: coloured by the page, as wide as it has room for."""
    canvas = empty_figure(WIDTH, 1.1 + LINE * plot.lines if plot.lines else HEIGHT)
    from cycler import cycler  # comes with matplotlib, which is there now
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({**STYLE, "axes.prop_cycle": cycler(color=SERIES)}):
        axes = canvas.add_subplot()
        plot.draw(axes)
        axes.grid(visible=False, axis="y" if plot.lines else "x")
        unsigned = {"Creator": None, "Date": None, "Format": None, "Type": None}
        canvas.savefig(buffer, format="svg", transparent=True, metadata=unsigned)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # it would be the whole page's
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    used = set(re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", svg))
    names = {name for pair in used for name in pair if name}
    svg = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in names else "", svg)
    for name in names:  # ids are the page's
        svg = re.sub(rf'(id="|#){re.escape(name)}(?=["\)])', rf"\g<1>{key}-{name}", svg)
    for mark, colour in MARKS.items():
        svg = svg.replace(mark, colour)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(plot.title)}" ', 1)


def _plain(value: Any) -> bool:
    """Whether a cell holds it."""
    return value is None or isinstance(value, str | int | float)
