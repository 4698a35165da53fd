"""Modules compiled by OpenVINO: shared by the engines of a process, and kept on disk for later ones.

To trace a network and compile it takes seconds; to read back what came of it, a tenth of that.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ConfigError, DeviceError
from ..machine import cpu_flags
from .compiled.cache import EngineCache, Kept
from .engine import Precision
from .weights import Weights

__all__ = ["Graph", "Graphs", "load_openvino"]

FILE = "network.blob"
_SOURCES = ("guide", "int8", "network", "openvino_engine", "openvino_graph", "ports", "weights")
_in_use: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
"""What engines of this process have compiled and still hold, for others of the same weights."""
_compiling = threading.Lock()  # torch traces for one thread at a time; two that want the same compile it once

_log = logging.getLogger(__name__)


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
        import openvino.passes
    except ImportError as error:
        raise DeviceError(f"device cpu needs openvino, which does not load: {error}") from error
    finally:
        del sys.modules[reports]
        if before is not None:
            sys.modules[reports] = before
    return openvino


class Graphs:
    """Those of one file of weights. threads: of each, beside the caller's. kept: by default the user's cache;
    where there can be none, everything is compiled anew. Raises DeviceError."""

    def __init__(self, weights: Weights, threads: int, kept: EngineCache | None = None) -> None:
        self._openvino = load_openvino()
        self.core = self._openvino.Core()
        self._content, self._threads = _content_of(weights), threads
        self._kept = _users_cache() if kept is None else kept

    def graph(
        self,
        part: float | str,
        size: int,
        precision: Precision,
        module: Callable[[], nn.Module],
        shapes: Sequence[tuple[int, ...]],
        plain: Precision,
    ) -> Graph:
        """Of ``module``, which is made only if there is something to compile. part, size, precision: what it
        is of these weights. shapes: of its inputs. plain: the precision of what is not in int8."""
        key = {
            "engine": "openvino",
            "weights": self._content,
            "part": str(part),
            "size": size,
            "precision": precision,
            "plain": plain,
            "shapes": str(list(shapes)),
            "threads": self._threads,
            **_versions(),
            "openvino": self._openvino.get_version(),
        }
        options = {
            "INFERENCE_PRECISION_HINT": plain,
            "INFERENCE_NUM_THREADS": self._threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }
        name = json.dumps(key)
        with _compiling:
            compiled = _in_use.get(name)
            if compiled is None:
                compiled = self._read_back(key, options)
            if compiled is None:
                began = time.monotonic()
                model = _converted(self._openvino, module(), shapes)
                compiled = self.core.compile_model(model, "CPU", options)
                self._keep(key, compiled, time.monotonic() - began)
            _in_use[name] = compiled
        return Graph(self._openvino, compiled)

    def _read_back(self, key: Mapping[str, str | int], options: Mapping[str, Any]) -> Any:
        """What was compiled before; None: nothing."""
        kept: Kept | None = None if self._kept is None else self._kept.find(key)
        if self._kept is None or kept is None:
            return None
        try:
            blob = np.fromfile(kept.path, np.uint8)
            return self.core.import_model(self._openvino.Tensor(blob), "CPU", options)
        except (OSError, RuntimeError) as error:
            self._kept.remove(kept, error)
            return None

    def _keep(self, key: Mapping[str, str | int], compiled: Any, build_s: float) -> None:
        if self._kept is None:
            return
        try:
            with self._kept.begun() as folder:
                (folder / FILE).write_bytes(compiled.export_model().getbuffer())
                self._kept.keep(folder, key, FILE, "", build_s)
        except OSError as error:
            _log.warning("a compiled network could not be kept in %s: %s", self._kept.folder, error.strerror)


class Graph:
    """A compiled model, for one thread."""

    def __init__(self, openvino: Any, compiled: Any) -> None:
        self._tensor, self._compiled = openvino.Tensor, compiled  # while it is held, others find it
        self._request = compiled.create_infer_request()
        self._outputs = [tuple(port.shape) for port in self._request.model_outputs]

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        outputs = [np.empty(shape, np.float32) for shape in self._outputs]
        arrays = [np.ascontiguousarray(value.numpy(), np.float32) for value in inputs]
        for i, array in enumerate(arrays):  # which it shares, and does not keep alive
            self._request.set_input_tensor(i, self._tensor(array, shared_memory=True))
        for i, array in enumerate(outputs):
            self._request.set_output_tensor(i, self._tensor(array, shared_memory=True))
        self._request.infer()
        return [torch.from_numpy(array) for array in outputs]


def _converted(openvino: Any, module: nn.Module, shapes: Sequence[tuple[int, ...]]) -> Any:
    """A module on inputs of fixed shapes, as OpenVINO's Model."""
    example = tuple(torch.zeros(shape) for shape in shapes)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # of shapes: they are fixed here
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.export does it in four times as long
        traced = torch.jit.trace(module.eval(), example, check_trace=False)
        decoder = openvino.frontend.pytorch.ts_decoder.TorchScriptPythonDecoder(traced, example_input=example)
        frontend = openvino.frontend.FrontEndManager().load_by_framework("pytorch")
        model = frontend.convert(frontend.load(decoder))
    model.reshape({i: list(shape) for i, shape in enumerate(shapes)})
    passes = openvino.passes.Manager()
    passes.register_pass(openvino.passes.ConstantFolding())  # int8 needs its ranges as constants
    passes.run_passes(model)
    return model


def _content_of(weights: Weights) -> str:
    """Of the values themselves: those of a file may have been changed since it was read."""
    digest = hashlib.sha256(repr((weights.network.config, weights.ranges)).encode())
    for tensors in (weights.network.state_dict(), weights.guide.state_dict(), weights.change):
        for name, tensor in sorted(tensors.items()):
            digest.update(name.encode())
            digest.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


@cache
def _users_cache() -> EngineCache | None:
    try:
        return EngineCache()
    except ConfigError as error:
        _log.info("compiled networks are not kept: %s", str(error))  # its frames hold an engine
        return None


@cache
def _versions() -> dict[str, str]:
    """All that a compiled network depends on beside its weights."""
    sources = b"".join(Path(__file__).with_name(f"{name}.py").read_bytes() for name in _SOURCES)
    return {
        "torch": torch.__version__,
        "sources": hashlib.sha256(sources).hexdigest(),
        "device": " ".join(sorted(cpu_flags())),
    }
