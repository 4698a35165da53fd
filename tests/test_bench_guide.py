"""The guide's benchmark: its statistics against scipy's, and the whole of it on a small data folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from portrait import write_portrait_data
from scipy.stats import spearmanr

from streamsr.bench import guide
from streamsr.model.restorer import GuideReading, Restorer


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_portrait_data(tmp_path_factory.mktemp("portrait") / "data")


def test_spearman_is_scipys_also_with_equal_values() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 12, 60)
    b = a + rng.integers(0, 12, 60)
    assert guide.spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert guide.spearman(a, np.exp(a)) == pytest.approx(1)
    assert np.isnan(guide.spearman(a, np.ones(60)))


def test_a_reading_at_another_t0_keeps_the_shape_of_its_bands() -> None:
    reading = GuideReading(np.linspace(-5, -2, 7).astype(np.float32), -3.0, 30.0, 0.1, 1.0)
    moved = guide.at_t0(reading, 0.3)
    assert moved.t0 == pytest.approx(0.3, abs=1e-5)
    assert np.diff(moved.log_bands) == pytest.approx(np.diff(reading.log_bands), abs=1e-5)
    assert (moved.log_sigma_y, moved.quantiser) == (-3.0, 30.0)


def test_the_truth_is_that_of_the_pictures(data: Path, tmp_path: Path) -> None:
    restorer = Restorer.load(device="cpu")
    seen = guide.observe(restorer, data, tmp_path, 12, seed=1)
    restorer.close()
    assert [each.crop.size for each in seen] == [256] * 6 + [512] * 6
    for each in seen:
        error = (each.x.astype(np.float64) - each.crop.x_in) / 127.5
        ellipse = guide.central_ellipse(each.crop.size) > 0
        sigma = float(np.sqrt(np.square(error[ellipse]).mean()))
        # another mask than the guide's, and softer edges: the same within a third
        assert each.true.t0 == pytest.approx(sigma / (0.25 + sigma), rel=0.35)
    assert any(np.ptp(each.x, axis=2).max() > 20 for each in seen)  # in colour
    assert guide.spearman([r.found.t0 for r in seen], [r.true.t0 for r in seen]) > 0.6


def test_tables_and_plot(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data", data, "--frames", 12, "--device", "cpu", "--plot", tmp_path / "g.png"]
    assert guide.main([str(option) for option in options]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = json.loads(lines[-1])
    everyone = found["rows"][0]
    assert (everyone["condition"], everyone["n"]) == ("all", 12)
    assert sum(row["n"] for row in found["rows"][1:]) == 12
    assert everyone["t0_spearman"] > 0.5
    assert sum(int(share) for share in everyone["steps_true"].split("/")) in range(98, 103)
    guided, true = found["ablation"][:2]
    assert (guided["against_guide_db"], guided["standard_error"]) == (0, 0)
    assert true["against_guide_db"] == pytest.approx(true["face_psnr_y"] - guided["face_psnr_y"], abs=2e-5)
    arms = {row["t0"]: row["face_gain_db"] for row in found["ablation"]}
    assert set(arms) == {"guide", "true", *(f"{t0:g}" for t0 in guide.FIXED_T0)}
    assert arms["guide"] > 0
    assert len(set(arms.values())) == len(arms)
    assert (tmp_path / "g.png").read_bytes()[1:4] == b"PNG"
    assert "| guide |" in "".join(lines)


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--frames", "3"], "--frames must be at least 4"), (["--steps", "0"], "--steps must be at least 1")],
)
def test_refusals(options: list[str], words: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert guide.main(["--data", str(data), *options]) == 2
    assert words in capsys.readouterr().err
