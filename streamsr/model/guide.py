"""The discriminative guide: how much is missing from a face, and so where its trajectory starts.

After DTI (Dynamic Trajectory Initialization), SNR alignment. With sigma = rms(x_in - x) inside the
face, the input's SNR is P_x / sigma^2 and the process at t has ((1 - t) / (kappa t))^2 P_x; the two
are equal at t0 = sigma / (kappa + sigma).
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .coding import STATISTICS
from .network import GUIDE_OUTPUTS
from .ports import zero
from .reading import BAND_SHARE, KAPPA

__all__ = [
    "BAND_SHARE",
    "KAPPA",
    "QP_SCALE",
    "UNCODED_QP",
    "Guide",
    "Reading",
    "haar_stack",
    "luma_of",
    "start_time",
    "template_mask",
    "true_reading",
]

LOG_FLOOR = math.log(1e-3)  # an rms below a tenth of a grey level is as good as none
_LOG_MEAN, _LOG_SCALE = -4.0, 1.5  # of log sigma over faces; keeps the guide's outputs near unit size
_QP_MEAN, QP_SCALE = 31.0, 4.0
UNCODED_QP = 14.0  # that of a picture which never met a codec: its rounding does not show


class Reading(NamedTuple):
    """log_bands (B, 7): log sigma_b of the missing residual x - x_in by Haar band, inside the face.

    log_sigma_y (B,): log rms(y - A x), the error of the observation itself. Units of [-1, 1] pictures.
    quantiser (B,): how coarsely the camera's picture was coded, on H.264's scale of QP; 14 if it was not.
    """

    log_bands: Tensor
    log_sigma_y: Tensor
    quantiser: Tensor

    @property
    def sigma(self) -> Tensor:
        """(B,) sigma of the whole residual: sigma^2 = sum (n_b / n) sigma_b^2."""
        share = torch.tensor(BAND_SHARE, device=self.log_bands.device)
        return ((2 * self.log_bands).exp() * share).sum(1).sqrt()

    @property
    def t0(self) -> Tensor:
        return start_time(self.sigma)

    @property
    def high_band_energy(self) -> Tensor:
        """(B,) energy a pixel that is missing from the six high bands."""
        share = torch.tensor(BAND_SHARE[:6], device=self.log_bands.device)
        return ((2 * self.log_bands[:, :6]).exp() * share).sum(1)

    def condition(self) -> Tensor:
        """(B, 9): what the network is told, about unit size."""
        logs = torch.cat([self.log_bands, self.log_sigma_y[:, None]], 1)
        quantiser = (self.quantiser[:, None] - _QP_MEAN) / QP_SCALE
        return torch.cat([(logs - _LOG_MEAN) / _LOG_SCALE, quantiser], 1)


def start_time(sigma: Tensor) -> Tensor:
    """t0 = sigma / (kappa + sigma): SNR alignment, after DTI."""
    return sigma / (KAPPA + sigma)


def haar_stack(x: Tensor) -> Tensor:
    """The seven bands side by side on the S/4 grid: (B, 16 C, H/4, W/4), the channel c last.

    Twelve parts of the level-1 high bands (band, then position in the 2 x 2), three level-2 high bands,
    the low band. Both levels at once are one product with each 4 x 4 block.
    """
    b, c, h, w = x.shape
    blocks = x.permute(0, 2, 3, 1).reshape(b, h // 4, 4, w // 4, 4 * c).transpose(2, 3)
    haar, eye = _on("haar", x.device, x.dtype), torch.eye(c, device=x.device, dtype=x.dtype)
    transform = (haar[:, None, :, None] * eye[:, None]).reshape(16 * c, 16 * c)  # channels do not mix
    return (blocks.reshape(b, h // 4, w // 4, 16 * c) @ transform).permute(0, 3, 1, 2)


def _haar_transform() -> Tensor:
    """(16, 16): rows are level 1 at the four positions of each band, then level 2; columns 4 x 4 px."""
    signs = torch.tensor(
        [[[1, 1], [-1, -1]], [[1, -1], [1, -1]], [[1, -1], [-1, 1]], [[1, 1], [1, 1]]]
    ).float()
    kernels = torch.zeros(16, 4, 4)
    for band in range(3):
        for position in range(4):
            top, left = 2 * (position // 2), 2 * (position % 2)
            kernels[4 * band + position, top : top + 2, left : left + 2] = signs[band] / 2
    for band in range(4):
        kernels[12 + band] = torch.kron(signs[band], torch.ones(2, 2)) / 4
    return kernels.flatten(1)


_CONSTANTS = {
    "haar": _haar_transform().T,
    "share": torch.tensor(BAND_SHARE[:6]),
    # of haar_stack(luma): high1 x 12, high2 x 3, low2: brings each near unit size
    "gain": torch.tensor([8.0] * 12 + [4.0] * 3 + [0.25]).view(1, 16, 1, 1),
}


@cache
def _on(name: str, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Of _CONSTANTS, copied to the device once: within the capture of a CUDA graph nothing can be."""
    with torch.inference_mode(False):
        return _CONSTANTS[name].to(device, dtype)


