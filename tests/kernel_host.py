"""The kernels' own sources, compiled by g++ behind kernel_host.h and run on CPU tensors."""

from __future__ import annotations

import ctypes
import functools
import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch

from streamsr.kernels import launch

__all__ = ["FOLDER", "OPS", "build", "run", "run_backwards"]

FOLDER = Path(launch.__file__).parent
OPS = sorted(path.stem for path in FOLDER.glob("*/*.cu"))

HEADER = Path(__file__).with_name("kernel_host.h")
FLAGS = ["-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-I{FOLDER}"]
FLAGS += ["-Wno-unknown-pragmas"]  # unroll
_KERNEL = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\([^)]*\) )?(\w+)\((\w+) \w+\)')
_scratch = tempfile.TemporaryDirectory(prefix="streamsr-kernels-")


@functools.cache
def build(op: str) -> ctypes.CDLL:
    """kernels/<op>/<op>.cu as a library: launch_<kernel> for each of its kernels, and size_<kernel>.

    Fails at the first warning.
    """
    source = FOLDER / op / f"{op}.cu"
    text = source.read_text(encoding="utf-8")
    kernels = _KERNEL.findall(text)
    assert len(kernels) == text.count("__global__") > 0, "a kernel is declared in a way this does not know"
    barriers = "true" if "__syncthreads" in text else "false"
    lines = [f'#include "{HEADER}"', f'#include "{source}"']
    for name, struct in kernels:
        lines.append(
            f'extern "C" void launch_{name}(const unsigned *grid, unsigned threads, const void *arguments, '
            f"bool backwards) {{ host::launch<{struct}, {name}>(grid, threads, arguments, {barriers}, "
            f"backwards); }}\n"
            f'extern "C" size_t size_{name}() {{ return sizeof({struct}); }}'
        )
    folder = Path(_scratch.name)
    unit, library = folder / f"{op}.cpp", folder / f"{op}.so"
    unit.write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = subprocess.run(
        ["g++", *FLAGS, str(unit), "-o", str(library)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(library))


def run(
    op: str,
    kernel: str,
    grid: tuple[int, int, int],
    arguments: np.ndarray,
    device: torch.device,
    backwards: bool = False,
) -> None:
    """As ``launch.RUNNERS`` does for a GPU, on CPU tensors."""
    assert device.type == "cpu"
    library = build(op)
    assert library[f"size_{kernel}"]() == arguments.nbytes, "the struct differs from its dtype"
    library[f"launch_{kernel}"](
        (ctypes.c_uint * 3)(*grid),
        ctypes.c_uint(launch.THREADS),
        ctypes.c_void_p(arguments.ctypes.data),
        ctypes.c_bool(backwards),
    )


def run_backwards(
    op: str, kernel: str, grid: tuple[int, int, int], arguments: np.ndarray, device: torch.device
) -> None:
    """``run`` with blocks and threads in the opposite order."""
    run(op, kernel, grid, arguments, device, backwards=True)
