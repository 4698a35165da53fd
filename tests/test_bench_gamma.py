"""The benchmark of the projection's strength, on a clip of the portrait."""

from __future__ import annotations

from pathlib import Path

import pytest
from portrait import write_portrait_data

from streamsr.bench import gamma


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_portrait_data(tmp_path_factory.mktemp("portrait") / "data")


@pytest.mark.soak
def test_exact_pixels_are_worth_keeping_and_coded_ones_are_not(data: Path) -> None:
    clip = next((data / "clips").glob("*.mp4")).stem
    _, rows = gamma.run(data, [clip], ["clean", "call"], scale=2, frames=3)
    clean, call = rows[:2]
    assert clean["gamma_1"] > clean["gamma_0"]
    assert call["gamma_1"] < call["gamma_0"]
    assert clean["own_gamma"] > call["own_gamma"]
    assert [row["clip"] for row in rows[2:]] == ["mean", "mean"]
    assert rows[2]["own"] == pytest.approx(clean["own"])


def test_refusals(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gamma.main(["--data", str(data), "--conditions", "foggy"]) == 2
    assert "conditions must be of" in capsys.readouterr().err
    assert gamma.main(["--data", str(data), "--clips", "none"]) == 2
    assert "no clip" in capsys.readouterr().err
