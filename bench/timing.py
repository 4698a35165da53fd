"""How long something takes: on the wall clock, and on a GPU between events of its stream."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

__all__ = ["event_us", "graph_us", "percentiles", "wall_ms", "wall_ms_in_turns"]

LAUNCHES = 20  # in a graph


def percentiles(values: Sequence[float], name: str = "") -> dict[str, float]:
    """p50, p95 and p99; as keys of a row with the name of what took so many ms: "net_p50_ms"."""
    found = np.percentile(values, (50, 95, 99))
    keys = (f"{name}_{p}_ms" if name else p for p in ("p50", "p95", "p99"))
    return {key: float(value) for key, value in zip(keys, found, strict=True)}


def wall_ms(does: Callable[[], object], runs: int) -> list[float]:
    """Of each of ``runs`` calls, after one that does not count."""
    return wall_ms_in_turns([does], runs)[0]


def wall_ms_in_turns(all_do: Sequence[Callable[[], object]], runs: int) -> list[list[float]]:
    """``wall_ms`` of each, one after another in every run: so that a machine that changes does so for all."""
    for does in all_do:
        does()
    taken: list[list[float]] = [[] for _ in all_do]
    for _ in range(runs):
        for does, each in zip(all_do, taken, strict=True):
            began = time.perf_counter()
            does()
            each.append((time.perf_counter() - began) * 1e3)
    return taken


def graph_us(does: Callable[[], object], runs: int) -> tuple[float, float]:
    """Median and 95th percentile of one of the LAUNCHES of a CUDA graph."""
    import torch

    does()  # loads the kernel
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(LAUNCHES):
            does()
    graph.replay()
    taken = [_between_events_us(graph.replay) / LAUNCHES for _ in range(runs)]
    return float(np.median(taken)), float(np.percentile(taken, 95))


def event_us(does: Callable[[], object], runs: int) -> float:
    """Median, on a GPU: for what may wait for it, and so cannot be captured in a graph."""
    does()
    return float(np.median([_between_events_us(does) for _ in range(runs)]))


def _between_events_us(does: Callable[[], object]) -> float:
    import torch

    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    does()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) * 1e3
