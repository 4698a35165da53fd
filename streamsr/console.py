"""What a run looks like in a terminal: a progress bar for files, a line of figures for live streams.

Both go to stderr and leave nothing behind; ``summary`` is the line that stays.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from .doctor import Check, core_works
from .run_report import RunReport

__all__ = ["RunDisplay", "checks_text", "summary"]

PLAIN_INTERVAL_S = 5.0  # between two lines of figures where stderr is no terminal


class RunDisplay:
    """``with RunDisplay(console, live) as display``; pass ``display.update`` as ``on_progress``."""

    def __init__(self, console: Console, live: bool) -> None:
        self._console, self._live = console, live
        self._line = Live(console=console, transient=True, auto_refresh=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[fps]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            auto_refresh=False,
        )
        self._task: TaskID | None = None
        self._plain_at = time.monotonic() + PLAIN_INTERVAL_S

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            (self._line if self._live else self._bar).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            (self._line if self._live else self._bar).stop()

    def update(self, report: RunReport) -> None:
        if self._live:
            self._show_figures(live_figures(report))
        elif self._console.is_terminal:
            self._show_bar(report)

    def _show_figures(self, figures: str) -> None:
        if self._console.is_terminal:
            self._line.update(Text(figures, no_wrap=True, overflow="ellipsis"), refresh=True)
        elif time.monotonic() >= self._plain_at:
            self._plain_at = time.monotonic() + PLAIN_INTERVAL_S
            self._console.print(Text(figures), soft_wrap=True)

    def _show_bar(self, report: RunReport) -> None:
        fps = f"{report.fps:.1f} fps"
        if self._task is None:
            self._task = self._bar.add_task(report.sink, total=report.frames_total, fps=fps)
        self._bar.update(self._task, completed=report.frames_out, fps=fps, refresh=True)


def live_figures(report: RunReport) -> str:
    """One line: what went out, at which rate and age, and what of it was restored."""
    parts = [f"{report.elapsed_s:.0f} s", f"{report.frames_out} frames", f"{report.fps:.1f} fps"]
    if report.age_ms is not None:
        parts.append(f"age p50 {report.age_ms.p50:.0f} ms, p95 {report.age_ms.p95:.0f} ms")
    parts.append(f"dropped {report.frames_dropped}")
    if report.restored_share is not None:
        parts.append(f"restored {100 * report.restored_share:.0f} %")
    return ", ".join(parts)


def summary(report: RunReport) -> str:
    """One line about a finished run."""
    width, height = report.output_px or (0, 0)
    parts = [f"{report.sink}: {report.frames_out} frames of {width}x{height}"]
    parts.append(f"{report.elapsed_s:.1f} s, {report.fps:.1f} fps")
    if report.live and report.age_ms is not None:
        parts.append(f"age p50 {report.age_ms.p50:.0f} ms, p95 {report.age_ms.p95:.0f} ms")
        parts.append(f"dropped {report.frames_dropped}")
    if report.faces:
        parts.append(f"{report.faces} face-frames")
    if report.restored_share is not None:
        parts.append(f"restored {100 * report.restored_share:.0f} %")
    return ", ".join(parts)


def checks_text(checks: list[Check]) -> Text:
    """A row for each check, the fix below where one is missing, and the verdict."""
    width = max(len(check.name) for check in checks)
    text = Text()
    for check in checks:
        style = "green" if check.ok else "bold red" if check.required else "yellow"
        text.append(f"{'ok' if check.ok else 'missing':8}", style)
        text.append(f"{check.name:{width}}  {check.found}\n")
        if check.fix:
            text.append(f"{'':8}{'':{width}}  fix: {check.fix}\n", "cyan")
    absent = [check.name for check in checks if check.required and not check.ok]
    verdict = "the core works" if core_works(checks) else f"the core does not work: {', '.join(absent)}"
    return text.append(verdict, "bold")
