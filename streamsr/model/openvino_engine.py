"""The engine of CPUs: the torch modules, traced once and compiled by OpenVINO.

It fuses what torch runs one operation after another, keeps bfloat16 convolutions at the processor's
peak, and shares the work among its threads without waiting for one that has lost its core.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import DeviceError
from .coding import STATISTICS
from .engine import SIZES_PX, Precision
from .guide import Guide, Reading, template_mask
from .network import EMBEDDED, Condition, Network, sampling_phase

__all__ = ["OpenVinoEngine", "load_openvino"]


def load_openvino() -> Any:
    """The library, without the reports of use that importing it would send to its makers.

    Raises DeviceError where it does not load.
    """
    reports = "openvino_telemetry"
    before = sys.modules.get(reports)
    sys.modules[reports] = None  # type: ignore[assignment]  # its import fails, as where it is missing
    try:
        import openvino
        import openvino.frontend.pytorch.ts_decoder
    except ImportError as error:
        raise DeviceError(f"device cpu needs openvino, which does not load: {error}") from error
    finally:
        del sys.modules[reports]
        if before is not None:
            sys.modules[reports] = before
    return openvino


class OpenVinoEngine:
    """threads: of its own, beside the caller's. precision: by default bf16 where the processor computes
    in it, else f32, which is faster there. Raises DeviceError."""

    device = torch.device("cpu")

    def __init__(
        self, network: Network, guide: Guide, threads: int, precision: Precision | None = None
    ) -> None:
        openvino = load_openvino()
        core = openvino.Core()
        has_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.precision: Precision = precision or ("bf16" if has_bf16 else "f32")
        self._guides: dict[int, _Graph] = {}
        self._networks: dict[int, _Graph] = {}
        for size in SIZES_PX:
            picture, cells = (1, size, size, 3), (1, size // 4, size // 4)
            self._guides[size] = _Graph(
                openvino, core, _GuideOf(guide, size), [picture, (1,), (1, STATISTICS)], "f32", threads
            )
            shapes = [picture, picture, (*cells, 3), (1, EMBEDDED), (*cells, 8)]
            self._networks[size] = _Graph(
                openvino, core, _NetworkOf(network, size), shapes, self.precision, threads
            )

    def read(self, x_in: Tensor, native: Tensor, coding: Tensor) -> tuple[Reading, Tensor]:
        run = self._guides[x_in.shape[-1]]
        pictures = _channels_last(x_in)
        rows = [run(*row) for row in zip(pictures.split(1), native.split(1), coding.split(1), strict=True)]
        bands, sigma_y, quantiser, energy = (torch.cat(column) for column in zip(*rows, strict=True))
        return Reading(bands, sigma_y, quantiser), energy

    def evaluate(self, x_t: Tensor, x_in: Tensor, y: Tensor, condition: Condition) -> Tensor:
        size = x_in.shape[-1]
        run = self._networks[size]
        phase = sampling_phase(condition.camera, (size, size))
        pictures = [_channels_last(v).split(1) for v in (x_t, x_in, y)]
        told, phases = condition.embedded().split(1), _channels_last(phase).split(1)
        # face by face: a batch takes no less time here, and would need a graph for every count
        residuals = [run(*face)[0] for face in zip(*pictures, told, phases, strict=True)]
        whole = residuals[0] if len(residuals) == 1 else torch.cat(residuals)
        return whole.permute(0, 3, 1, 2)


class _Graph:
    """A module on inputs of fixed shapes, compiled."""

    def __init__(
        self,
        openvino: Any,
        core: Any,
        module: nn.Module,
        shapes: Sequence[tuple[int, ...]],
        precision: Precision,
        threads: int,
    ) -> None:
        example = tuple(torch.zeros(shape) for shape in shapes)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # of shapes: they are fixed here
            warnings.simplefilter("ignore", DeprecationWarning)  # torch.export does it in four times as long
            traced = torch.jit.trace(module.eval(), example, check_trace=False)
            decoder = openvino.frontend.pytorch.ts_decoder.TorchScriptPythonDecoder(
                traced, example_input=example
            )
            frontend = openvino.frontend.FrontEndManager().load_by_framework("pytorch")
            model = frontend.convert(frontend.load(decoder))
        model.reshape({i: list(shape) for i, shape in enumerate(shapes)})
        options = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }
        self._tensor = openvino.Tensor
        self._request = core.compile_model(model, "CPU", options).create_infer_request()
        self._outputs = [tuple(port.shape) for port in self._request.model_outputs]

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        outputs = [np.empty(shape, np.float32) for shape in self._outputs]
        for i, value in enumerate(inputs):
            array = np.ascontiguousarray(value.numpy(), np.float32)
            self._request.set_input_tensor(i, self._tensor(array, shared_memory=True))
        for i, array in enumerate(outputs):
            self._request.set_output_tensor(i, self._tensor(array, shared_memory=True))
        self._request.infer()
        return [torch.from_numpy(array) for array in outputs]


class _GuideOf(nn.Module):
    """The guide on pictures with channels last; its reading field by field, then the energy."""

    def __init__(self, guide: Guide, size: int) -> None:
        super().__init__()
        self.guide, self.mask = guide, template_mask(size // 4)

    def forward(self, x_in: Tensor, native: Tensor, coding: Tensor) -> tuple[Tensor, ...]:
        reading, energy = self.guide.read_with_energy(x_in.permute(0, 3, 1, 2), native, coding, self.mask)
        return (*reading, energy)


class _NetworkOf(nn.Module):
    """``Network.evaluate`` on pictures with channels last."""

    def __init__(self, network: Network, size: int) -> None:
        super().__init__()
        self.network, self.size = network, size

    def forward(self, x_t: Tensor, x_in: Tensor, y: Tensor, embedded: Tensor, phase: Tensor) -> Tensor:
        x_t, x_in, y, phase = (v.permute(0, 3, 1, 2) for v in (x_t, x_in, y, phase))
        predicted = self.network.evaluate(x_t, x_in, y, embedded, phase, size=self.size)
        return predicted.residual.permute(0, 2, 3, 1)


def _channels_last(pictures: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H, W, C): no copy if they lie so in memory."""
    return pictures.permute(0, 2, 3, 1)
