"""Eight bits a value where most of the time goes, for CPUs that multiply those faster than bfloat16.

What enters such a layer is rounded to 256 steps of a range that training faces were seen to fill, its
weights to 255 with a scale for each output channel. OpenVINO makes integer kernels of the two roundings;
torch only computes their effect. What speaks last stays as it is: the ways out, the linear path, and all
that is told of the condition.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ModelError
from .network import Network

__all__ = ["Ranges", "as_tensors", "from_tensors", "observed", "rounded"]

Ranges = dict[int, dict[str, tuple[float, float]]]
"""S -> name of a layer -> lowest and highest value that enters it."""

_Layer = nn.Conv2d | nn.Linear
_BLOCK = r"conv[12]"
_LAYERS = re.compile(
    rf"(stem|tail)\.\d+\.{_BLOCK}"
    r"|trunk\.(patchify|unpatchify|blocks\.\d+\.(attention\.(qkv|out)|mlp\.[02]))"
    rf"|ports\.(?P<size>\d+)\.(enter|down|up|blocks\.\d+\.{_BLOCK})"
)


def _layers(network: Network, size: int) -> dict[str, _Layer]:
    """Those of ``network`` to be rounded, of the ones that S = ``size`` runs through."""
    found = {}
    for name, module in network.named_modules():
        match = _LAYERS.fullmatch(name)
        if match and match["size"] in (None, str(size)):
            assert isinstance(module, nn.Conv2d | nn.Linear), name
            found[name] = module
    return found


class _Rounded(nn.Module):
    """A convolution or linear layer in 8 bits."""

    def __init__(self, layer: _Layer, low: float, high: float) -> None:
        super().__init__()
        self.layer = layer
        low, high = min(low, 0.0), max(high, 0.0)  # zero stays zero, or a border would show
        self.step = max((high - low) / 255, 1e-8)
        self.zero = round(-low / self.step)
        weight = layer.weight.detach()
        self.steps = weight.flatten(1).abs().amax(1).clamp_min(1e-8) / 127
        self.zeros = torch.zeros(len(weight), dtype=torch.int32)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.fake_quantize_per_tensor_affine(x, self.step, self.zero, 0, 255)
        layer = self.layer
        weight = torch.fake_quantize_per_channel_affine(layer.weight, self.steps, self.zeros, 0, -127, 127)
        if isinstance(layer, nn.Linear):
            return F.linear(x, weight, layer.bias)
        return F.conv2d(x, weight, layer.bias, layer.stride, layer.padding)


def rounded(network: Network, size: int, ranges: Mapping[str, tuple[float, float]]) -> Network:
    """A copy for S = ``size`` whose heavy layers round what they read, and their weights."""
    network = copy.deepcopy(network)
    for name, layer in _layers(network, size).items():
        network.set_submodule(name, _Rounded(layer, *ranges[name]))
    return network


@contextmanager
def observed(network: Network, size: int, seen: dict[str, tuple[float, float]]) -> Iterator[None]:
    """While it lasts, ``seen`` is widened to what enters the layers as ``network`` runs at S = ``size``."""

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            low, high = (float(v) for v in inputs[0].aminmax())
            before = seen.get(name, (low, high))
            seen[name] = min(low, before[0]), max(high, before[1])

        return hook

    hooks = [layer.register_forward_pre_hook(watch(name)) for name, layer in _layers(network, size).items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def as_tensors(ranges: Ranges) -> dict[str, Tensor]:
    """As a weights file keeps them: (low, high) under "S.layer"."""
    return {f"{size}.{name}": torch.tensor(v) for size, each in ranges.items() for name, v in each.items()}


def from_tensors(tensors: Mapping[str, Tensor], network: Network) -> Ranges:
    """``as_tensors`` back again; of none, none. Raises ModelError if they are not of ``network``."""
    if not tensors:
        return {}
    ranges: Ranges = {}
    for size in network.config.sizes:
        ranges[size] = {}
        for name in _layers(network, size):
            ranges[size][name] = _range(f"{size}.{name}", tensors)
    known = {f"{size}.{name}" for size, each in ranges.items() for name in each}
    if unknown := sorted(set(tensors) - known):
        raise ModelError(f"range {unknown[0]} is of no layer")
    return ranges


def _range(name: str, tensors: Mapping[str, Tensor]) -> tuple[float, float]:
    if name not in tensors:
        raise ModelError(f"range {name} is missing")
    value = tensors[name]
    if value.shape != (2,):
        raise ModelError(f"range {name} must be (2,), got {tuple(value.shape)}")
    low, high = value.tolist()
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ModelError(f"range {name} must be from low to high, got {low} to {high}")
    return low, high
