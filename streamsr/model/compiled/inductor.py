"""Torch's own compiler, ahead of time: AOTInductor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.export import ExportedProgram

from .part import Run

__all__ = ["Inductor"]


class Inductor:
    """For CUDA, and for CPUs where there is a C++ compiler."""

    name = "inductor"
    file = "network.pt2"

    def versions(self) -> dict[str, str]:
        return {"torch": torch.__version__}

    def build(self, program: ExportedProgram, arguments: Sequence[Tensor], path: Path) -> str:
        torch._inductor.aoti_compile_and_package(program, package_path=str(path))
        return ""

    def load(self, path: Path, device: torch.device) -> Run:
        index = -1 if device.index is None else device.index
        # one thread uses it; what it does for several, no CUDA graph can hold
        loaded = torch._inductor.aoti_load_package(str(path), run_single_threaded=True, device_index=index)
        return cast(Run, loaded)
