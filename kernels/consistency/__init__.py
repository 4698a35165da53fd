"""Restored faces pasted into output frames on CUDA, projected onto the camera's px, with the certificate.

One pass over the frames, for all faces of a batch of them, whichever streams they are of.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...errors import KernelError
from ...fit import SCALES
from ..launch import VIEW, blocks, check, count, launch, view
from .faces import WORDS, Placed, block_px, table
from .reference import Pasted, Patches, certificate

__all__ = ["Pasted", "Patches", "Placed", "certificate", "paste", "table"]

SETS = 2  # of patches: as many sizes as the weights have
_PASTE = np.dtype(
    [
        *((name, VIEW) for name in ("base", "camera", "out")),
        ("residual", VIEW, SETS),
        ("mask", VIEW, SETS),
        ("faces", np.uint64),
        ("first", np.uint64),
        ("sums", np.uint64),
        ("words", np.int32),
    ],
    align=True,
)


def paste(
    base: Tensor,
    camera: Tensor,
    patches: Sequence[Patches],
    faces: Tensor,
    first: Tensor,
    scale: int,
    *,
    out: Pasted | None = None,
) -> Pasted:
    """``reference.paste``: faces and first, from ``table``, contiguous.

    out: to write into; out.out may be ``base`` itself, of which then only the px of faces change. Faces whose
    ``patches`` or ``index`` are not there lead outside of memory: nothing can check them here.
    Fastest where lines of base and out are packed and begin at multiples of four bytes.
    Raises KernelError for tensors that do not fit, DeviceError without CUDA or CuPy.
    """
    device, batch = base.device, count(base)
    if scale not in SCALES:
        raise KernelError(f"scale must be one of {SCALES}, got {scale}")
    check("camera", camera, (batch, None, None, 3), (torch.uint8,), device)
    height, width = camera.shape[1:3]
    shape = (batch, scale * height, scale * width, 3)
    check("base", base, shape, (torch.uint8,), device)
    check("faces", faces, (count(faces), WORDS), (torch.int32,), device, contiguous=True)
    check("first", first, (batch + 1,), (torch.int32,), device, contiguous=True)
    _check_patches(patches, device)
    if out is None:
        sums = torch.empty((batch, 4), dtype=torch.int64, device=device)
        out = Pasted(torch.empty(shape, dtype=torch.uint8, device=device), sums)
    check("out.out", out.out, shape, (torch.uint8,), device, written=True)
    check("out.sums", out.sums, (batch, 4), (torch.int64,), device, written=True, contiguous=True)
    if batch and out.out.data_ptr() == base.data_ptr() and out.out.stride() != base.stride():
        raise KernelError("out.out must be base itself or lie elsewhere")
    in_words = [base, out.out, camera] if scale == 1 else [base, out.out]
    values = (
        *(view(each) for each in (base, camera, out.out)),
        [view(patches[min(k, len(patches) - 1)].residual) for k in range(SETS)],
        [view(patches[min(k, len(patches) - 1)].mask) for k in range(SETS)],
        *(each.data_ptr() for each in (faces, first, out.sums)),
        all(_in_words(each) for each in in_words),
    )
    out.sums.zero_()
    threads = -(-shape[1] // block_px(scale)) * -(-shape[2] // max(scale, 4))
    launch("consistency", f"paste_{scale}", (blocks(threads), batch, 1), np.array(values, _PASTE), device)
    return out


def _check_patches(patches: Sequence[Patches], device: torch.device) -> None:
    if not 0 < len(patches) <= SETS:
        raise KernelError(f"patches must be 1 to {SETS} sets, got {len(patches)}")
    for residual, mask in patches:
        check("residual", residual, (None, None, None, 3), (torch.float32,), device)
        check("mask", mask, residual.shape[:3], (torch.float32,), device)
        if residual.shape[1] != residual.shape[2]:
            raise KernelError(f"residual must be square, got {tuple(residual.shape)}")


def _in_words(picture: Tensor) -> bool:
    """Whether lines of (B, H, W, 3) uint8 are packed and begin at multiples of four bytes."""
    steps = (picture.data_ptr(), picture.stride(0), picture.stride(1))
    return picture.stride()[2:] == (3, 1) and all(step % 4 == 0 for step in steps)
