"""Every measure of one picture, gathered over many: what both quality benchmarks have in common."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .fidelity import haarpsi, hf_ratio, psnr_y, ssim

__all__ = ["Tally", "add_gain", "fidelity_measures", "means_over_clips"]

Key = tuple[Any, ...]


def fidelity_measures(
    image: np.ndarray, truth: np.ndarray, weight: np.ndarray | None = None, prefix: str = ""
) -> dict[str, float]:
    """PSNR-Y, SSIM, HaarPSI and the ratio of high-frequency energy of one picture."""
    return {
        f"{prefix}psnr_y": psnr_y(image, truth, weight),
        f"{prefix}ssim": ssim(image, truth, weight),
        f"{prefix}haarpsi": haarpsi(image, truth, weight),
        f"{prefix}hf_ratio": hf_ratio(image, truth, weight),
    }


class Tally:
    """Means of named figures by key; a figure that is NaN (not to be measured) is left out."""

    def __init__(self) -> None:
        self._figures: dict[Key, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    def add(self, key: Key, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            if not np.isnan(value):
                self._figures[key][name].append(value)

    def means(self, key: Key) -> dict[str, float]:
        return {name: float(np.mean(values)) for name, values in self._figures[key].items()}

    def count(self, key: Key) -> int:
        """Samples of the figure that has the most of them."""
        return max((len(values) for values in self._figures[key].values()), default=0)

    def __iter__(self) -> Iterator[Key]:
        """The keys, in the order in which they came."""
        return iter(list(self._figures))


def add_gain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """To each row of one comparison, how much better than bicubic's it is on the face, in dB."""
    plain = next(row for row in rows if row["method"] == "bicubic").get("face_psnr_y")
    for row in rows:
        if plain is not None and "face_psnr_y" in row:
            row["face_gain_db"] = row["face_psnr_y"] - plain
    return rows


def means_over_clips(rows: Sequence[Mapping[str, Any]], *by: str) -> list[dict[str, Any]]:
    """A row for each set of values that the columns ``by`` have, in the order in which they come: the mean of
    every figure that is a float in all rows of the set; "n", where there is one, is their sum."""
    sets: dict[Key, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        sets[tuple(row[name] for name in by)].append(row)
    means = []
    for key, members in sets.items():
        mean: dict[str, Any] = {"clip": "mean", **dict(zip(by, key, strict=True))}
        if "n" in members[0]:
            mean["n"] = sum(member["n"] for member in members)
        for name in members[0]:
            values = [value for member in members if isinstance(value := member.get(name), float)]
            if name not in mean and len(values) == len(members):
                mean[name] = float(np.mean(values))
        means.append(mean)
    return means
