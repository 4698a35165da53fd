"""The process that builds one compiled network: ``python -m streamsr.model.compiled.process``.

In: a line of JSON, the job. Out: a line, {"failed": null}, or why. It gives way to all others, and ends with
its parent. What it built stands in the cache then.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import ModelError
from ...interpreter import dies_with_parent
from ..engine import Precision
from ..weights import load_weights
from .cache import EngineCache
from .inductor import Inductor
from .part import Compiler, Part, Run, example, network_of
from .tensorrt import TensorRt

__all__ = ["COMPILERS", "Job"]

COMPILERS: dict[str, type[Compiler]] = {"inductor": Inductor, "tensorrt": TensorRt}
NICENESS = 10
ERROR_AGAINST_EAGER = 2.0  # of eager's own error against f32
LEAST_ERROR = 1e-3  # of the residual's size: nothing is exact


@dataclass(frozen=True)
class Job:
    engine: str
    weights: str
    device: str
    precision: Precision
    part: Part
    key: dict[str, Any]
    cache: str
    limit_bytes: int


def main() -> int:
    dies_with_parent()
    os.nice(NICENESS)
    say = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # compilers talk
    told = json.loads(sys.stdin.readline())
    job = Job(**{**told, "part": Part(*told["part"])})
    failed = None
    try:
        build(job)
    except Exception as error:  # the boundary of the process: whatever a compiler raises
        failed = f"{type(error).__name__}: {error}"
        raise
    finally:
        print(json.dumps({"failed": failed}), file=say)
    return 0


def build(job: Job) -> None:
    """Raises ModelError for one that computes something else; else what its compiler raises."""
    weights, compiler = load_weights(Path(job.weights)), COMPILERS[job.engine]()
    device = torch.device(job.device)
    if weights.sha256 != job.key["weights"]:
        raise ModelError(f"weights {weights.path.name} were replaced meanwhile")
    cache = EngineCache(Path(job.cache), job.limit_bytes)
    arguments = example(job.part, weights.network.config, weights.description.recurrent, device)
    with cache.begun() as folder, torch.no_grad():
        module, began = network_of(weights, job.part, job.precision, device), time.monotonic()
        program = torch.export.export(module, tuple(arguments))
        said = compiler.build(program, arguments, folder / compiler.file)
        exact = network_of(weights, job.part, "f32", device)
        _compare(compiler.load(folder / compiler.file, device), module, exact, arguments)
        cache.keep(folder, job.key, compiler.file, said, time.monotonic() - began)


def _compare(run: Run, eager: Run, exact: Run, arguments: Sequence[Tensor]) -> None:
    """Raises ModelError if ``run`` errs more than twice as much as ``eager`` does."""
    wanted = exact(*arguments)
    for of, found, plain, right in zip(
        ("residual", "features"), run(*arguments), eager(*arguments), wanted, strict=False
    ):
        error, allowed = _rms(found - right), ERROR_AGAINST_EAGER * _rms(plain - right)
        if not error <= max(allowed, LEAST_ERROR * _rms(right)):
            raise ModelError(f"what was built errs: {of} by {error:.2g} rms, eager by {allowed / 2:.2g}")


def _rms(x: Tensor) -> float:
    return float(x.float().square().mean().sqrt())


if __name__ == "__main__":
    raise SystemExit(main())
