"""Weights put into the package: both sets, the ranges of what they read, and the manifest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from portrait import write_portrait_data

from streamsr.errors import ConfigError
from streamsr.model import weights as weights_module
from streamsr.model.guide import Guide
from streamsr.model.network import PRESETS, Network
from streamsr.model.weights import Description, load_weights, packaged_path, save_weights
from streamsr.train import package as module


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty package."""
    for owner in (weights_module, module):
        monkeypatch.setattr(owner, "PACKAGED", tmp_path / "packaged")
        monkeypatch.setattr(owner, "MANIFEST", tmp_path / "packaged" / "manifest.json")
    return tmp_path


def _write(path: Path, seed: int, recurrent: bool = False) -> Path:
    torch.manual_seed(seed)
    path.parent.mkdir(exist_ok=True)
    save_weights(path, Network(PRESETS["tiny"]), Guide(), Description("tiny", str(seed), recurrent))
    return path


def test_two_sets_and_the_ranges_of_all_their_levels(folder: Path) -> None:
    data = write_portrait_data(folder / "data")
    one, other = _write(folder / "run" / "a.safetensors", 1), _write(folder / "run" / "b.safetensors", 2)
    sha256 = module.package(one, other, data)
    both = load_weights(packaged_path("tiny"))
    assert both.sha256 == sha256
    assert both.description.stage == "1+2"
    assert (folder / "run" / "pack" / "train512.raw").is_file()
    module.package(one, data=data)
    alone = load_weights(packaged_path("tiny"))
    assert json.loads(weights_module.MANIFEST.read_text())["tiny"]["sha256"] == alone.sha256
    for size in (256, 512):
        assert both.ranges[size].keys() == alone.ranges[size].keys()
        for name, (low, high) in alone.ranges[size].items():
            wider = both.ranges[size][name]
            assert wider[0] <= low + 1e-3 and wider[1] >= high - 1e-3
            assert low < high
    assert any(both.ranges[512][name] != each for name, each in alone.ranges[512].items())


def test_without_data_there_are_no_ranges(folder: Path) -> None:
    module.package(_write(folder / "run" / "a.safetensors", 1))
    assert load_weights(packaged_path("tiny")).ranges == {}


def test_weights_of_two_networks_are_refused(folder: Path) -> None:
    one, other = _write(folder / "a.safetensors", 1), _write(folder / "b.safetensors", 2, recurrent=True)
    with pytest.raises(ConfigError, match=r"a.safetensors and b.safetensors are of different networks"):
        module.package(one, other)
    assert not (folder / "packaged").exists()
