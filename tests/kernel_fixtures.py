"""What the tests of all kernels share: where they run, memory laid out oddly, and how far off they may be."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from kernel_host import run, run_backwards
from torch import Tensor

from streamsr.kernels import launch

__all__ = ["LAYOUTS", "Framed", "assert_as_good", "moved", "place"]


@pytest.fixture(
    params=[
        pytest.param("cpu", id="host"),
        pytest.param("backwards", id="backwards"),
        pytest.param("cuda", marks=pytest.mark.cuda),
    ]
)
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """The device whose tensors the launchers take: on a CPU they run the host's build of the kernels."""
    if request.param == "cuda":
        return torch.device("cuda", torch.cuda.current_device())
    monkeypatch.setitem(launch.RUNNERS, "cpu", run_backwards if request.param == "backwards" else run)
    return torch.device("cpu")


def moved(x: Tensor, device: torch.device) -> Tensor:
    """``x`` there, with the same strides: with its gaps, and expanded if it was."""
    memory = torch.empty(0, dtype=x.dtype).set_(x.untyped_storage())
    return memory.to(device).as_strided(x.shape, x.stride(), x.storage_offset())


class Framed:
    """A tensor with gaps between its px, in the middle of memory that nobody may read or write."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
        self._outside = 93 if dtype in (torch.uint8, torch.int32) else float("nan")
        sides = [n + 2 for n in shape[:-1]] + [2 * shape[-1] + 3]
        self._memory = torch.full(sides, self._outside, dtype=dtype, device=device)
        self.inside = self._part(self._memory)

    @staticmethod
    def _part(memory: Tensor) -> Tensor:
        return memory[(*(slice(1, -1) for _ in memory.shape[:-1]), slice(1, -2, 2))]

    @classmethod
    def of(cls, x: Tensor) -> Tensor:
        framed = cls(tuple(x.shape), x.dtype, x.device)
        framed.inside.copy_(x)
        return framed.inside

    def assert_outside_untouched(self) -> None:
        rest = self._memory.clone()
        self._part(rest).fill_(self._outside)
        assert torch.equal(rest.nan_to_num(7.0), torch.full_like(rest, self._outside).nan_to_num(7.0)), (
            "something was written beside the tensor"
        )


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x.contiguous(),
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "framed": Framed.of,
}


def assert_as_good(got: Tensor, twin: Tensor, exact: Tensor) -> None:
    """``got`` is at most twice as far from ``exact`` (float64) as ``twin``, of the same precision, is.

    Where the twin happens to be exact, one last place of the largest value is allowed.
    """
    assert got.shape == twin.shape == exact.shape
    assert got.dtype == twin.dtype
    if not got.numel():
        return
    assert got.isfinite().all()
    last_place = torch.finfo(got.dtype).eps * float(exact.abs().max())
    for norm in (torch.inf, 2):
        error, allowed = (
            float(torch.linalg.vector_norm((each.double() - exact).flatten(), norm)) for each in (got, twin)
        )
        assert error <= 2 * allowed + last_place, f"error {error:.3g}, the twin's {allowed:.3g} (norm {norm})"
