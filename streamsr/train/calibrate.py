"""The ranges that int8 needs: what enters the layers on degraded training faces."""

from __future__ import annotations

from pathlib import Path

import torch

from ..model.int8 import Ranges, observed
from ..model.weights import LEVELS, Weights
from .data import batches
from .lesson import Lesson

__all__ = ["measure_ranges"]

MARGIN = 1.1  # of what was seen
_LEVELS = LEVELS[::2]  # the ends and what lies between
_BATCH = 4
_FRAMES = 2  # of a clip: one without a past, one with it


def measure_ranges(weights: Weights, data: Path, cache: Path, faces: int = 16) -> Ranges:
    """Of ``faces`` faces of each size, for every level. data, cache: as for training. Takes half a minute.

    Weights that know a past see clips, which need ``data/motion``. Raises ConfigError.
    """
    sizes = weights.network.config.sizes
    ranges: Ranges = {size: {} for size in sizes}
    networks = [weights.at(level) for level in (_LEVELS if weights.change else _LEVELS[-1:])]
    recurrent = weights.description.recurrent
    for size in sizes:
        seen = ranges[size]
        stream = batches(
            data, cache, [(size, _BATCH, 1.0)], seed=0, workers=0, frames=_FRAMES if recurrent else 1
        )
        generator = torch.Generator().manual_seed(size)
        for _ in range(0, faces, _BATCH):
            lesson = Lesson(weights.guide, next(stream), torch.device("cpu"), cropped=False)
            noise = torch.randn(_BATCH, 3, size, size, generator=generator)
            for network in networks:
                with observed(network, size, seen):
                    lesson.deployed(network, noise, recurrent=recurrent)
        for name, (low, high) in seen.items():
            seen[name] = low * MARGIN, high * MARGIN
    return ranges
