"""Clean faces on disk, and an endless stream of degraded training batches.

A data folder holds ``faces.csv`` (columns name, split, size) and ``faces/<name>.webp``: stills
aligned to the five-point template. Decoded stills are kept in a memory-mapped pack beside the run.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from ..errors import ConfigError
from ..face.mesh import MESH_POINTS, FaceNetworks
from ..face.motion import MOTION_PX, MotionFinder
from .clips import Trajectory, animate, find_mesh, load_trajectories
from .degrade import Degradation, Sample, View, draw, film, finish, photograph

__all__ = [
    "Batch",
    "FacePack",
    "batches",
    "degrade_clips",
    "degrade_stills",
    "make_batch",
]

CODED_FRAMES = 2  # of which the last is used: its quality is that of a P frame


@dataclass
class Batch:
    """T frames of each of B faces; T = 1 for stills.

    x, x_in (B, T, 3, S, S) uint8; y (B, T, 3, S/4, S/4) uint8; camera (B, T, 2, 3) float32;
    coding (B, T, STATISTICS) float32; quantiser (B,) float32. flow (B, T - 1, 2, h, w) float32 and
    valid (B, T - 1, 1, h, w) float32: face.motion between neighbours, found in x_in.
    """

    size: int
    x: torch.Tensor
    x_in: torch.Tensor
    y: torch.Tensor
    camera: torch.Tensor
    coding: torch.Tensor
    quantiser: torch.Tensor
    flow: torch.Tensor
    valid: torch.Tensor
    kinds: list[str]

    def part(self, begin: int, end: int) -> Batch:
        """Faces ``begin`` to ``end`` of it."""
        cut = {k: v[begin:end] for k, v in self.__dict__.items() if k != "size"}
        return Batch(self.size, **cut)


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

    @cached_property
    def meshes(self) -> np.ndarray:
        """(N, 478, 2) float32 px of the 512 template, NaN where no face was found; see ``find_meshes``."""
        return np.load(self.path.with_suffix(".meshes.npy"))

    def find_meshes(self) -> None:
        """Look for the mesh of every still, once: MediaPipe takes a minute for them all."""
        path = self.path.with_suffix(".meshes.npy")
        if path.is_file() and len(np.load(path, mmap_mode="r")) == len(self.names):
            return
        networks = FaceNetworks()
        meshes = np.full((len(self.names), MESH_POINTS, 2), np.nan, np.float32)
        for i in range(len(self.names)):
            found = find_mesh(networks, np.ascontiguousarray(self.images[i]))
            if found is not None:
                meshes[i] = found
        networks.close()
        np.save(path, meshes)

    def __getstate__(self) -> dict[str, object]:
        return {
            k: v for k, v in self.__dict__.items() if k not in ("images", "meshes")
        }  # reopened, not copied, by a worker


def degrade_stills(
    faces: list[np.ndarray], hows: list[Degradation], rng: np.random.Generator
) -> list[Sample]:
    """What the network sees of each still. Views with the same codec and quality share a coded frame."""
    views = [
        photograph(face, CODED_FRAMES if how.coded else 1, how, rng)
        for face, how in zip(faces, hows, strict=True)
    ]
    return [clip[-1] for clip in _coded(views, hows, [face.shape[0] for face in faces])]


def degrade_clips(
    clips: list[list[np.ndarray]], hows: list[Degradation], rng: np.random.Generator
) -> list[list[Sample]]:
    """The same of every frame of clips of equal length, each coded from its own first frame on."""
    views = [film(clip, how, rng) for clip, how in zip(clips, hows, strict=True)]
    return _coded(views, hows, [clip[0].shape[0] for clip in clips])


def _coded(views: list[View], hows: list[Degradation], sizes: list[int]) -> list[list[Sample]]:
    groups: dict[tuple[str, int], list[int]] = {}
    for i, how in enumerate(hows):
        if how.coded:
            groups.setdefault(how.coded, []).append(i)
    for (codec, quality), members in groups.items():
        from .codec import code_views  # PyAV loads here: the rest of training goes without it

        coded = code_views([views[i].images for i in members], codec, quality)
        for i, images in zip(members, coded, strict=True):
            views[i] = View(images, views[i].matrices)
    return [finish(view, size) for view, size in zip(views, sizes, strict=True)]


def _variation(size: int, rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    """A flip, a small misalignment, and exposure: on target and input alike, on every frame of a clip."""
    flipped = rng.random() < 0.5
    turn: np.ndarray | None = None
    if rng.random() < 0.35:
        turn = cv2.getRotationMatrix2D(
            (size / 2, size / 2), float(rng.normal(0, 3)), float(np.exp(rng.normal(0.03, 0.05)))
        )
        turn[:, 2] = turn[:, 2] + rng.normal(0, 0.015 * size, 2)
    levels: np.ndarray | None = None
    if rng.random() < 0.5:
        gain, gamma = rng.uniform(0.5, 1.1), np.exp(rng.normal(0, 0.25))
        levels = 255 * np.clip(gain * (np.arange(256) / 255) ** gamma, 0, 1)
        levels = (levels + 0.5).astype(np.uint8)

    def vary(face: np.ndarray) -> np.ndarray:
        face = np.ascontiguousarray(face[:, ::-1] if flipped else face)
        if turn is not None:
            face = cv2.warpAffine(
                face, turn, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
            )
        return face if levels is None else cv2.LUT(face, levels)

    return vary


class _Stream(IterableDataset[Batch]):
    """Batches of alternating sizes. plan: (size, batch, weight) of each kind of batch. frames: T."""

    def __init__(
        self,
        data: Path,
        cache: Path,
        plan: list[tuple[int, int, float]],
        seed: int,
        share_codec: int,
        frames: int,
    ) -> None:
        self.packs = {size: FacePack(data, cache, "train", size) for size, _, _ in plan}
        self.plan, self.seed, self.share_codec, self.frames = plan, seed, share_codec, frames
        self.trajectories: list[Trajectory] = []
        if frames > 1:
            self.trajectories = load_trajectories(data / "motion")
            for pack in self.packs.values():
                pack.find_meshes()

    def __iter__(self) -> Iterator[Batch]:
        cv2.setNumThreads(1)
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng((self.seed, worker.id if worker else 0))
        weights = np.array([weight for _, _, weight in self.plan])
        while True:
            size, count, _ = self.plan[rng.choice(len(self.plan), p=weights / weights.sum())]
            hows = _shared_codecs([draw(rng, size) for _ in range(count)], rng, self.share_codec)
            clips = [self._clip(self.packs[size], rng) for _ in range(count)]
            if self.frames == 1:
                samples = [[s] for s in degrade_stills([clip[0] for clip in clips], hows, rng)]
            else:
                samples = degrade_clips(clips, hows, rng)
            clips = [[_grey(f) for f in c] if h.grey else c for c, h in zip(clips, hows, strict=True)]
            yield make_batch(clips, samples, hows)

    def _clip(self, pack: FacePack, rng: np.random.Generator) -> list[np.ndarray]:
        """A clean clip of one face: as a still, or set in motion if its mesh is known."""
        i = int(rng.integers(len(pack.images)))
        clip = [np.asarray(pack.images[i])]
        if self.frames > 1:
            mesh = pack.meshes[i]
            trajectory = self.trajectories[rng.integers(len(self.trajectories))]
            clip = animate(clip[0], mesh, trajectory, self.frames, rng)
        vary = _variation(pack.shape[1], rng)
        return [vary(face) for face in clip]


def make_batch(clips: list[list[np.ndarray]], samples: list[list[Sample]], hows: list[Degradation]) -> Batch:
    """Of clean clips of one size, what the network sees of them, and how they were degraded."""
    count, finder = len(clips), MotionFinder()
    x_in, y, camera, coding = (_by_face(v, count) for v in _stack_samples(list(chain.from_iterable(samples))))
    motions = [[finder.find(a.crop.x_in, b.crop.x_in) for a, b in pairwise(clip)] for clip in samples]
    return Batch(
        size=clips[0][0].shape[0],
        x=_by_face(_stack_pictures(list(chain.from_iterable(clips))), count),
        x_in=x_in,
        y=y,
        camera=camera,
        coding=coding,
        quantiser=torch.tensor([how.quantiser for how in hows], dtype=torch.float32),
        flow=_stack_maps([[m.flow for m in motion] for motion in motions], 2),
        valid=_stack_maps([[m.valid[..., None] for m in motion] for motion in motions], 1),
        kinds=[how.kind for how in hows],
    )


def _grey(face: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def _by_face(rows: torch.Tensor, count: int) -> torch.Tensor:
    """(B T, ...) -> (B, T, ...)."""
    return rows.view(count, -1, *rows.shape[1:])


def _stack_maps(maps: list[list[np.ndarray]], channels: int) -> torch.Tensor:
    """(B, T - 1, channels, h, w) float32 of (h, w, channels)."""
    if not maps[0]:
        return torch.zeros(len(maps), 0, channels, MOTION_PX, MOTION_PX)
    stacked = np.stack([np.stack(row) for row in maps])
    return torch.from_numpy(stacked).permute(0, 1, 4, 2, 3).contiguous()


def _shared_codecs(hows: list[Degradation], rng: np.random.Generator, most: int) -> list[Degradation]:
    """Let the coded samples of a batch use at most ``most`` different encoders: fewer, fuller frames."""
    choices = [h.coded for h in hows if h.coded][:most]
    return [replace(h, coded=choices[rng.integers(len(choices))]) if h.coded else h for h in hows]


def _stack_pictures(images: list[np.ndarray]) -> torch.Tensor:
    """(B, 3, H, W) uint8 of (H, W, 3)."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def _stack_samples(samples: list[Sample]) -> tuple[torch.Tensor, ...]:
    """x_in and y as pictures, camera (B, 2, 3) and coding (B, STATISTICS) float32."""
    crops = [sample.crop for sample in samples]
    rows = [np.stack([crop.camera for crop in crops]), np.stack([sample.coding for sample in samples])]
    return (
        _stack_pictures([crop.x_in for crop in crops]),
        _stack_pictures([crop.y for crop in crops]),
        *(torch.from_numpy(row).float() for row in rows),
    )


def batches(
    data: Path,
    cache: Path,
    plan: list[tuple[int, int, float]],
    *,
    seed: int,
    workers: int = 1,
    frames: int = 1,
) -> Iterator[Batch]:
    """Endless batches, made in ``workers`` processes. plan: (size, batch, weight) of each kind.

    frames: of every face; more than one is a clip, and needs ``data/motion``. Raises ConfigError.
    """
    stream = _Stream(data, cache, plan, seed, share_codec=2, frames=frames)
    loader = DataLoader(
        stream,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        multiprocessing_context="spawn" if workers else None,  # a forked OpenMP pool hangs
    )
    return iter(loader)
