import pytest
import torch

from streamsr.errors import ModelError
from streamsr.model.network import GUIDE_OUTPUTS, PRESETS, Condition, Memory, Network


def _condition(batch: int) -> Condition:
    g = torch.Generator().manual_seed(3)
    draw = [torch.rand(batch, generator=g) for _ in range(3)]
    camera = torch.rand(batch, 2, 3, generator=g)
    return Condition(draw[0], draw[1], torch.randn(batch, GUIDE_OUTPUTS, generator=g), camera, draw[2])


def _awake(preset: str = "tiny") -> Network:
    """A network whose zero-initialised parts are not zero, so that every path shows in the output."""
    torch.manual_seed(0)
    network = Network(PRESETS[preset])
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.05)
    return network.eval()


@pytest.mark.parametrize("size", [256, 512])
def test_a_new_network_returns_its_input(size: int) -> None:
    network = Network(PRESETS["tiny"]).eval()
    x_in, y = torch.rand(1, 3, size, size) * 2 - 1, torch.rand(1, 3, size // 4, size // 4)
    with torch.inference_mode():
        out = network(torch.randn_like(x_in), x_in, y, _condition(1), size=size)
    assert not out.residual.any()
    assert out.features.shape == (1, 16, 64, 64)


@pytest.mark.parametrize("size", [256, 512])
def test_a_batch_gives_what_its_members_give(size: int) -> None:
    network = _awake()
    g = torch.Generator().manual_seed(1)
    x_t, x_in = (torch.randn(2, 3, size, size, generator=g) for _ in range(2))
    y, condition = torch.randn(2, 3, size // 4, size // 4, generator=g), _condition(2)
    with torch.inference_mode():
        both = network(x_t, x_in, y, condition, size=size).residual
        for i in range(2):
            one = Condition(*(v[i : i + 1] for v in condition))
            alone = network(x_t[i : i + 1], x_in[i : i + 1], y[i : i + 1], one, size=size).residual
            assert (alone - both[i : i + 1]).abs().max() < 1e-4
    assert both.abs().max() > 0.01


@pytest.mark.parametrize("size", [256, 512])
@pytest.mark.parametrize("changed", ["x_t", "x_in", "y", "t", "t0", "guide", "camera", "level", "memory"])
def test_every_input_matters(size: int, changed: str) -> None:
    network = _awake()
    g = torch.Generator().manual_seed(1)
    x_t, x_in = (torch.randn(1, 3, size, size, generator=g) for _ in range(2))
    y, condition, memory = torch.randn(1, 3, size // 4, size // 4, generator=g), _condition(1), None
    with torch.inference_mode():
        before = network(x_t, x_in, y, condition, memory, size=size)
        if changed == "memory":
            memory = Memory(x_in * 0.5, before.features, y, torch.ones(1, 1, size // 4, size // 4))
        elif changed in Condition._fields:
            condition = condition._replace(**{changed: getattr(condition, changed) + 0.3})
        elif changed == "x_t":
            x_t = x_t + 0.1
        elif changed == "x_in":
            x_in = x_in + 0.1
        else:
            y = y + 0.1
        after = network(x_t, x_in, y, condition, memory, size=size)
    assert (after.residual - before.residual).abs().max() > 1e-4


@pytest.mark.parametrize("size", [256, 512])
def test_only_the_fraction_of_a_camera_pixel_matters(size: int) -> None:
    network = _awake()
    x_in, y = torch.randn(1, 3, size, size), torch.randn(1, 3, size // 4, size // 4)
    condition = _condition(1)
    outs = []
    with torch.inference_mode():
        for shift in (0.0, 1.0, 0.5):
            camera = condition.camera.clone()
            camera[:, :, 2] += shift
            outs.append(network(x_in, x_in, y, condition._replace(camera=camera), size=size).residual)
    assert (outs[1] - outs[0]).abs().max() < 1e-3
    assert (outs[2] - outs[0]).abs().max() > 1e-2


@pytest.mark.parametrize("size", [256, 512])
def test_a_window_knows_its_sampling_phase(size: int) -> None:
    """Far from its edges a crop sees what the whole does: the phase is taken at the window's own place."""
    network = _awake()
    with torch.no_grad():
        network.trunk.unpatchify.weight.zero_()  # attention and the mean token do look at the whole
        network.gather.weight.zero_()
    token = size // 16
    x, y, condition = torch.randn(1, 3, size, size), torch.zeros(1, 3, size // 4, size // 4), _condition(1)
    with torch.inference_mode():
        whole = network(x, x, y, condition, size=size).residual
        rows, columns = slice(2 * token, 14 * token), slice(4 * token, 16 * token)
        part = network(
            x[..., rows, columns], x[..., rows, columns], y[..., : 3 * token, : 3 * token], condition,
            size=size, window=(2, 4),
        ).residual  # fmt: skip
    inner = slice(4 * token, 8 * token)
    assert (part[..., inner, inner] - whole[..., rows, columns][..., inner, inner]).abs().max() < 1e-3


def test_a_window_of_the_grid_is_a_crop_for_convolutions_far_from_its_edge() -> None:
    network = Network(PRESETS["tiny"]).eval()
    x = torch.randn(1, 3, 128, 128)
    out = network(x, x, torch.randn(1, 3, 32, 32), _condition(1), size=256, window=(4, 8))
    assert out.residual.shape == x.shape


def test_wrong_sizes_are_named() -> None:
    network = Network(PRESETS["tiny"])
    x = torch.zeros(1, 3, 256, 256)
    with pytest.raises(ModelError, match=r"size must be one of \(256, 512\), got 128"):
        network(x, x, torch.zeros(1, 3, 64, 64), _condition(1), size=128)
    x = torch.zeros(1, 3, 250, 256)
    with pytest.raises(ModelError, match="multiples of 16 px"):
        network(x, x, torch.zeros(1, 3, 64, 64), _condition(1), size=256)


@pytest.mark.parametrize(("preset", "millions"), [("S", 3.0), ("M", 7.0), ("L", 19.0)])
def test_presets_have_their_sizes(preset: str, millions: float) -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in Network(PRESETS[preset]).parameters())
    assert 0.75 * millions < count / 1e6 < 1.2 * millions