def band_rms(x: Tensor, mask: Tensor) -> Tensor:
    """(B, 7) rms of the seven bands of x (B, C, H, W) under mask (B, 1, H/4, W/4)."""
    b, c, h, w = x.shape
    energy = haar_stack(x).square_().view(b, 16, c, h // 4, w // 4)
    weight = (mask / mask.sum((2, 3), keepdim=True).clamp_min(1e-6)).expand(b, 1, -1, -1)
    each = torch.einsum("bkcn,bn->bk", energy.flatten(3), weight.flatten(1)) / c  # (B, 16)
    return torch.cat([each[:, :12].view(b, 3, 4).mean(2), each[:, 12:]], 1).clamp_min(0).sqrt()


def true_reading(x: Tensor, x_in: Tensor, y: Tensor, mask: Tensor, quantiser: Tensor) -> Reading:
    """What a perfect guide would say. x, x_in (B, 3, S, S), y (B, 3, S/4, S/4), mask (B, 1, S/4, S/4)."""
    bands = band_rms(x - x_in, mask)
    error = (y - F.avg_pool2d(x, 4)).square().mean(1, keepdim=True)
    weight = mask / mask.sum((2, 3), keepdim=True).clamp_min(1e-6)
    sigma_y = (error * weight).sum((1, 2, 3)).sqrt()
    return Reading(_log(bands), _log(sigma_y), quantiser)


def _log(rms: Tensor) -> Tensor:
    return rms.clamp_min(math.exp(LOG_FLOOR)).log()


class Guide(nn.Module):
    """Reads the Haar bands of x_in, log2(n / S) and the statistics of coding; 0.17 M parameters.

    The bands, not y: y alone cannot tell a sharp face from its own reduction.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(16 + 2, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        inputs = 4 * width + 7 + 2 + STATISTICS
        self.read = nn.Sequential(
            nn.Linear(inputs, 4 * width), nn.ReLU(), nn.Linear(4 * width, GUIDE_OUTPUTS)
        )
        zero(self.read[-1])

    def forward(self, x_in: Tensor, native: Tensor, coding: Tensor, mask: Tensor) -> Reading:
        """x_in (B, 3, S, S) in [-1, 1]; native (B,) log2(n / S); coding (B, STATISTICS), see model.coding;
        mask (B, 1, S/4, S/4) of the face."""
        return self.read_with_energy(x_in, native, coding, mask)[0]

    def read_with_energy(
        self, x_in: Tensor, native: Tensor, coding: Tensor, mask: Tensor
    ) -> tuple[Reading, Tensor]:
        """The reading, and (B,) the energy a pixel of the six high bands that x_in has."""
        x_in = x_in.float()
        luma = luma_of(x_in)  # (B, 1, S, S)
        grid = haar_stack(luma) * _on("gain", luma.device)
        chroma = F.avg_pool2d(x_in[:, ::2] - luma, 4)  # (B, 2, S/4, S/4)
        with torch.no_grad():
            rms = band_rms(x_in, mask)
            share = _on("share", rms.device)
            energy = (rms[:, :6].square() * share).sum(1)
            present = (_log(rms) - _LOG_MEAN) / _LOG_SCALE
        features = self.convs(torch.cat([grid, chroma], 1)).float().mean((2, 3))
        size = torch.full_like(native, math.log2(x_in.shape[-1] / 256))
        inputs = torch.cat([features, present, native[:, None], size[:, None], coding], 1)
        outputs = self.read(inputs).float()
        logs = (outputs[:, :8] * _LOG_SCALE + _LOG_MEAN).clamp(LOG_FLOOR, 1.0)
        quantiser = (outputs[:, 8] * QP_SCALE + _QP_MEAN).clamp(0, 51)
        return Reading(logs[:, :7], logs[:, 7], quantiser), energy


def luma_of(x: Tensor) -> Tensor:
    """(B, 1, H, W) BT.601 luma of (B, 3, H, W)."""
    return 0.299 * x[:, :1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:]


def template_mask(size: int, device: torch.device | str = "cpu", reach: float = 1.1) -> Tensor:
    """(1, 1, size, size) float32: the ellipse that holds the face in the aligned template, soft-edged.

    The guide is trained and asked under this mask, whatever the mesh says. reach: of its outer edge, in
    radii of the face.
    """
    at = (torch.arange(size, device=device, dtype=torch.float32) + 0.5) * (512 / size)
    dx, dy = (at - 257) / 132, (at - 285) / 172
    radius = (dx[None, :].square() + dy[:, None].square()).sqrt()
    return ((reach - radius) / 0.2).clamp(0, 1)[None, None]
