"""The benchmarks of the cache: drift and ablation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from media import moving_portrait, write_video
from memories import nothing

from streamsr.bench import cache, drift
from streamsr.errors import ConfigError
from streamsr.model.network import GUIDE_OUTPUTS, PRESETS, Condition, Network
from streamsr.model.weights import Description, load_weights, save_weights

CPU = torch.device("cpu")


def _network() -> Network:
    """A tiny one at random, with a memory; the guide is the packaged one, or nothing would be restored."""
    torch.manual_seed(0)
    network = Network(PRESETS["tiny"])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape))
    return network.eval()


def _weights(folder: Path, *, recurrent: bool) -> Path:
    path = folder / "tiny.safetensors"
    description = Description("tiny", "c", recurrent)
    save_weights(path, _network(), load_weights().guide, description)
    return path


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "face.mp4"
    write_video(path, count=4, size=(320, 240), picture_of=moving_portrait, options={"crf": "10"})
    return path


def test_a_row_for_every_variant(tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = [variant for variant in cache.VARIANTS if variant.name in ("no cache", "cache", "s = 4")]
    monkeypatch.setattr(cache, "VARIANTS", chosen)
    head, rows = cache.run(tmp_path, _weights(tmp_path, recurrent=True), [str(clip)], ["clean"], [2], 4)
    assert head["frames"] == 4
    found = {row["variant"]: row for row in rows}
    assert set(found) == {"bicubic", "no cache", "cache", "s = 4"}
    assert found["bicubic"]["face_gain_db"] == 0
    assert all(row["n"] == 4 and row["tof_px"] >= 0 and row["warp_ratio"] > 0 for row in rows)
    assert len({row["face_psnr_y"] for row in rows}) == 4  # each is a way of its own


@pytest.mark.parametrize("size", [256, 512])
@pytest.mark.parametrize("name", ["pixels only", "K = 1"])
def test_a_variant_leaves_out_what_it_says(size: int, name: str) -> None:
    network = _network()
    alter = next(variant.alter for variant in cache.VARIANTS if variant.name == name)
    assert alter is not None
    x_in, y = torch.rand(1, 3, size, size), torch.rand(1, 3, size // 4, size // 4)
    t = torch.tensor([0.1])
    condition = Condition(t, t, torch.zeros(1, GUIDE_OUTPUTS), torch.eye(2, 3)[None], torch.ones(1))
    empty = nothing(1, size, 16, 64, CPU)._replace(mask=torch.ones(1, 1, size // 4, size // 4))
    memories = {
        "pixels only": empty._replace(features=torch.rand(1, 16, 64, 64)),
        "K = 1": empty._replace(picture=torch.rand(1, 3, size, size)),
    }

    def restored(memory) -> torch.Tensor:  # type: ignore[no-untyped-def]
        return network(x_in, x_in, y, condition, memory, size=size).residual

    with torch.inference_mode():
        assert not torch.allclose(restored(memories[name]), restored(empty), atol=1e-6)
    with torch.no_grad():
        alter(network)
        if name == "K = 1":  # the previous picture may still be looked at, but nothing of it is kept
            for port in network.ports.values():
                port.enter_memory.weight.zero_()  # type: ignore[operator, union-attr]
        assert torch.allclose(restored(memories[name]), restored(empty), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conditions": ["foggy"]}, "conditions must be of"),
        ({"scales": [3]}, "scales must be of"),
        ({"frames": 1}, "frames must be at least 2, got 1"),
        ({}, "trained without the cache"),
    ],
)
def test_what_cannot_be_compared_is_named(tmp_path: Path, clip: Path, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        cache.run(tmp_path, _weights(tmp_path, recurrent=False), [str(clip)], **options)


def test_drift_needs_frames_and_a_face(tmp_path: Path) -> None:
    from streamsr.enhancer import Enhancer

    with Enhancer(_weights(tmp_path, recurrent=False), device="cpu") as enhancer:
        session = enhancer.session(scale=2)
        with pytest.raises(ConfigError, match="frames must be more than 11, got 11"):
            drift.measure(session, [moving_portrait(0, 160, 120)], 11)
        with pytest.raises(ConfigError, match="no face found in frame 0"):
            drift.measure(session, [np.zeros((120, 160, 3), np.uint8)], 12)
        session.close()


def test_drift_sees_a_face_that_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from streamsr.enhancer import Enhancer, Session

    process, seen = Session.process, []

    def brighter(session: Session, image: np.ndarray):  # type: ignore[no-untyped-def]
        out, report = process(session, image)
        seen.append(out)
        return np.clip(out.astype(int) + len(seen) // 12, 0, 255).astype(np.uint8), report

    picture = moving_portrait(0, 160, 120)
    with Enhancer(_weights(tmp_path, recurrent=False), device="cpu") as enhancer:
        session = enhancer.session(scale=2)
        assert drift.measure(session, [picture], 24).steady
        monkeypatch.setattr(Session, "process", brighter)
        found = drift.measure(session, [picture], 40)
        session.close()
    assert 2 < found.ll_drift < 3.1
    assert not found.steady
