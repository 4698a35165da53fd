"""NVIDIA's compiler, through torch-tensorrt; what it has no operator for, torch runs.

Written after the source of torch-tensorrt 2.13; not run yet.
"""

from __future__ import annotations

import copy
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.export import ExportedProgram

from ...errors import DeviceError, ModelError
from .part import Run

__all__ = ["Coverage", "TensorRt"]

_TOTAL = re.compile(r"consists of (\d+) Total Operators, of which (\d+) operators are supported")
_UNSUPPORTED = re.compile(r"currently unsupported or excluded from conversion[^\n]*\n((?:[^\n]+: \d+\n)*)")
_OPERATOR = re.compile(r"^\s*(.+): (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Coverage:
    """Operators of a graph, how many of them TensorRT has, and which it has not, with their number."""

    total: int
    supported: int
    unsupported: dict[str, int]

    @classmethod
    def read(cls, report: str) -> Coverage:
        """What a dry run printed. Raises ModelError if it is of another form."""
        found = _TOTAL.search(report)
        if found is None:
            raise ModelError("torch-tensorrt's dry run reports in a form that is not known here")
        listed = _UNSUPPORTED.search(report)
        operators = _OPERATOR.findall(listed[1]) if listed is not None else []
        return cls(int(found[1]), int(found[2]), {name: int(count) for name, count in operators})

    def __str__(self) -> str:
        rest = ", ".join(f"{name} ({count})" for name, count in self.unsupported.items())
        return f"{self.supported} of {self.total} operators" + (f", torch runs {rest}" if rest else "")


class TensorRt:
    """For CUDA."""

    name = "tensorrt"
    file = "network.ep"

    def versions(self) -> dict[str, str]:
        try:
            return {name: metadata.version(name) for name in ("torch", "torch-tensorrt", "tensorrt")}
        except metadata.PackageNotFoundError as error:
            raise DeviceError(
                f"engine tensorrt needs {error.name}: pip install 'streamsr[tensorrt]'"
            ) from error

    def build(self, program: ExportedProgram, arguments: Sequence[Tensor], path: Path) -> str:
        import torch_tensorrt

        found = self.coverage(program, arguments)
        device = arguments[0].device
        compiled = torch_tensorrt.dynamo.compile(program, arg_inputs=list(arguments), device=device)
        torch_tensorrt.save(compiled, str(path), arg_inputs=list(arguments))
        return str(found)

    def coverage(self, program: ExportedProgram, arguments: Sequence[Tensor]) -> Coverage:
        """Of a dry run, which builds nothing; its report also goes to stdout."""
        import torch_tensorrt

        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder, "report.txt")
            torch_tensorrt.dynamo.compile(
                copy.deepcopy(program),  # which it changes
                arg_inputs=list(arguments),
                device=arguments[0].device,
                min_block_size=1,
                dryrun=str(report),
            )
            return Coverage.read(report.read_text(encoding="utf-8"))

    def load(self, path: Path, device: torch.device) -> Run:
        import torch_tensorrt  # noqa: F401 - the operator that runs engines

        return cast(Run, torch.export.load(path).module())
