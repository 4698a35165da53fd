"""Restorers that the user names, beside streamsr and the baselines in the same run.

    --peer NAME=FILE       of whole frames: (1, 3, H, W) -> (1, 3, kH, kW), any k
    --face-peer NAME=FILE  of aligned faces: (1, 3, 512, 512) -> (1, 3, S, S), any S

Float32 RGB in [0, 1], in and out. A whole-frame network with another k than the run's scale is resized
by areas or bicubic weights; with k = 1 it sees the bicubic enlargement. A face network sees the face
aligned by the clean picture's own landmarks (better than any tracker finds them), to FFHQ's five
points, and its change is pasted back through streamsr's own mask.
FILE: .onnx or OpenVINO's .xml (run by OpenVINO), .pt, .pth or .torchscript, or ncnn's .param with the
.bin of the same name beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from streamsr.errors import ConfigError
from streamsr.face.alignment import crop_aligned
from streamsr.face.background import upscale
from streamsr.face.composite import paste_residual
from streamsr.face.mask import face_mask

from .baselines import bicubic
from .face_truth import FaceTruth

__all__ = ["FacePeer", "FramePeer", "load_network", "named_files"]

FACE_PX = 512
Network = Callable[[np.ndarray], np.ndarray]  # (1, 3, H, W) float32 -> (1, 3, h, w)


class FramePeer:
    """A whole-frame network as an Upscaler: (low, scale) -> (scale H, scale W, 3) uint8."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self._network = name, load_network(path)
        self._enlarges: bool | None = None

    def __call__(self, low: np.ndarray, scale: int) -> np.ndarray:
        """Raises ConfigError for a network of another contract."""
        height, width = low.shape[0] * scale, low.shape[1] * scale
        if self._enlarges is False:
            return run(self.name, self._network, bicubic(low, scale), (height, width))
        found = _evaluate(self.name, self._network, low)
        if self._enlarges is None:
            self._enlarges = found.shape[0] > low.shape[0]
            if not self._enlarges and scale > 1:
                return self(low, scale)
        return _resized(found, (height, width))


class FacePeer:
    """A network of aligned faces, and the pasting around it."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self._network = name, load_network(path)

    def enhance(self, low: np.ndarray, scale: int, faces: Sequence[FaceTruth]) -> np.ndarray:
        """(H, W, 3) uint8 -> (scale H, scale W, 3). faces: in the clean picture, in its px."""
        out = upscale(low, scale)
        for face in faces:
            seen = face.reduced(scale)
            x_in = crop_aligned(low, seen.matrix, FACE_PX)
            x_hat = run(self.name, self._network, x_in, (FACE_PX, FACE_PX))
            residual = x_hat.astype(np.float32) - x_in
            mask = face_mask(seen.landmarks, seen.matrix, FACE_PX)
            paste_residual(out, residual, mask, seen.matrix, scale)
        return out


def run(name: str, network: Network, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``network`` on (H, W, 3) uint8 RGB; the result as uint8 of ``size`` (height, width)."""
    return _resized(_evaluate(name, network, image), size)


def _evaluate(name: str, network: Network, image: np.ndarray) -> np.ndarray:
    planes = np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32) / 255
    found = np.asarray(network(planes))
    if found.ndim != 4 or found.shape[:2] != (1, 3):
        raise ConfigError(f"peer {name} must give (1, 3, H, W), got {found.shape} for {planes.shape}")
    return np.rint(found[0].transpose(1, 2, 0).astype(np.float32) * 255).clip(0, 255).astype(np.uint8)


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if image.shape[:2] == size:
        return image
    method = cv2.INTER_AREA if image.shape[0] > size[0] else cv2.INTER_CUBIC
    return cv2.resize(image, size[::-1], interpolation=method)


def named_files(given: Sequence[str], option: str) -> dict[str, Path]:
    """ "NAME=FILE" of every one given. Raises ConfigError."""
    named: dict[str, Path] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not (name and equals and path) or name in named:
            raise ConfigError(f"{option} must be NAME=FILE, each name once, got {text}")
        named[name] = Path(path)
    return named


def load_network(path: Path) -> Network:
    """Raises ConfigError for a file that is missing, of an unknown kind, or unreadable."""
    loaders = {
        ".onnx": _openvino,
        ".xml": _openvino,
        ".pt": _torchscript,
        ".pth": _torchscript,
        ".torchscript": _torchscript,
        ".param": _ncnn,
    }
    if path.suffix not in loaders:
        raise ConfigError(f"a peer must be one of {', '.join(loaders)}, got {path}")
    if not path.is_file():
        raise ConfigError(f"no peer {path}")
    return loaders[path.suffix](path)


def _openvino(path: Path) -> Network:
    import openvino

    core = openvino.Core()
    try:
        model = core.read_model(path)
        compiled = core.compile_model(model, "CPU")
    except RuntimeError as error:
        raise ConfigError(f"OpenVINO cannot read {path}: {_last_line(error)}") from error

    def evaluate(planes: np.ndarray) -> np.ndarray:
        try:
            return compiled(planes)[0]
        except RuntimeError as error:
            raise ConfigError(f"{path} does not take {planes.shape}: {_last_line(error)}") from error

    return evaluate


def _torchscript(path: Path) -> Network:
    import torch

    try:
        network = torch.jit.load(str(path), map_location="cpu").eval()
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"{path} is no TorchScript file: {_last_line(error)}") from error

    def evaluate(planes: np.ndarray) -> np.ndarray:
        try:
            with torch.inference_mode():
                return network(torch.from_numpy(planes)).float().numpy()
        except (RuntimeError, AttributeError) as error:
            raise ConfigError(f"{path} does not take {planes.shape}: {_last_line(error)}") from error

    return evaluate


def _ncnn(path: Path) -> Network:
    try:
        import ncnn
    except ImportError as error:
        raise ConfigError(f"{path} needs ncnn: pip install ncnn") from error
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise ConfigError(f"no {weights.name} beside {path}")
    net = ncnn.Net()
    if net.load_param(str(path)) or net.load_model(str(weights)):
        raise ConfigError(f"ncnn cannot read {path}")

    def evaluate(planes: np.ndarray) -> np.ndarray:
        extractor = net.create_extractor()
        extractor.input(net.input_names()[0], ncnn.Mat(planes[0]).clone())
        failed, found = extractor.extract(net.output_names()[0])
        if failed:
            raise ConfigError(f"{path} does not take {planes.shape}")
        return np.array(found)[None]

    return evaluate


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
