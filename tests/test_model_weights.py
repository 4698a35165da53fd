from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from streamsr.errors import DeviceError, ModelError
from streamsr.model import weights as weights_module
from streamsr.model.crop import Crop
from streamsr.model.guide import Guide
from streamsr.model.network import PRESETS, Network
from streamsr.model.restorer import Restorer, choose_device
from streamsr.model.weights import (
    Description,
    level_of,
    load_weights,
    packaged_path,
    save_weights,
    sha256_of,
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network, guide = Network(PRESETS["tiny"]), Guide()
    with torch.no_grad():
        for parameter in [*network.parameters(), *guide.parameters()]:
            if not parameter.any():
                parameter.normal_(0, 0.03)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, network, guide, Description("tiny", "a", False))
    return path


def test_weights_survive_the_round_trip_in_bf16(tiny: Path) -> None:
    loaded = load_weights(tiny)
    assert loaded.description.preset == "tiny"
    assert loaded.sha256 == sha256_of(tiny)
    for value in loaded.network.state_dict().values():
        assert torch.equal(value, value.bfloat16().float())


def test_between_fidelity_and_perception_the_weights_are_interpolated(tmp_path: Path) -> None:
    torch.manual_seed(2)
    fidelity, perceptual = Network(PRESETS["tiny"]), Network(PRESETS["tiny"])
    perceptual.load_state_dict(fidelity.state_dict())
    with torch.no_grad():
        for parameter in perceptual.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    path = tmp_path / "both.safetensors"
    description = Description("tiny", "c+e", True)
    save_weights(path, fidelity, Guide(), description, perceptual)
    loaded = load_weights(path)
    at = {level: loaded.at(level).state_dict() for level in (1.0, 0.4, 0.0)}
    for name, begin in fidelity.bfloat16().float().state_dict().items():
        assert torch.equal(at[1.0][name], begin)
        change = at[0.0][name] - perceptual.state_dict()[name]
        assert change.abs().max() < 0.05 / 127  # of 8 bits
        between = begin + 0.6 * (at[0.0][name] - begin)
        assert torch.allclose(at[0.4][name], between, atol=1e-6)


def test_weights_without_a_perceptual_set_are_the_same_at_every_level(tiny: Path) -> None:
    loaded = load_weights(tiny)
    for name, value in loaded.at(0.0).state_dict().items():
        assert torch.equal(value, loaded.network.state_dict()[name])


def test_a_fidelity_has_the_nearest_level() -> None:
    assert [level_of(v) for v in (0.0, 0.09, 0.35, 0.4, 0.56, 0.9, 1.0)] == [0, 0, 0.4, 0.4, 0.7, 1, 1]


def test_missing_wrong_and_altered_files_are_named(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="weights missing"):
        load_weights(tmp_path / "none.safetensors")
    text = tmp_path / "text.safetensors"
    text.write_text("these are no weights")
    with pytest.raises(ModelError, match="not a streamsr weights file"):
        load_weights(text)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(tiny.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="not a streamsr weights file"):
        load_weights(cut)


def test_altered_packaged_weights_are_refused_by_sha256(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = sha256_of(tiny)
    (tmp_path / "manifest.json").write_text(f'{{"M": {{"file": "m.safetensors", "sha256": "{good}"}}}}')
    monkeypatch.setattr(weights_module, "PACKAGED", tmp_path)
    monkeypatch.setattr(weights_module, "MANIFEST", tmp_path / "manifest.json")
    with pytest.raises(ModelError, match=f"weights missing: m.safetensors .*{good}"):
        packaged_path()
    data = bytearray(tiny.read_bytes())
    (tmp_path / "m.safetensors").write_bytes(data)
    assert packaged_path() == tmp_path / "m.safetensors"
    data[-1] ^= 1
    (tmp_path / "m.safetensors").write_bytes(data)
    with pytest.raises(ModelError, match=f"weights altered: .*expected {good}"):
        packaged_path()


def test_the_packaged_weights_load() -> None:
    loaded = load_weights()
    assert loaded.description.preset == "M"


def _crop(size: int, seed: int) -> Crop:
    rng = np.random.default_rng(seed)
    x_in, y = (rng.integers(0, 256, (s, s, 3), np.uint8) for s in (size, size // 4))
    patch = rng.uniform(0, 255, (64, 64)).astype(np.float32)
    return Crop(x_in, y, np.eye(2, 3) / 2, patch)


@pytest.mark.parametrize("size", [256, 512])
def test_restoring_a_batch_is_restoring_one_and_a_seed_fixes_it(tiny: Path, size: int) -> None:
    restorer = Restorer.load(tiny, device="cpu", precision="f32")
    crops = [_crop(size, 1), _crop(size, 2)]
    readings = restorer.guide(crops)
    both = restorer.restore(crops, readings, steps=2, seed=5)
    alone = restorer.restore(crops[1:], readings[1:], steps=2, seed=5)
    assert both[1].residual.shape == (size, size, 3)
    assert both[1].residual.dtype == np.float32
    assert np.abs(both[1].residual - alone[0].residual).max() < 0.05  # of 255
    again, other = (restorer.restore(crops, readings, steps=2, seed=seed)[0] for seed in (5, 6))
    assert np.array_equal(both[0].residual, again.residual)
    assert np.abs(both[0].residual - other.residual).max() > 0.01


@pytest.mark.parametrize("size", [256, 512])
def test_weights_that_know_a_past_make_something_of_it(tmp_path: Path, size: int) -> None:
    torch.manual_seed(1)
    network, guide = Network(PRESETS["tiny"]), Guide()
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.03)
    path = tmp_path / "recurrent.safetensors"
    save_weights(path, network, guide, Description("tiny", "c", True))
    restorer = Restorer.load(path, device="cpu", precision="f32")
    crops = [_crop(size, 1), _crop(size, 2)]
    readings = restorer.guide(crops)
    first = restorer.restore(crops, readings)
    second = restorer.restore(crops, readings, first)
    mixed = restorer.restore(crops, readings, [None, first[1]])
    assert np.abs(second[0].residual - first[0].residual).max() > 0.05
    assert np.abs(mixed[0].residual - first[0].residual).max() < 0.01
    assert np.abs(mixed[1].residual - second[1].residual).max() < 0.01
    other = 768 - size
    with pytest.raises(ModelError, match="must share one size"):
        restorer.restore([_crop(other, 1)], readings[:1], first[:1])
    restorer.close()


def test_crops_of_two_sizes_are_refused(tiny: Path) -> None:
    restorer = Restorer.load(tiny, device="cpu")
    crops = [_crop(256, 1), _crop(512, 1)]
    readings = [restorer.guide([c])[0] for c in crops]
    with pytest.raises(ModelError, match="must share one size"):
        restorer.restore(crops, readings)


def test_a_device_that_is_not_there_is_an_error() -> None:
    with pytest.raises(DeviceError, match="device must be auto, cpu or cuda, got tpu"):
        choose_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="torch sees no NVIDIA GPU"):
            choose_device("cuda")


def test_a_header_of_another_version_is_named(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "later.safetensors"
    for header in (
        '{"preset": "XXL", "stage": "a", "recurrent": false}',
        '{"size": 3}',
        '{"preset": "tiny", "stage": "a"}',
    ):
        save_file({"network.x": torch.zeros(1)}, path, metadata={"streamsr": header})
        with pytest.raises(ModelError, match="not a streamsr weights file"):
            load_weights(path)
