"""Whether a face is still the same person: distance of dlib's 128-dimensional face embedding.

dlib (Boost licence) and its models (CC0) are development dependencies only; nothing of streamsr
runs on them. Below 0.6 dlib calls two faces the same person.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from streamsr.errors import ConfigError
from streamsr.face.alignment import invert, native_side

__all__ = ["FaceEmbedder", "embedder_if_installed"]

# dlib's landmark predictor was trained inside its own detector's boxes; this is the box, in px of
# the 512 template, that the detector gives on aligned faces (median of 37)
BOX_CENTRE, BOX_SIDE = (254.0, 294.0), 311.0
CHIP_PX, CHIP_PADDING = 150, 0.25  # what the embedding network takes


class FaceEmbedder:
    """The embedding of faces whose place is known. Raises ConfigError where dlib is missing."""

    def __init__(self) -> None:
        try:
            import dlib
        except ImportError as error:
            raise ConfigError(f"identity needs dlib: pip install dlib-bin ({error})") from error
        # its package imports pkg_resources, which setuptools has dropped: only find the files
        spec = find_spec("face_recognition_models")
        if spec is None or not spec.submodule_search_locations:
            raise ConfigError("identity needs dlib's models: pip install face_recognition_models")
        models = Path(spec.submodule_search_locations[0]) / "models"
        self._dlib = dlib
        self._predictor = dlib.shape_predictor(str(models / "shape_predictor_5_face_landmarks.dat"))
        embedding = models / "dlib_face_recognition_resnet_model_v1.dat"
        self._network = dlib.face_recognition_model_v1(str(embedding))

    def locate(self, clean: np.ndarray, matrix: np.ndarray) -> Any:
        """Landmarks of the face in the clean picture, to be used for every version of it.

        clean: (H, W, 3) uint8 RGB. matrix: (2, 3), picture px -> px of the 512 template.
        """
        inverse = invert(matrix)
        x, y = inverse[:, :2] @ np.array(BOX_CENTRE) + inverse[:, 2]
        half = 0.5 * BOX_SIDE * native_side(matrix) / 512
        edges = (round(v) for v in (x - half, y - half, x + half, y + half))
        return self._predictor(np.ascontiguousarray(clean), self._dlib.rectangle(*edges))

    def embed(self, image: np.ndarray, face: Any) -> np.ndarray:
        """(128,) float64 of the face that ``locate`` found; image: (H, W, 3) uint8 RGB."""
        chip = self._dlib.get_face_chip(np.ascontiguousarray(image), face, CHIP_PX, CHIP_PADDING)
        return np.array(self._network.compute_face_descriptor(chip))

    def distance(self, image: np.ndarray, clean: np.ndarray, face: Any) -> float:
        """Euclidean distance of the embeddings of two pictures of one face: 0 for equal pictures."""
        return float(np.linalg.norm(self.embed(image, face) - self.embed(clean, face)))


def embedder_if_installed() -> FaceEmbedder | None:
    """None, after one line on stderr that says what to install, where dlib is missing."""
    try:
        return FaceEmbedder()
    except ConfigError as error:
        print(f"identity is not measured: {error}", file=sys.stderr)
        return None
