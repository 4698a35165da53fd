"""Degradations are in colour and in place; a run trains, stops, and resumes."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from helpers import write_squeezenet

from streamsr.errors import ConfigError
from streamsr.model.weights import load_weights
from streamsr.train import run as training
from streamsr.train.codec import code_frames, code_views, pack_shelves
from streamsr.train.command import train
from streamsr.train.data import degrade_stills
from streamsr.train.degrade import MARGIN, Degradation, draw


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    return cv2.resize(skimage.data.astronaut()[:256, 96:352], (512, 512), interpolation=cv2.INTER_CUBIC)


def _how(**changes: object) -> Degradation:
    plain = dict(
        kind="clean", native=256.0, roll_deg=0.0, shift=(0.0, 0.0), drift=(0.0, 0.0), blur=(0.0, 0.0, 0.0),
        read_noise=0.0, shot_noise=0.0, sharpen=0.0, grey=False, jpeg=None, coded=None,
    )  # fmt: skip
    return Degradation(**(plain | changes))  # type: ignore[arg-type]


def _error(a: np.ndarray, b: np.ndarray) -> float:
    inner = slice(64, -64)
    return float(np.sqrt(np.square(a[inner, inner].astype(float) - b[inner, inner]).mean()))


@pytest.mark.parametrize(
    "changes", [{}, {"roll_deg": 9.0}, {"shift": (0.4, -0.7)}, {"native": 201.7, "roll_deg": -5.0}]
)
def test_the_crop_lies_where_the_target_lies(face: np.ndarray, changes: dict) -> None:
    how = _how(**changes)
    crop = degrade_stills([face], [how], np.random.default_rng(0))[0].crop
    x_in, camera = crop.x_in, crop.camera
    assert x_in.shape == (512, 512, 3)
    assert crop.y.shape == (128, 128, 3)
    assert np.sqrt(np.linalg.det(camera[:, :2])) * 512 == pytest.approx(how.native)
    middle_of_view = round(how.native * MARGIN) / 2 - 0.5
    assert camera @ [255.5, 255.5, 1] == pytest.approx(np.add(middle_of_view, how.shift))
    here = _error(x_in, face)
    moved = min(_error(np.roll(x_in, by, axis), face) for by in (-1, 1) for axis in (0, 1))
    assert here < 5
    assert here < 0.8 * moved


@pytest.mark.parametrize("codec", ["h264", "vp8"])
def test_coding_keeps_colours(face: np.ndarray, codec: str) -> None:
    coded = code_frames([face, face], codec, 8)
    assert len(coded) == 2
    assert np.abs((coded[-1].astype(float) - face).mean((0, 1))).max() < 0.4


def test_views_come_back_to_their_owners(face: np.ndarray) -> None:
    views = [[cv2.resize(face, (n, n), interpolation=cv2.INTER_AREA)] * 2 for n in (64, 150, 37)]
    for before, after in zip(views, code_views(views, "h264", 20), strict=True):
        assert after[-1].shape == before[-1].shape
        assert np.abs(after[-1].astype(float) - before[-1]).mean() < 6


def test_shelves_do_not_overlap() -> None:
    sides = [40, 100, 33, 64, 64, 120]
    places, height = pack_shelves(sides, 208)
    used = np.zeros((height, 208), int)
    for (x, y), side in zip(places, sides, strict=True):
        assert x % 16 == y % 16 == 0
        used[y : y + side, x : x + side] += 1
    assert used.max() == 1
    assert height % 2 == 0


def test_a_seed_fixes_a_degradation(face: np.ndarray) -> None:
    def once(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return degrade_stills([face] * 4, [draw(rng, 512) for _ in range(4)], rng)[3].crop.x_in

    assert np.array_equal(once(3), once(3))
    assert not np.array_equal(once(3), once(4))


@pytest.fixture
def data(tmp_path: Path, face: np.ndarray) -> Path:
    folder = tmp_path / "data"
    (folder / "faces").mkdir(parents=True)
    lines = ["name,split,size"]
    for i, split in enumerate(["train", "train", "val"]):
        cv2.imwrite(str(folder / "faces" / f"f{i}.webp"), np.roll(face, 20 * i, 1)[..., ::-1])
        lines.append(f"f{i},{split},512")
    (folder / "faces.csv").write_text("\n".join(lines) + "\n")
    write_squeezenet(folder)
    (folder / "motion").mkdir()
    mesh = np.random.default_rng(0).normal(0, 1, (1, 478, 2))
    landmarks = np.repeat(mesh, 40, 0) + np.linspace(0, 0.1, 40)[:, None, None] * mesh[:, ::-1]
    np.savez(folder / "motion" / "m0.npz", landmarks=landmarks.astype(np.float16), fps=25.0)
    return folder


@pytest.mark.parametrize("stage", ["g", "a", "b", "c", "d", "e"])
def test_a_run_trains_and_resumes(
    data: Path,
    tmp_path: Path,
    stage: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(training, "LOG_STEPS", 1)
    out = tmp_path / "run"
    common = dict(data=data, out=out, preset="tiny", device="cpu", seed=1)
    train(stage, minutes=0.08, **common)  # type: ignore[arg-type]
    first = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in first if "lr" in row]
    assert steps == list(range(1, len(steps) + 1))
    assert all(np.isfinite(row["guide"]) for row in first if "guide" in row)
    assert {row["size"] for row in first if "size" in row} == {256, 512}
    loaded = load_weights(out / "streamsr-tiny.safetensors")
    assert loaded.description.stage == stage
    assert loaded.description.recurrent == (stage == "c")
    taken = torch.load(out / "checkpoint.pt", weights_only=True)["elapsed_s"] / 60
    train(stage, minutes=taken + 0.05, **common)  # type: ignore[arg-type]
    assert f"resuming stage {stage} at step {steps[-1]}" in capsys.readouterr().out
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert max(row["step"] for row in rows) > steps[-1]
    with pytest.raises(ConfigError, match="is of preset tiny, not S"):
        train(stage, minutes=0.2, **(common | {"preset": "S"}))  # type: ignore[arg-type]


def test_bad_training_options_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--data must hold faces\.csv"):
        train("a", data=tmp_path, out=tmp_path / "run", preset="tiny", device="cpu", minutes=0.01)
    with pytest.raises(ConfigError, match="stage must be one of g, a, b, c, d, e"):
        train("z", data=tmp_path, out=tmp_path / "run")
    with pytest.raises(ConfigError, match="minutes must be above 0"):
        train("a", data=tmp_path, out=tmp_path / "run", minutes=0)
