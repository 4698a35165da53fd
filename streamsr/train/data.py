"""Clean faces on disk, and an endless stream of degraded training batches.

A data folder holds ``faces.csv`` (columns name, split, size) and ``faces/<name>.webp``: stills
aligned to the five-point template. Decoded stills are kept in a memory-mapped pack beside the run.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from ..errors import ConfigError
from .codec import code_views
from .degrade import Degradation, Sample, View, draw, finish, photograph

__all__ = ["Batch", "FacePack", "batches", "degrade_stills", "stack_pictures", "stack_samples"]

CODED_FRAMES = 2  # of which the last is used: its quality is that of a P frame


@dataclass
class Batch:
    """x, x_in (B, 3, S, S) uint8; y (B, 3, S/4, S/4) uint8; camera (B, 2, 3) float32;
    coding (B, STATISTICS) float32; quantiser (B,) float32."""

    size: int
    x: torch.Tensor
    x_in: torch.Tensor
    y: torch.Tensor
    camera: torch.Tensor
    coding: torch.Tensor
    quantiser: torch.Tensor
    kinds: list[str]


class FacePack:
    """Decoded stills of one split at one size: ``images`` (N, size, size, 3) uint8, memory-mapped."""

    def __init__(self, data: Path, cache: Path, split: str, size: int) -> None:
        table = data / "faces.csv"
        if not table.is_file():
            raise ConfigError(f"--data must hold faces.csv, not found in {data}")
        with table.open(newline="") as file:
            rows = [r for r in csv.DictReader(file) if r["split"] == split and int(r["size"]) >= size]
        if not rows:
            raise ConfigError(f"faces.csv lists no {split} face of {size} px")
        self.names = [row["name"] for row in rows]
        self.shape = (len(rows), size, size, 3)
        self.path = cache / f"{split}{size}.raw"
        index = cache / f"{split}{size}.json"
        if not index.is_file() or json.loads(index.read_text()) != self.names:
            cache.mkdir(parents=True, exist_ok=True)
            pack = np.memmap(self.path, np.uint8, "w+", shape=self.shape)
            for i, name in enumerate(self.names):
                image = cv2.imread(str(data / "faces" / f"{name}.webp"))
                if image is None:
                    raise ConfigError(f"cannot read face {name} in {data}")
                if image.shape[0] != size:
                    image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
                pack[i] = image[..., ::-1]
            pack.flush()
            index.write_text(json.dumps(self.names))

    @cached_property
    def images(self) -> np.ndarray:
        return np.memmap(self.path, np.uint8, "r", shape=self.shape)

    def __getstate__(self) -> dict[str, object]:
        return {k: v for k, v in self.__dict__.items() if k != "images"}  # reopened, not copied, by a worker


def degrade_stills(
    faces: list[np.ndarray], hows: list[Degradation], rng: np.random.Generator
) -> list[Sample]:
    """What the network sees of each still. Views with the same codec and quality share a coded frame."""
    views = [
        photograph(face, CODED_FRAMES if how.coded else 1, how, rng)
        for face, how in zip(faces, hows, strict=True)
    ]
    groups: dict[tuple[str, int], list[int]] = {}
    for i, how in enumerate(hows):
        if how.coded:
            groups.setdefault(how.coded, []).append(i)
    for (codec, quality), members in groups.items():
        coded = code_views([views[i].images for i in members], codec, quality)
        for i, images in zip(members, coded, strict=True):
            views[i] = View(images[-1:], views[i].matrices[-1:])
    return [finish(view, face.shape[0])[-1] for view, face in zip(views, faces, strict=True)]


def _vary(face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Flip, a small misalignment, and exposure: on target and input alike."""
    size = face.shape[0]
    if rng.random() < 0.5:
        face = face[:, ::-1]
    if rng.random() < 0.35:
        turn = cv2.getRotationMatrix2D(
            (size / 2, size / 2), float(rng.normal(0, 3)), float(np.exp(rng.normal(0.03, 0.05)))
        )
        turn[:, 2] = turn[:, 2] + rng.normal(0, 0.015 * size, 2)
        face = cv2.warpAffine(
            np.ascontiguousarray(face),
            turn,
            (size, size),
            flags=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REFLECT_101,
        )
    if rng.random() < 0.5:
        gain, gamma = rng.uniform(0.5, 1.1), np.exp(rng.normal(0, 0.25))
        levels = 255 * np.clip(gain * (np.arange(256) / 255) ** gamma, 0, 1)
        face = cv2.LUT(np.ascontiguousarray(face), (levels + 0.5).astype(np.uint8))
    return np.ascontiguousarray(face)


class _Stream(IterableDataset[Batch]):
    """Batches of alternating sizes. plan: (size, batch, weight) of each kind of batch."""

    def __init__(
        self, data: Path, cache: Path, plan: list[tuple[int, int, float]], seed: int, share_codec: int
    ) -> None:
        self.packs = {size: FacePack(data, cache, "train", size) for size, _, _ in plan}
        self.plan, self.seed, self.share_codec = plan, seed, share_codec

    def __iter__(self) -> Iterator[Batch]:
        cv2.setNumThreads(1)
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng((self.seed, worker.id if worker else 0))
        weights = np.array([weight for _, _, weight in self.plan])
        while True:
            size, count, _ = self.plan[rng.choice(len(self.plan), p=weights / weights.sum())]
            pack = self.packs[size]
            hows = [draw(rng, size) for _ in range(count)]
            hows = _shared_codecs(hows, rng, self.share_codec)
            faces = [_vary(pack.images[i], rng) for i in rng.integers(0, len(pack.images), count)]
            x_in, y, camera, coding = stack_samples(degrade_stills(faces, hows, rng))
            clean = [
                cv2.cvtColor(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB) if h.grey else f
                for f, h in zip(faces, hows, strict=True)
            ]
            yield Batch(
                size=size,
                x=stack_pictures(clean),
                x_in=x_in,
                y=y,
                camera=camera,
                coding=coding,
                quantiser=torch.tensor([h.quantiser for h in hows], dtype=torch.float32),
                kinds=[h.kind for h in hows],
            )


def _shared_codecs(hows: list[Degradation], rng: np.random.Generator, most: int) -> list[Degradation]:
    """Let the coded samples of a batch use at most ``most`` different encoders: fewer, fuller frames."""
    choices = [h.coded for h in hows if h.coded][:most]
    return [replace(h, coded=choices[rng.integers(len(choices))]) if h.coded else h for h in hows]


def stack_pictures(images: list[np.ndarray]) -> torch.Tensor:
    """(B, 3, H, W) uint8 of (H, W, 3)."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def stack_samples(samples: list[Sample]) -> tuple[torch.Tensor, ...]:
    """x_in and y as pictures, camera (B, 2, 3) and coding (B, STATISTICS) float32."""
    crops = [sample.crop for sample in samples]
    rows = [np.stack([crop.camera for crop in crops]), np.stack([sample.coding for sample in samples])]
    return (
        stack_pictures([crop.x_in for crop in crops]),
        stack_pictures([crop.y for crop in crops]),
        *(torch.from_numpy(row).float() for row in rows),
    )


def batches(
    data: Path, cache: Path, plan: list[tuple[int, int, float]], *, seed: int, workers: int = 1
) -> Iterator[Batch]:
    """Endless batches, made in ``workers`` processes. plan: (size, batch, weight) of each kind."""
    stream = _Stream(data, cache, plan, seed, share_codec=2)
    loader = DataLoader(
        stream,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        multiprocessing_context="spawn" if workers else None,  # a forked OpenMP pool hangs
    )
    return iter(loader)
