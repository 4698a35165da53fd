"""The benchmark of steps and of what may be done around an evaluation, on a small data folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from portrait import write_portrait_data

from streamsr.bench import steps


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict:
    data = write_portrait_data(tmp_path_factory.mktemp("portrait") / "data")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(steps, "TIMED", 5)
        _, rows = steps.run(data, frames=1)
    return {(row["size"], row["condition"], row["variant"]): row for row in rows}


@pytest.mark.soak
def test_one_step_of_the_packaged_weights_helps(found: dict) -> None:
    for size in (256, 512):
        for condition in ("clean x4", "call x4"):
            assert found[size, condition, "1 step"]["face_gain_db"] > 0.1


@pytest.mark.soak
def test_the_projection_of_the_product_never_costs_what_a_hard_one_does(found: dict) -> None:
    for condition in ("call x2", "call x4"):
        soft, hard = (found[512, condition, f"1 step, {kind} projection"] for kind in ("soft", "hard"))
        assert soft["face_gain_db"] > hard["face_gain_db"]
    clean = [found[512, "clean x4", name]["face_gain_db"] for name in ("1 step", "1 step, soft projection")]
    assert clean[1] > clean[0]


@pytest.mark.soak
def test_steps_cost_time(found: dict) -> None:
    assert found[256, "clean x4", "16 steps"]["ms"] > 4 * found[256, "clean x4", "1 step"]["ms"] > 0
    assert found[256, "clean x4", "1 step, soft projection"]["ms"] is None


def test_wrong_data_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert steps.main(["--data", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("streamsr bench steps: cannot read ")
