"""The kernels one by one: on a GPU against its ceilings and their twins; without, their work on the CPU.

    streamsr bench kernels [--ops colour,crop] [--runs 30] [--device cuda]

On a GPU, each of kernels/<op>/bench.py's cases, many launches in one CUDA graph: time of one, what that makes
in bytes and operations a second beside what a copy and a matrix product reach here, how many times an empty
kernel's time, how many times faster than the twin in torch. Data of small cases stay in the cache.
Without one no kernel runs: what the product does instead on the CPU, in turns with the same work by OpenCV or
torch alone, the twins among them; ratio: its median over that of the fastest (kernels_cpu.py).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from streamsr.errors import ConfigError

from .command import add_device, add_list, answer, parser
from .plots import kernel_bars
from .timing import event_us, graph_us, percentiles, wall_ms_in_turns

if TYPE_CHECKING:
    import torch

    from streamsr.kernels.measured import Case

__all__ = ["OPS", "main", "run"]

OPS = ("colour", "consistency", "crop", "flow", "ogwm")
RUNS = 30
CPU_COLUMNS = (
    "op", "case", "n", "product", "product_p50_ms", "product_p95_ms", "best", "best_p50_ms", "ratio",
    "twin_p50_ms",
)  # fmt: skip
CUDA_COLUMNS = (
    "op", "case", "n", "p50_us", "p95_us", "empty_launches", "gb_per_s", "copy_share", "tflop_per_s",
    "matmul_share", "twin_p50_us", "times_faster",
)  # fmt: skip
NO_GPU = "no GPU: no kernel ran; what does their work on the CPU, beside the fastest of others"
_COPY_BYTES, _MATMUL_SIDE = 1 << 30, 8192
_EMPTY = 'extern "C" __global__ void empty() {}'


def run(
    ops: Sequence[str] = OPS, runs: int = RUNS, device: str = "auto"
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns (what the rows share, a row for each case). Raises ConfigError, DeviceError, KernelError."""
    unknown = [op for op in ops if op not in OPS]
    if unknown or not ops:
        raise ConfigError(f"--ops must be of {', '.join(OPS)}, got {', '.join(unknown) or 'none'}")
    if runs < 1:
        raise ConfigError(f"runs must be at least 1, got {runs}")
    from streamsr.model.restorer import choose_device  # torch loads here, not for --help

    where = choose_device(device)
    if where.type != "cuda":
        return {"device": "cpu", "kernels_ran": False, "note": NO_GPU}, _cpu_rows(ops, runs)
    import torch

    ceilings = _ceilings(where, runs)
    rows = []
    for op in ops:
        bench = importlib.import_module(f"streamsr.kernels.{op}.bench")
        rows += [{"op": op} | _cuda_row(case, ceilings, runs) for case in bench.cases(where)]
    name = torch.cuda.get_device_name(where)
    return {"device": name, "kernels_ran": True, "ceilings": [ceilings]}, rows


def _cpu_rows(ops: Sequence[str], runs: int) -> list[dict[str, Any]]:
    from .kernels_cpu import TWIN, WORKS

    rows: list[dict[str, Any]] = []
    for op in ops:
        for make in WORKS[op]:
            work = make()
            product, *others = wall_ms_in_turns([work.product, *work.peers.values()], runs)
            taken = dict(zip(work.peers, others, strict=True))
            best = min(taken, key=lambda name: float(np.median(taken[name])))
            row: dict[str, Any] = {"op": op, "case": work.name, "n": runs, "product": work.product_name}
            row |= percentiles(product, "product") | {"best": best} | percentiles(taken[best], "best")
            row |= percentiles(taken[TWIN], "twin")
            rows.append(row | {"ratio": row["product_p50_ms"] / row["best_p50_ms"]})
    return rows


def _ceilings(device: torch.device, runs: int) -> dict[str, float]:
    """What this GPU reaches: bytes read and written by a copy, float32 operations in a matrix product."""
    import torch

    source = torch.empty(_COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy_us = graph_us(lambda: target.copy_(source), runs)[0]
    a, b, c = (torch.randn(_MATMUL_SIDE, _MATMUL_SIDE, device=device) for _ in range(3))
    matmul_us = graph_us(lambda: torch.mm(a, b, out=c), runs)[0]
    return {
        "copy_gb_per_s": 2 * _COPY_BYTES / copy_us / 1e3,
        "matmul_tflop_per_s": 2 * _MATMUL_SIDE**3 / matmul_us / 1e6,
        "empty_launch_us": graph_us(_empty_launch(device), runs)[0],
    }


def _empty_launch(device: torch.device) -> Callable[[], object]:
    import cupy
    import torch

    index = torch.cuda.current_device() if device.index is None else device.index
    kernel = cupy.RawKernel(_EMPTY, "empty")

    def launch() -> None:
        stream = cupy.cuda.ExternalStream(torch.cuda.current_stream(index).cuda_stream, index)
        with cupy.cuda.Device(index), stream:
            kernel((1,), (1,), ())

    return launch


def _cuda_row(case: Case, ceilings: dict[str, float], runs: int) -> dict[str, Any]:
    p50, p95 = graph_us(case.launch, runs)
    twin = event_us(case.twin, runs)
    gb_per_s, tflop_per_s = case.bytes / p50 / 1e3, case.flops / p50 / 1e6
    return {
        "case": case.name,
        "n": runs,
        "p50_us": p50,
        "p95_us": p95,
        "empty_launches": p50 / ceilings["empty_launch_us"],
        "gb_per_s": gb_per_s,
        "copy_share": gb_per_s / ceilings["copy_gb_per_s"],
        "tflop_per_s": tflop_per_s,
        "matmul_share": tflop_per_s / ceilings["matmul_tflop_per_s"],
        "twin_p50_us": twin,
        "times_faster": twin / p50,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """See command.answer."""
    words = parser("kernels", __doc__)
    add_list(words, "--ops", str, OPS, f"of {', '.join(OPS)}")
    words.add_argument("--runs", type=int, default=RUNS, help="of each case")
    add_device(words)

    def columns(head: dict[str, Any], rows: list[dict[str, Any]]) -> Sequence[str]:
        return CUDA_COLUMNS if head["kernels_ran"] else CPU_COLUMNS

    more = {"ceilings": ("copy_gb_per_s", "matmul_tflop_per_s", "empty_launch_us")}
    return answer(words, argv, run, columns, more, kernel_bars)


if __name__ == "__main__":
    sys.exit(main())
