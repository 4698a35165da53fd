"""``streamsr enhance``: one pipeline, its display, its signals and its report."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

from rich.console import Console

from . import loop
from .console import RunDisplay, summary
from .errors import ConfigError, SinkError, SourceError, StreamSRError, redact
from .frame import Sink, Source
from .interrupt import ends_at_once
from .io import open_sink, open_source
from .pipeline import Pipeline
from .run_report import RunReport, versions
from .stages import Enhancer as AnyEnhancer

__all__ = ["Interrupted", "run"]

RTSP = ("rtsp://", "rtsps://")


class Interrupted(Exception):
    """A signal ended the job and there is no output. signum: which."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


def run(
    source_url: str,
    sink_url: str,
    *,
    scale: int,
    fidelity: float | None,
    steps: int | str | None,
    device: str,
    seed: int | None,
    engine: str,
    codec: str,
    crf: int | None,
    hwaccel: str,
    overwrite: bool,
    report_path: Path | None,
    rtsp_transport: str | None,
    duration_s: float | None,
    evidence_folder: Path | None = None,
    key_path: Path | None = None,
) -> RunReport:
    """Run until the source ends, the time is over or a signal comes. Prints one line about the output,
    and one on stderr for each warning.

    Live: the first SIGINT or SIGTERM, and ``duration_s``, finish the output. A file, or a second
    signal: Interrupted, nothing is left. report_path: written whatever the end, once the options hold.
    evidence_folder, key_path: record evidence, see ``streamsr.evidence``. Raises StreamSRError.
    """
    if (evidence_folder is None) != (key_path is None):
        raise ConfigError("--evidence and --key go together")
    if rtsp_transport is not None and not source_url.lower().startswith(RTSP):
        raise ConfigError(f"--rtsp-transport is for rtsp:// sources, got {redact(source_url)}")
    evidence = None
    if evidence_folder is not None and key_path is not None:
        from .evidence import Evidence

        evidence = Evidence(evidence_folder, key_path, camera="stream")
    source = open_source(
        source_url,
        sink_url=sink_url,
        rtsp_transport=rtsp_transport or "tcp",
        hwaccel=hwaccel,
        tap=evidence.tap if evidence is not None else None,
    )
    if duration_s is not None and not source.live:
        raise ConfigError(f"--duration is for live sources (rtsp://, camera), got {redact(source_url)}")
    if report_path is not None:
        _check_report_path(report_path, (source_url, sink_url))
    try:
        with ends_at_once():
            from .enhancer import Enhancer  # torch loads here

            enhancer = Enhancer(device=device, engine=engine)
    except StreamSRError as error:
        if report_path is not None:
            _save(_not_begun(source, sink_url, scale, error), report_path)
        raise
    recorded = evidence or contextlib.nullcontext()
    sink: str | Sink = sink_url
    worker: AnyEnhancer = enhancer
    if evidence is not None:
        opened = open_sink(
            sink_url, source_url=source.url, codec=codec, crf=crf, overwrite=overwrite, sei=evidence.sei
        )
        sink, worker = evidence.sink(opened, live=source.live), evidence.enhancer(enhancer)
    with enhancer, recorded, RunDisplay(Console(stderr=True), source.live) as display:
        pipeline = Pipeline(
            source,
            sink,
            worker,
            scale=scale,
            fidelity=fidelity,
            steps=steps,
            seed=seed,
            codec=codec,
            crf=crf,
            overwrite=overwrite,
            on_progress=display.update,
        )
        try:
            report = loop.run(_supervised(pipeline, source.live, duration_s))
        finally:
            if report_path is not None:
                _save(pipeline.report(), report_path)
    Console().print(summary(report), markup=False, highlight=False, soft_wrap=True)
    for warning in report.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return report


def _check_report_path(path: Path, others: tuple[str, str]) -> None:
    """Find out what cannot be written, or must not be, before anything long is done."""
    written = path if path.exists() and not path.is_file() else path.parent  # a device as it is
    if path.is_dir() or not written.exists() or not os.access(written, os.W_OK):
        raise ConfigError(f"--report must name a file in a writable folder, got {path}")
    if os.path.realpath(path) in map(os.path.realpath, others):
        raise ConfigError(f"--report must not be the source or the output, got {path}")


def _not_begun(source: Source, sink_url: str, scale: int, error: StreamSRError) -> RunReport:
    return RunReport(
        source=source.url,
        sink=redact(sink_url),
        live=source.live,
        status="failed",
        error=str(error),
        scale=scale,
        versions=versions(),
    )


def _save(report: RunReport, path: Path) -> None:
    try:
        report.save(path)
    except OSError as error:
        raise SinkError(f"cannot write the report {path}: {error.strerror}", str(path)) from error


async def _supervised(pipeline: Pipeline, live: bool, duration_s: float | None) -> RunReport:
    running_loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    caught: list[int] = []
    running = False

    def on_signal(signum: int) -> None:
        caught.append(signum)
        if live and running and len(caught) == 1:
            pipeline.stop()
        else:
            task.cancel()

    signals = (signal.SIGINT, signal.SIGTERM)
    timer: asyncio.TimerHandle | None = None
    with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C then cancels, as asyncio does
        for signum in signals:
            running_loop.add_signal_handler(signum, on_signal, signum)
    try:
        async with pipeline:
            running = True
            if duration_s is not None:
                timer = running_loop.call_later(duration_s, pipeline.stop)
            report = await pipeline.run()
    except asyncio.CancelledError:
        if caught:
            raise Interrupted(caught[-1]) from None
        raise
    finally:
        if timer is not None:
            timer.cancel()
        for signum in signals:
            running_loop.remove_signal_handler(signum)
    if report.frames_out == 0 and caught:
        raise Interrupted(caught[0])
    if report.frames_out == 0:
        raise SourceError(f"no picture came out within {duration_s} s", report.source)
    return report
