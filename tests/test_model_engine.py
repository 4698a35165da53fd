"""The two engines give what the modules give."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from memories import nothing

from streamsr.errors import DeviceError
from streamsr.face.motion import MOTION_PX, Motion
from streamsr.model.coding import STATISTICS
from streamsr.model.engine import Engine
from streamsr.model.guide import template_mask
from streamsr.model.network import GUIDE_OUTPUTS, Condition
from streamsr.model.openvino_engine import OpenVinoEngine
from streamsr.model.recurrence import Past, recall
from streamsr.model.torch_engine import TorchEngine
from streamsr.model.weights import load_weights

CPU = torch.device("cpu")


def _faces(size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Condition]:
    """x_t, x_in, y and the condition of two smooth pictures with some noise."""
    g = torch.Generator().manual_seed(size)
    x_in = torch.nn.functional.interpolate(torch.randn(2, 3, 16, 16, generator=g), size, mode="bicubic")
    x_in = (0.4 * x_in).clamp(-1, 1).contiguous(memory_format=torch.channels_last)
    x_t = 0.9 * x_in + 0.02 * torch.randn(x_in.shape, generator=g)
    y = torch.nn.functional.avg_pool2d(x_in, 4)
    camera = torch.tensor([[[0.43, 0.01, 0.3], [-0.01, 0.43, 0.2]], [[0.25, 0.0, 0.4], [0.0, 0.25, 0.7]]])
    t = torch.tensor([0.1, 0.2])
    return x_t, x_in, y, Condition(t, t, torch.randn(2, GUIDE_OUTPUTS, generator=g), camera, torch.ones(2))


@pytest.fixture(scope="module")
def in_f32() -> Engine:
    return OpenVinoEngine(load_weights(), threads=2, precision="f32")


@pytest.mark.parametrize("size", [256, 512])
def test_in_f32_openvino_gives_what_the_modules_give(in_f32: Engine, size: int) -> None:
    x_t, x_in, y, condition = _faces(size)
    weights = load_weights()
    native, coding = torch.tensor([-1.0, -2.0]), torch.randn(2, STATISTICS)
    with torch.inference_mode():
        residual = weights.network(x_t, x_in, y, condition, size=size).residual
        reading, energy = weights.guide.read_with_energy(x_in, native, coding, template_mask(size // 4))
    assert residual.abs().max() > 0.01
    assert torch.allclose(in_f32.evaluate(x_t, x_in, y, condition, None, 1.0).residual, residual, atol=1e-5)
    found, present = in_f32.read(x_in, native, coding)
    for one, other in zip((*found, present), (*reading, energy), strict=True):
        assert torch.allclose(one, other, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("size", [256, 512])
def test_in_bf16_openvino_errs_no_more_than_twice_what_torch_does(in_f32: Engine, size: int) -> None:
    exact = in_f32.evaluate(*_faces(size), None, 1.0).residual
    errors = []
    for engine in (TorchEngine(load_weights(), CPU, "bf16"), OpenVinoEngine(load_weights(), 2, "bf16")):
        errors.append(
            float((engine.evaluate(*_faces(size), None, 1.0).residual - exact).square().mean().sqrt())
        )
    assert 0 < errors[1] < 2 * errors[0]


@pytest.mark.parametrize("size", [256, 512])
def test_the_engines_remember_alike(size: int) -> None:
    weights = load_weights()
    weights = replace(weights, description=replace(weights.description, recurrent=True))
    with torch.no_grad():
        for name, parameter in weights.network.named_parameters():
            if "memory" in name or "gain" in name:
                parameter.normal_(0, 0.02)
    mine, theirs = OpenVinoEngine(weights, threads=2, precision="f32"), TorchEngine(weights, CPU, "f32")
    x_t, x_in, y, condition = _faces(size)
    g = torch.Generator().manual_seed(1)
    pictures = x_in.flip(3), (y + 0.02).contiguous(memory_format=torch.channels_last)
    features = torch.randn(2, 64, 64, 64, generator=g).contiguous(memory_format=torch.channels_last)
    parts = zip(*(v.split(1) for v in (*pictures, features)), strict=True)
    flow = torch.nn.functional.interpolate(torch.randn(2, 2, 4, 4, generator=g), MOTION_PX, mode="bicubic")
    valid = (torch.rand(2, MOTION_PX, MOTION_PX, generator=g) > 0.2).float()
    motions = [Motion(f.permute(1, 2, 0).numpy(), v.numpy()) for f, v in zip(flow, valid, strict=True)]
    pasts = list(zip((Past(*part) for part in parts), motions, strict=True))
    memories = mine.recall(pasts, y), recall(Past(*pictures, features), y, flow, valid[:, None])
    for one, other in zip(*memories, strict=True):
        assert other.abs().max() > 0.01
        assert one.shape == other.shape
        error = (one - other).abs()
        assert error.mean() < 0.02 * other.std()  # positions are rounded to 1/32 px
        assert error.quantile(0.99) < 0.1 * other.std()
    for one, both in zip(mine.recall([None, pasts[1]], y), memories[0], strict=True):
        assert not one[0].any()
        assert torch.equal(one[1], both[1])  # a batch recalls what its faces recall alone
    for memory in (memories[1], nothing(2, size, 64, 64, CPU)):
        results = [engine.evaluate(x_t, x_in, y, condition, memory, 1.0) for engine in (mine, theirs)]
        for one, other in zip(*results, strict=True):
            assert torch.allclose(one, other, atol=2e-4, rtol=1e-3)
    alone = theirs.evaluate(x_t, x_in, y, condition, None, 1.0)
    assert torch.allclose(results[1].residual, alone.residual, atol=1e-5)  # no past is an empty one


@pytest.mark.parametrize("kind", [OpenVinoEngine, TorchEngine])
def test_a_level_of_fidelity_has_weights_of_its_own(kind: type[OpenVinoEngine | TorchEngine]) -> None:
    """Perceptual weights that turn the residual round: between the two there is nothing left of it."""
    weights = load_weights()
    last = ("leave.weight", "leave.bias", "direct.filters")
    turned = {k: -2 * v for k, v in weights.network.state_dict().items() if k.endswith(last)}
    weights = replace(weights, change=turned)
    engine: Engine
    if kind is OpenVinoEngine:
        engine = OpenVinoEngine(weights, threads=2, precision="f32")
    else:
        engine = TorchEngine(weights, CPU, "f32")
    engine.prepare(0.5)
    at = {level: engine.evaluate(*_faces(256), None, level).residual for level in (1.0, 0.5, 0.0)}
    assert at[1.0].abs().max() > 0.01
    assert at[0.5].abs().max() < 1e-4
    assert torch.allclose(at[0.0], -at[1.0], atol=1e-4)


def test_what_an_engine_gave_stays_when_it_is_asked_again(in_f32: Engine) -> None:
    x_t, x_in, y, condition = _faces(256)
    first = in_f32.evaluate(x_t, x_in, y, condition, None, 1.0).residual
    before = first.clone()
    in_f32.evaluate(x_in, x_t, y, condition, None, 1.0)
    assert torch.equal(first, before)


def test_a_missing_openvino_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(DeviceError, match="device cpu needs openvino, which does not load"):
        OpenVinoEngine(load_weights(), threads=1)


def test_openvino_sends_no_reports_of_use() -> None:
    code = (
        "import importlib.util, sys\n"
        "assert importlib.util.find_spec('openvino_telemetry'), 'not installed: proves nothing'\n"
        "from streamsr.model.openvino_graph import load_openvino\n"
        "load_openvino()\n"
        "print(*(name for name in sys.modules if name.startswith('openvino_telemetry')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
