"""Eight bits: how near to f32, that the kernels are made, and what a file must hold for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from portrait import aligned_portrait, write_portrait_data
from safetensors.torch import load_file, save_file

from streamsr.errors import DeviceError, ModelError
from streamsr.model import openvino_engine
from streamsr.model.crop import Crop
from streamsr.model.engine import Precision
from streamsr.model.guide import Guide
from streamsr.model.int8 import Ranges, rounded
from streamsr.model.network import PRESETS, Network
from streamsr.model.openvino_engine import OpenVinoEngine, cpu_precision
from streamsr.model.openvino_graph import load_openvino
from streamsr.model.restorer import Restorer
from streamsr.model.torch_engine import TorchEngine
from streamsr.model.weights import Description, load_weights, save_weights
from streamsr.train.calibrate import measure_ranges
from streamsr.train.losses import psnr

HEADER = '{"preset": "tiny", "stage": "a", "recurrent": false}'


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packaged network with ranges measured on a portrait."""
    folder = tmp_path_factory.mktemp("int8")
    weights, data = load_weights(), write_portrait_data(folder / "data")
    ranges = measure_ranges(weights, data, folder / "pack", faces=4)
    path = folder / "m.safetensors"
    save_weights(path, weights.network, weights.guide, weights.description, ranges=ranges)
    assert load_weights(path).ranges[512].keys() == ranges[512].keys()
    return path


