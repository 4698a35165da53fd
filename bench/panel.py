"""The measures that need a network or a fit, loaded once for a run: what a face looks like.

    feature_distance  SqueezeNet features, streamsr.features; needs DATA/peers. It is not LPIPS
    niqe              Mittal et al. 2013, fitted on the clean training stills of DATA
    identity          distance of dlib's embedding, identity.py
    landmark_error    percent of the distance of the eyes, landmarks.py
    lpips, arcface    only with the user's own weights, user_networks.py

All but identity and ArcFace, which align by themselves, see the face of the aligned crop: brows to chin.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from streamsr.aligner import choose_size
from streamsr.errors import ConfigError
from streamsr.face.alignment import TEMPLATE_PX, crop_aligned, native_side
from streamsr.features import feature_distance, load_squeezenet

from .identity import embedder_if_installed
from .landmarks import LandmarkFinder, landmark_error
from .naturalness import Niqe, fit_niqe
from .stills import aligned_stills, read_still
from .user_networks import ArcFace, Lpips, unit_batch

__all__ = ["Panel", "face_part"]

FACE_ROWS, FACE_COLUMNS = (120, 480), (116, 396)  # of the 512 template, px: brows to chin, cheek to cheek
MODEL_SIZES = (256, 512)  # of which there is a NIQE model
FIT_STILLS = 300
Figures = dict[str, float]


class Panel:
    """Of a data folder. work: folder that keeps the fitted models. Raises ConfigError.

    A measure whose file or package is missing is left out, after one line on stderr that says so.
    """

    def __init__(
        self, data: Path, work: Path, lpips: Path | None = None, arcface: Path | None = None
    ) -> None:
        torch.set_num_threads(1)  # a team of torch's own would fight the engine's threads for the cores
        self._lpips = None if lpips is None else Lpips(lpips)
        self._arcface = None if arcface is None else ArcFace(arcface)
        self._features, self._niqe = None, {}
        try:
            self._features = load_squeezenet(data)
        except ConfigError as error:
            print(f"feature_distance is not measured: {error}", file=sys.stderr)
        try:
            self._niqe = {size: _niqe_of(data, work, size) for size in MODEL_SIZES}
        except ConfigError as error:
            print(f"niqe is not measured: {error}", file=sys.stderr)
        self._embedder = embedder_if_installed()
        self._landmarks = LandmarkFinder()

    def close(self) -> None:
        """May be called twice."""
        self._landmarks.close()

    def measure(
        self, truth: np.ndarray, pictures: Mapping[str, np.ndarray], matrix: np.ndarray
    ) -> dict[str, Figures]:
        """Figures of every picture, by its name, and of "truth" those that need no reference.

        truth, pictures: (H, W, 3) uint8 RGB, of one size. matrix: their px -> px of the 512 template.
        """
        size = choose_size(native_side(matrix), None, MODEL_SIZES)
        crops = {name: crop_aligned(each, matrix, size) for name, each in pictures.items()}
        clean = crop_aligned(truth, matrix, size)
        found: dict[str, Figures] = {name: {} for name in ("truth", *pictures)}
        if self._niqe:
            for name, crop in {"truth": clean, **crops}.items():
                found[name]["niqe"] = self._niqe[size].score(face_part(crop))
        self._compare_features(clean, crops, found)
        self._compare_landmarks(clean, crops, found)
        self._compare_identity(truth, pictures, matrix, found)
        if self._lpips is not None:
            for name, crop in crops.items():
                found[name]["lpips"] = self._lpips.distance(face_part(crop), face_part(clean))
        return found

    def _compare_features(
        self, clean: np.ndarray, crops: Mapping[str, np.ndarray], found: dict[str, Figures]
    ) -> None:
        if self._features is None or not crops:
            return
        with torch.inference_mode():
            taps = self._features(unit_batch([face_part(crop) for crop in (clean, *crops.values())]))
            reference = [tap[:1] for tap in taps]
            for index, name in enumerate(crops, 1):
                distance = feature_distance([tap[index : index + 1] for tap in taps], reference)
                found[name]["feature_distance"] = float(distance)

    def _compare_landmarks(
        self, clean: np.ndarray, crops: Mapping[str, np.ndarray], found: dict[str, Figures]
    ) -> None:
        truth = self._landmarks.find(clean)
        if truth is None:
            return
        for name, crop in crops.items():
            mesh = self._landmarks.find(crop)
            found[name]["landmarks_found"] = float(mesh is not None)
            if mesh is not None:
                found[name]["landmark_error"] = landmark_error(mesh, truth)

    def _compare_identity(
        self,
        truth: np.ndarray,
        pictures: Mapping[str, np.ndarray],
        matrix: np.ndarray,
        found: dict[str, Figures],
    ) -> None:
        if self._embedder is not None:
            face = self._embedder.locate(truth, matrix)
            reference = self._embedder.embed(truth, face)
            for name, picture in pictures.items():
                gap = self._embedder.embed(picture, face) - reference
                found[name]["identity"] = float(np.linalg.norm(gap))
        if self._arcface is not None:
            direction = self._arcface.embed(truth, matrix)
            for name, picture in pictures.items():
                found[name]["arcface"] = 1 - float(self._arcface.embed(picture, matrix) @ direction)


def face_part(crop: np.ndarray) -> np.ndarray:
    """Of an aligned crop (S, S, 3) its face, 0.70 S high and 0.55 S wide."""
    rows, columns = (
        slice(*(edge * crop.shape[0] // TEMPLATE_PX for edge in edges)) for edges in (FACE_ROWS, FACE_COLUMNS)
    )
    return np.ascontiguousarray(crop[rows, columns])


def _niqe_of(data: Path, work: Path, size: int) -> Niqe:
    """The model of clean faces at one size; kept in ``work`` for the next run. Raises ConfigError."""
    kept = work / f"niqe_{size}_{FIT_STILLS}.npz"
    if kept.is_file():
        return Niqe.load(kept)
    paths = [path for _, path, side in aligned_stills(data, "train") if side >= size]
    if not paths:
        raise ConfigError(f"faces.csv lists no training still of {size} px")
    every = max(1, len(paths) // FIT_STILLS)
    model = fit_niqe(face_part(read_still(path, size)) for path in paths[::every][:FIT_STILLS])
    model.save(kept)
    return model
