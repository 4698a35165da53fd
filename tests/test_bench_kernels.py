"""The kernels' benchmark: without a GPU what the twins take, with one what the kernels reach."""

from __future__ import annotations

import json

import pytest
import torch
from kernel_host import OPS

from streamsr.bench import kernels
from streamsr.errors import ConfigError


def test_every_kernel_is_measured() -> None:
    assert sorted(kernels.OPS) == OPS


def test_on_a_cpu_twins_are_compared_and_no_kernel_is_claimed(capsys: pytest.CaptureFixture[str]) -> None:
    assert kernels.main(["--runs", "2", "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("no GPU: no kernel ran")
    found = json.loads(lines[-1])
    assert (found["device"], found["kernels_ran"]) == ("cpu", False)
    assert {row["op"] for row in found["rows"]} == set(OPS)
    for row in found["rows"]:
        assert row["n"] == 2
        assert 0 < row["twin_p50_ms"] <= row["twin_p95_ms"]
        assert row["ratio"] == pytest.approx(row["twin_p50_ms"] / row["peer_p50_ms"], rel=1e-2)


@pytest.mark.parametrize(("op", "allowed"), [("colour", 1.0), ("crop", 1.5), ("ogwm", 0.1)])
def test_twin_and_peer_do_the_same_work(op: str, allowed: float) -> None:
    """In levels, rms; where both give a picture, and not something in place."""
    pytest.importorskip("av")
    from streamsr.bench.kernels_cpu import PAIRS

    for make in PAIRS[op]:
        pair = make()
        twin, peer = pair.twin(), pair.peer()
        if op == "colour":
            twin, peer = (
                twin[0][0],
                torch.frombuffer(peer.planes[0], dtype=torch.uint8).view(twin[0][0].shape),
            )
        elif op == "crop":
            twin, peer = (twin[0].x_in[0].permute(1, 2, 0) + 1) * 127.5, torch.from_numpy(peer[0])
        else:
            twin, peer = (127.5 * each[..., 8:-8, 8:-8] for each in (twin, peer))
        assert float((twin.float() - peer.float()).square().mean().sqrt()) < allowed


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
