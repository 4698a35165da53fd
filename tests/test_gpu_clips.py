"""The GPU's path and the CPU's on real clips: the same picture, within a tenth of a decibel.

Where there is no GPU the kernels run as the host builds them, and the network runs eagerly in float32.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from gpu_fixtures import device, device_session, on_device

from streamsr.bench.clips import CLIPS, COLOURED, clip_path, degrade
from streamsr.bench.face_truth import face_box, face_region, face_tracks
from streamsr.bench.fidelity import psnr_y
from streamsr.enhancer import Enhancer
from streamsr.model.restorer import Restorer

__all__ = ["device"]

FRAMES = 8
pytestmark = [pytest.mark.data, pytest.mark.soak]


@pytest.fixture(scope="module")
def restorer(device: torch.device) -> Iterator[Restorer]:
    with on_device(None, device) as restorer:
        yield restorer


@pytest.fixture(scope="module")
def on_cpu() -> Iterator[Enhancer]:
    with Enhancer(device="cpu") as enhancer:
        yield enhancer


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("condition", COLOURED)
@pytest.mark.parametrize("name", CLIPS)
def test_a_clip_looks_as_it_does_on_a_cpu(
    restorer: Restorer, on_cpu: Enhancer, tmp_path: Path, name: str, condition: str, scale: int
) -> None:
    clip = degrade(clip_path(Path(os.environ["STREAMSR_DATA"]), name), condition, scale, tmp_path, FRAMES)
    faces = face_tracks(clip.clean, scale, FRAMES, tmp_path)
    theirs = on_cpu.session(scale=scale, steps=1)
    figures = []
    with device_session(restorer, scale) as session:
        for seen, (truth, camera) in zip(faces, clip.pairs(), strict=True):
            (out, report), (wanted, expected) = session.process(camera.image), theirs.process(camera.image)
            outcomes = [[face.outcome for face in each.faces] for each in (report, expected)]
            assert outcomes[0] == outcomes[1]
            region = face_region(seen, truth.image.shape)
            box = face_box(region)
            face = [psnr_y(each[box], truth.image[box], region[box]) for each in (wanted, out)]
            figures.append([*(psnr_y(each, truth.image) for each in (wanted, out)), *face])
    theirs.close()
    apart = dict(zip(("frame", "face"), np.diff(np.mean(figures, 0).reshape(2, 2))[:, 0], strict=True))
    print(name, condition, f"x{scale}:", ", ".join(f"{part} {db:+.4f} dB" for part, db in apart.items()))
    assert all(abs(db) < 0.1 for db in apart.values())
