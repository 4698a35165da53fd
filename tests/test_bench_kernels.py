"""The kernels' benchmark: without a GPU what the twins take, with one what the kernels reach."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from kernel_host import OPS

from streamsr.bench import kernels
from streamsr.errors import ConfigError


def test_every_kernel_is_measured() -> None:
    assert sorted(kernels.OPS) == OPS


def test_on_a_cpu_the_product_is_compared_and_no_kernel_is_claimed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert kernels.main(["--runs", "2", "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("no GPU: no kernel ran")
    found = json.loads(lines[-1])
    assert (found["device"], found["kernels_ran"]) == ("cpu", False)
    assert {row["op"] for row in found["rows"]} == set(OPS)
    for row in found["rows"]:
        assert row["n"] == 2
        assert 0 < row["best_p50_ms"] <= row["twin_p50_ms"]
        assert row["ratio"] == pytest.approx(row["product_p50_ms"] / row["best_p50_ms"], rel=1e-2)


@pytest.mark.parametrize("op", OPS)
def test_product_and_others_do_the_same_work(op: str) -> None:
    """In levels, rms, or px of motion; without the border, which each continues in its own way."""
    pytest.importorskip("av")
    from streamsr.bench.kernels_cpu import WORKS

    allowed = {"colour": 0.6, "consistency": 0.7, "crop": 1.5, "flow": 0.2, "ogwm": 0.003}[op]
    for make in WORKS[op]:
        work = make()
        inside = (..., slice(8, -8), slice(8, -8)) if op == "ogwm" else (slice(8, -8), slice(8, -8))
        product = work.product()[inside].astype(float)
        assert product.std() > 4 * allowed
        for name, does in work.peers.items():
            error = does()[inside].astype(float) - product
            assert np.sqrt(np.square(error).mean()) < allowed, (work.name, name)


def test_what_cannot_be_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match=r"--ops must be of colour, .* got paint"):
        kernels.run(["crop", "paint"])
    with pytest.raises(ConfigError, match="runs must be at least 1"):
        kernels.run(runs=0)
    if not torch.cuda.is_available():
        assert kernels.main(["--device", "cuda"]) == 2
        assert "device cuda asked for" in capsys.readouterr().err


@pytest.mark.cuda
def test_on_a_gpu_kernels_are_measured_against_its_ceilings(capsys: pytest.CaptureFixture[str]) -> None:
    assert kernels.main(["--runs", "5", "--device", "cuda"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["kernels_ran"]
    assert {row["op"] for row in found["rows"]} == set(OPS)
    assert min(found["ceilings"][0].values()) > 0
    for row in found["rows"]:
        assert row["p50_us"] > 0 and row["times_faster"] > 1 and row["matmul_share"] < 1
