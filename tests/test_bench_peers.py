"""Networks of the user's, in each of the formats, of whole frames and of faces."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import openvino
import pytest
import torch
from openvino import opset13 as ops
from portrait import aligned_portrait
from torch import Tensor, nn

from streamsr.bench.baselines import bicubic
from streamsr.bench.face_truth import FaceTruth
from streamsr.bench.landmarks import LandmarkFinder
from streamsr.bench.peers import FacePeer, FramePeer, named_files
from streamsr.bench.stills import template_matrix
from streamsr.errors import ConfigError

NCNN_DOUBLE = "7767517\n2 2\nInput in0 0 1 in0\nInterp up 1 1 in0 out0 0=1 1=2.0 2=2.0\n"


class Enlarge(nn.Module):
    """Nearest enlargement, red made brighter by 0.2."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        up = x.repeat_interleave(self.factor, 2).repeat_interleave(self.factor, 3)
        return up + torch.tensor([0.2, 0.0, 0.0]).view(1, 3, 1, 1)


@pytest.fixture(scope="module")
def low() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 180, (12, 17, 3), np.uint8)


def enlarge(tmp_path: Path, factor: int) -> Path:
    path = tmp_path / f"x{factor}.pt"
    torch.jit.script(Enlarge(factor)).save(str(path))
    return path


def field(number: int, value: int | bytes) -> bytes:
    """Of a protocol buffer: an integer below 128, or bytes of less than 128."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    return bytes([number << 3 | 2, len(value)]) + value


def onnx_identity() -> bytes:
    """ModelProto: ir_version 8, opset 13, a graph of one Identity node x -> y, both (1, 3, h, w)."""
    sizes = (field(1, 1), field(1, 3), field(2, b"h"), field(2, b"w"))
    dimensions = b"".join(field(1, size) for size in sizes)
    tensor = field(1, 1) + field(2, dimensions)  # float32
    ends = [field(1, name) + field(2, field(1, tensor)) for name in (b"x", b"y")]
    node = field(1, b"x") + field(2, b"y") + field(4, b"Identity")
    graph = field(1, node) + field(2, b"g") + field(11, ends[0]) + field(12, ends[1])
    return field(1, 8) + field(7, graph) + field(8, field(2, 13))


def test_the_scale_is_inferred_and_channels_are_in_order(tmp_path: Path, low: np.ndarray) -> None:
    out = FramePeer("twice", enlarge(tmp_path, 2))(low, 2)
    expected = low.repeat(2, 0).repeat(2, 1)
    assert np.array_equal(out[..., 1:], expected[..., 1:])
    assert np.array_equal(out[..., 0], expected[..., 0] + 51)
    assert FramePeer("four times", enlarge(tmp_path, 4))(low, 2)[..., 1:] == pytest.approx(expected[..., 1:])


def test_one_of_equal_size_sees_the_bicubic_enlargement(tmp_path: Path, low: np.ndarray) -> None:
    peer = FramePeer("same", enlarge(tmp_path, 1))
    for _ in range(2):
        assert np.array_equal(peer(low, 4)[..., 1:], bicubic(low, 4)[..., 1:])
    assert np.array_equal(peer(low, 1)[..., 1:], low[..., 1:])


def test_onnx_and_openvino_files(tmp_path: Path, low: np.ndarray) -> None:
    (tmp_path / "same.onnx").write_bytes(onnx_identity())
    picture = ops.parameter([1, 3, -1, -1], np.float32)
    openvino.save_model(openvino.Model([ops.relu(picture)], [picture]), tmp_path / "same.xml")
    for name in ("same.onnx", "same.xml"):
        assert np.array_equal(FramePeer("p", tmp_path / name)(low, 2), bicubic(low, 2))


def test_ncnn_files(tmp_path: Path, low: np.ndarray) -> None:
    pytest.importorskip("ncnn", reason="pip install ncnn")
    path = tmp_path / "double.param"
    path.write_text(NCNN_DOUBLE)
    with pytest.raises(ConfigError, match=r"no double\.bin beside"):
        FramePeer("double", path)
    path.with_suffix(".bin").write_bytes(b"")
    assert np.array_equal(FramePeer("double", path)(low, 2), low.repeat(2, 0).repeat(2, 1))


def test_without_ncnn_its_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ncnn", None)
    (tmp_path / "p.param").write_text(NCNN_DOUBLE)
    with pytest.raises(ConfigError, match="needs ncnn: pip install ncnn"):
        FramePeer("p", tmp_path / "p.param")


def test_a_face_network_changes_the_face_alone(tmp_path: Path) -> None:
    truth = aligned_portrait()[::2, ::2] // 2  # far from white
    finder = LandmarkFinder()
    mesh = finder.find(truth)
    finder.close()
    assert mesh is not None
    face = FaceTruth((mesh + 0.5) / 2 - 0.5, template_matrix(256))
    low = truth[::2, ::2].copy()
    plain = bicubic(low, 2)
    out = FacePeer("red", enlarge(tmp_path, 1)).enhance(low, 2, [face])
    change = out.astype(int) - plain
    assert np.median(change[100:180, 100:160, 0]) == pytest.approx(51, abs=2)  # nose and cheeks
    assert np.abs(change[..., 1:]).max() <= 1
    assert np.abs(change[:4]).max() == 0  # the border of the crop
    assert np.array_equal(FacePeer("red", enlarge(tmp_path, 1)).enhance(low, 2, []), plain)


def test_what_cannot_be_used_is_named(tmp_path: Path, low: np.ndarray) -> None:
    assert named_files(["a=x.onnx", "b=y=z.pt"], "--peer") == {"a": Path("x.onnx"), "b": Path("y=z.pt")}
    for wrong in (["a"], ["=x.pt"], ["a=x.pt", "a=y.pt"]):
        with pytest.raises(ConfigError, match="--peer must be NAME=FILE"):
            named_files(wrong, "--peer")
    with pytest.raises(ConfigError, match=r"a peer must be one of \.onnx"):
        FramePeer("p", tmp_path / "p.bin")
    with pytest.raises(ConfigError, match="no peer"):
        FramePeer("p", tmp_path / "p.onnx")
    for name, words in (("p.onnx", "OpenVINO cannot read"), ("p.pt", "is no TorchScript file")):
        (tmp_path / name).write_bytes(b"nonsense")
        with pytest.raises(ConfigError, match=words):
            FramePeer("p", tmp_path / name)
    torch.jit.script(nn.Flatten()).save(str(tmp_path / "flat.pt"))
    with pytest.raises(ConfigError, match=r"peer flat must give \(1, 3, H, W\), got \(1, 612\)"):
        FramePeer("flat", tmp_path / "flat.pt")(low, 2)
    torch.jit.script(nn.Conv2d(4, 4, 3)).save(str(tmp_path / "four.pt"))
    with pytest.raises(ConfigError, match=r"does not take \(1, 3, 12, 17\)"):
        FramePeer("four", tmp_path / "four.pt")(low, 2)