def _crop(size: int) -> tuple[Crop, np.ndarray]:
    """A portrait as a camera shows it at n = S / 4, and as it is."""
    x = cv2.resize(aligned_portrait(), (size, size), interpolation=cv2.INTER_AREA)
    y = cv2.resize(x, (size // 4, size // 4), interpolation=cv2.INTER_AREA)
    x_in = cv2.resize(y, (size, size), interpolation=cv2.INTER_CUBIC)
    camera = np.array([[0.25, 0, -0.375], [0, 0.25, -0.375]])
    patch = cv2.resize(cv2.cvtColor(y, cv2.COLOR_RGB2GRAY), (64, 64)).astype(np.float32)
    return Crop(x_in, y, camera, patch), x


def _restored(path: Path, precision: Precision, crop: Crop) -> np.ndarray:
    restorer = Restorer.load(path, device="cpu", precision=precision)
    (trace,) = restorer.restore([crop], restorer.guide([crop]))
    restorer.close()
    return crop.x_in + trace.residual


def _psnr(a: np.ndarray, b: np.ndarray) -> float:
    return psnr(float(np.square((a.astype(float) - b) / 255).mean()))


@pytest.mark.parametrize("size", [256, 512])
def test_a_picture_in_int8_is_within_50_db_of_f32_and_as_true(measured: Path, size: int) -> None:
    crop, truth = _crop(size)
    exact, eight = (_restored(measured, precision, crop) for precision in ("f32", "int8"))
    assert 50 < _psnr(eight, exact) < 80
    assert _psnr(exact, truth) > _psnr(crop.x_in, truth) + 0.5
    assert _psnr(eight, truth) == pytest.approx(_psnr(exact, truth), abs=0.1)


@pytest.mark.parametrize("size", [256, 512])
def test_every_layer_with_a_range_becomes_an_integer_kernel(measured: Path, size: int) -> None:
    weights = load_weights(measured)
    engine = OpenVinoEngine(weights, threads=2, precision="int8")
    engine.prepare(1.0)
    compiled = engine._networks[size, 1.0]._request.get_compiled_model()
    kinds = [
        str(op.get_rt_info()["primitiveType"].astype(str)) for op in compiled.get_runtime_model().get_ops()
    ]
    heavy = [k for k in kinds if k.lower().endswith("_i8") and "brg" in k]
    assert len(heavy) == len(weights.ranges[size])


def test_the_copy_in_8_bits_leaves_the_network_as_it_is(measured: Path) -> None:
    weights = load_weights(measured)
    before = {k: v.clone() for k, v in weights.network.state_dict().items()}
    copy = rounded(weights.network, 512, weights.ranges[512])
    assert type(copy.get_submodule("tail.0.conv1")) is not torch.nn.Conv2d
    assert type(copy.get_submodule("ports.256.enter")) is torch.nn.Conv2d  # not of this size
    for name, value in weights.network.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize(
    ("flags", "capabilities", "has_ranges", "precision"),
    [
        ({"avx512_vnni"}, ["FP32", "BF16"], True, "int8"),
        ({"avx_vnni"}, ["FP32"], True, "int8"),
        ({"avx512_vnni"}, ["FP32", "BF16"], False, "bf16"),
        ({"avx512f"}, ["FP32", "BF16"], True, "bf16"),
        ({"avx2"}, ["FP32", "INT8"], True, "f32"),
        (set(), ["FP32"], False, "f32"),
    ],
)
def test_the_fastest_precision_that_the_processor_and_the_file_have(
    monkeypatch: pytest.MonkeyPatch,
    flags: set[str],
    capabilities: list[str],
    has_ranges: bool,
    precision: Precision,
) -> None:
    class Core(load_openvino().Core):  # type: ignore[misc, name-defined]
        def get_property(self, device: str, name: str) -> list[str]:
            return capabilities

    monkeypatch.setattr(openvino_engine, "cpu_flags", lambda: flags)
    ranges: Ranges = {256: {"stem.0.conv1": (0.0, 1.0)}} if has_ranges else {}
    assert cpu_precision(Core(), replace(load_weights(), ranges=ranges)) == precision


def test_a_file_without_ranges_runs_but_not_in_int8(tiny: Path) -> None:
    weights = load_weights(tiny)
    assert weights.ranges == {}
    assert OpenVinoEngine(weights, threads=1).precision in ("bf16", "f32")
    with pytest.raises(ModelError, match=r"weights tiny.safetensors have no ranges for int8"):
        OpenVinoEngine(weights, threads=1, precision="int8")


def test_torch_does_not_compute_in_int8(tiny: Path) -> None:
    with pytest.raises(DeviceError, match="precision int8 is for device cpu: on cuda use bf16 or f32"):
        TorchEngine(load_weights(tiny), torch.device("cuda"), "int8")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("tiny") / "tiny.safetensors"
    save_weights(path, Network(PRESETS["tiny"]), Guide(), Description("tiny", "a", False))
    return path


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("range.256.stem.0.conv1", torch.zeros(3), r"must be \(2,\), got \(3,\)"),
        ("range.256.stem.0.conv1", torch.tensor([1.0, -1.0]), "must be from low to high, got 1.0 to -1.0"),
        (
            "range.512.trunk.patchify",
            torch.tensor([0.0, torch.inf]),
            "must be from low to high, got 0.0 to inf",
        ),
        ("range.512.ports.512.up", None, "is missing"),
        ("range.512.ports.256.enter", torch.zeros(2), "is of no layer"),
    ],
)
def test_ranges_that_do_not_fit_are_one_clear_error(
    tiny: Path, tmp_path: Path, name: str, value: torch.Tensor | None, message: str
) -> None:
    weights, whole = load_weights(tiny), tmp_path / "whole.safetensors"
    layers = ["stem.0.conv1", "stem.0.conv2", "tail.0.conv1", "tail.0.conv2", "trunk.patchify"]
    layers += ["trunk.unpatchify", "trunk.blocks.0.attention.qkv", "trunk.blocks.0.attention.out"]
    layers += ["trunk.blocks.0.mlp.0", "trunk.blocks.0.mlp.2"]
    fine = [f"ports.512.{part}" for part in ("enter", "down", "up")]
    fine += [f"ports.512.blocks.{k}.conv{i}" for k in range(6) for i in (1, 2)]
    ranges = {256: [*layers, "ports.256.enter"], 512: [*layers, *fine]}
    known: Ranges = {size: dict.fromkeys(names, (-0.5, 2.0)) for size, names in ranges.items()}
    save_weights(whole, weights.network, weights.guide, weights.description, ranges=known)
    assert load_weights(whole).ranges == known
    tensors = load_file(whole)
    if value is None:
        del tensors[name]
    else:
        tensors[name] = value
    wrong = tmp_path / "wrong.safetensors"
    save_file(tensors, wrong, metadata={"streamsr": HEADER})
    with pytest.raises(ModelError, match=f"weights wrong.safetensors: {name} {message}"):
        load_weights(wrong)
