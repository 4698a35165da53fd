"""Compiling a kernel's source with CuPy, and launching it on torch's current stream.

Nothing is allocated and nothing waits: a launch may be captured in a CUDA graph once the kernel is loaded,
which its first launch does (NVRTC, a second or two; CuPy keeps the result in ~/.cupy/kernel_cache).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DeviceError, KernelError

__all__ = ["THREADS", "VIEW", "blocks", "check", "count", "launch", "suffix", "view"]

THREADS = 256  # of a block
_FOLDER = Path(__file__).parent
OPTIONS = ("-std=c++17", f"-I{_FOLDER}")  # of NVRTC
_MOST_BLOCKS = (2**31 - 1, 65535, 65535)

# common.cuh's View
VIEW = np.dtype([("data", np.uint64), ("stride", np.int64, 4), ("size", np.int32, 4)], align=True)

_SUFFIXES = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}

Grid = tuple[int, int, int]


def view(tensor: Tensor) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """``tensor``, of at most four dimensions, as a value for VIEW; the missing ones come last, of size 1."""
    missing = 4 - tensor.ndim
    return tensor.data_ptr(), tensor.stride() + (0,) * missing, tuple(tensor.shape) + (1,) * missing


def count(tensor: Tensor) -> int:
    """Of the first dimension; 0 where there is none, which ``check`` then refuses."""
    return len(tensor) if tensor.ndim else 0


def suffix(dtype: torch.dtype) -> str:
    """Of the names of kernels that exist for several dtypes: f32, f16, bf16."""
    return _SUFFIXES[dtype]


def blocks(threads: int) -> int:
    """How many of THREADS each make ``threads``. Raises KernelError where that is too many of one picture."""
    if threads >= 2**31 - THREADS:
        raise KernelError(f"a kernel takes less than 2^31 threads for one picture, got {threads}")
    return -(-threads // THREADS)


def check(
    name: str,
    tensor: Tensor,
    shape: Sequence[int | None],
    dtypes: Sequence[torch.dtype],
    device: torch.device,
    *,
    written: bool = False,
    contiguous: bool = False,
) -> None:
    """Raise KernelError unless ``tensor`` is on ``device``, of one of ``dtypes`` and of this shape.

    None in the shape: any size but 0. written: it must also not overlap itself. contiguous: it must be.
    """
    fits = tensor.ndim == len(shape) and all(
        m > 0 if n is None else n == m for n, m in zip(shape, tensor.shape, strict=True)
    )
    if not fits or tensor.dtype not in dtypes or tensor.device != device:
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        kinds = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise KernelError(
            f"{name} must be ({wanted}) {kinds} on {device}, got {tuple(tensor.shape)} "
            f"{str(tensor.dtype).removeprefix('torch.')} on {tensor.device}"
        )
    if written and any(step == 0 and n > 1 for step, n in zip(tensor.stride(), tensor.shape, strict=True)):
        raise KernelError(f"{name} is written: it must not overlap itself, as an expanded tensor does")
    if contiguous and not tensor.is_contiguous():
        raise KernelError(f"{name} must be contiguous, got strides {tensor.stride()}")


def launch(op: str, kernel: str, grid: Grid, arguments: np.ndarray, device: torch.device) -> None:
    """Run ``kernel`` of kernels/<op>/<op>.cu on ``device``, in blocks of THREADS; arguments: its one struct.

    A grid without blocks is nothing to do. Raises DeviceError where ``device`` is no CUDA device or there is
    no CuPy, KernelError where the kernel cannot be compiled or launched.
    """
    if 0 in grid:
        return
    if any(n > most for n, most in zip(grid, _MOST_BLOCKS, strict=True)):
        raise KernelError(f"{op} takes at most {_MOST_BLOCKS} blocks, got {grid}")
    runner = RUNNERS.get(device.type)
    if runner is None:
        raise DeviceError(f"kernel {op} runs on CUDA tensors, got tensors on {device}")
    runner(op, kernel, grid, arguments, device)


def _run_on_cuda(op: str, kernel: str, grid: Grid, arguments: np.ndarray, device: torch.device) -> None:
    cupy = _cupy()
    index = torch.cuda.current_device() if device.index is None else device.index
    stream = cupy.cuda.ExternalStream(torch.cuda.current_stream(index).cuda_stream, index)
    try:
        with cupy.cuda.Device(index), stream:
            _function(op, kernel, index)(grid, (THREADS, 1, 1), (arguments,))
    except (cupy.cuda.driver.CUDADriverError, cupy.cuda.runtime.CUDARuntimeError) as error:
        raise KernelError(f"kernel {kernel} of {op} cannot be launched: {error}") from error


# what runs a kernel on each type of device
RUNNERS: dict[str, Callable[[str, str, Grid, np.ndarray, torch.device], None]] = {"cuda": _run_on_cuda}


@functools.cache
def _cupy() -> Any:
    try:
        import cupy
        import cupy.cuda.compiler
    except ImportError as error:
        raise DeviceError(f"CUDA kernels need cupy: pip install 'streamsr[cuda]' ({error})") from error
    return cupy


@functools.cache
def _module(op: str) -> Any:
    """kernels/<op>/<op>.cu, compiled when a kernel of it is asked for."""
    header = hashlib.sha256((_FOLDER / "common.cuh").read_bytes()).hexdigest()
    return _cupy().RawModule(
        code=(_FOLDER / op / f"{op}.cu").read_text(encoding="utf-8"),
        options=(*OPTIONS, f"-DHEADER={header[:16]}"),  # CuPy's cache looks at options, not at headers
    )


@functools.cache
def _function(op: str, kernel: str, index: int) -> Any:
    """``kernel``, compiled for and loaded on the current device, ``index``."""
    if torch.cuda.is_current_stream_capturing():
        raise KernelError(f"kernel {kernel} of {op} must be launched once before it is captured in a graph")
    try:
        return _module(op).get_function(kernel)
    except _cupy().cuda.compiler.CompileException as error:
        raise KernelError(f"kernel {kernel} of {op} cannot be compiled: {error}") from error
