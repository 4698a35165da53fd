"""What a restorer has to beat: interpolation, arithmetic, and small networks others published.

Each baseline is a function (low: (H, W, 3) uint8 RGB, scale) -> (scale H, scale W, 3) uint8 RGB.
The networks come from a data folder: ``peers/FSRCNN_x2.pb`` and so on (OpenCV's dnn_superres).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from streamsr.errors import ConfigError

from .luma import area_down

__all__ = ["PEERS", "Upscaler", "back_projection", "baselines", "bicubic", "lanczos", "load_peer"]

Upscaler = Callable[[np.ndarray, int], np.ndarray]

BACK_PROJECTIONS = 10
PEERS = ("fsrcnn", "espcn")


def bicubic(low: np.ndarray, scale: int) -> np.ndarray:
    """OpenCV's bicubic (a = -0.75, pixel centres aligned)."""
    return _resize(low, scale, cv2.INTER_CUBIC)


def lanczos(low: np.ndarray, scale: int) -> np.ndarray:
    """OpenCV's Lanczos over 8x8 px."""
    return _resize(low, scale, cv2.INTER_LANCZOS4)


def back_projection(low: np.ndarray, scale: int) -> np.ndarray:
    """Bicubic, then ten rounds of x <- x + up(y - A x): consistency with the camera, no network."""
    camera = low.astype(np.float32)
    x = _resize(camera, scale, cv2.INTER_CUBIC)
    for _ in range(BACK_PROJECTIONS):
        x += _resize(camera - area_down(x, scale), scale, cv2.INTER_CUBIC)
    return np.rint(x).clip(0, 255).astype(np.uint8)


def load_peer(name: str, scale: int, data: Path) -> Upscaler:
    """A published network, for one scale. Raises ConfigError where its file is missing or unusable."""
    path = peer_path(name, scale, data)
    if not path.is_file():
        raise ConfigError(f"{name} at scale {scale} expected in {path}, no such file")
    if not hasattr(cv2, "dnn_superres"):
        raise ConfigError("this OpenCV has no dnn_superres; install opencv-contrib-python 4.x")
    network = cv2.dnn_superres.DnnSuperResImpl.create()
    try:
        network.readModel(str(path))
        network.setModel(name, scale)
    except cv2.error as error:
        raise ConfigError(f"OpenCV cannot read {path}: {error.err}") from error

    def upscale(low: np.ndarray, asked: int) -> np.ndarray:
        if asked != scale:
            raise ValueError(f"{name} was loaded for scale {scale}, got {asked}")
        # it restores luma and interpolates chroma bicubically itself
        return network.upsample(np.ascontiguousarray(low[..., ::-1]))[..., ::-1].copy()

    return upscale


def peer_path(name: str, scale: int, data: Path) -> Path:
    return data / "peers" / f"{name.upper()}_x{scale}.pb"


def baselines(scale: int, data: Path | None = None) -> dict[str, Upscaler]:
    """By name, every baseline there is at ``scale``; the networks only where ``data`` has them."""
    found: dict[str, Upscaler] = {
        "bicubic": bicubic,
        "lanczos": lanczos,
        "back_projection": back_projection,
    }
    if data is not None:
        for name in PEERS:
            if peer_path(name, scale, data).is_file():
                found[name] = load_peer(name, scale, data)
    return found


def _resize(image: np.ndarray, scale: int, interpolation: int) -> np.ndarray:
    height, width = image.shape[:2]
    return cv2.resize(image, (width * scale, height * scale), interpolation=interpolation)
