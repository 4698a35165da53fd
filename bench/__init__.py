"""Benchmarks: one file each, importable as ``streamsr.bench.<name>``.

Each benchmark has ``run(...)``, which returns what all its rows share and the rows (row.py), and
``main(argv)``, which prints a table and, on its last line, JSON (command.py). Importing this
package imports none of them.
"""

from __future__ import annotations

__all__ = ["BENCHMARKS"]

# name on the command line -> module with main(argv) -> exit status
BENCHMARKS = {
    "background": "streamsr.bench.background",
    "bypass": "streamsr.bench.bypass",
    "cache": "streamsr.bench.cache",
    "call": "streamsr.bench.call",
    "drift": "streamsr.bench.drift",
    "groups": "streamsr.bench.groups",
    "endurance": "streamsr.bench.endurance",
    "gamma": "streamsr.bench.gamma",
    "guide": "streamsr.bench.guide",
    "kernels": "streamsr.bench.kernels",
    "latency": "streamsr.bench.latency",
    "quality": "streamsr.bench.quality",
    "remote": "streamsr.bench.remote",
    "steadiness": "streamsr.bench.steadiness",
    "steps": "streamsr.bench.steps",
    "throughput": "streamsr.bench.throughput",
    "tracking": "streamsr.bench.tracking",
    "watch": "streamsr.bench.watch",
    "watch_quality": "streamsr.bench.watch_quality",
}
