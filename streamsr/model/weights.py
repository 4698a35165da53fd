"""Weights on disk: one safetensors file, its recipe in the header, its sha256 in a manifest.

A file holds the fidelity weights in bfloat16 and, if it has them, the perceptual ones as what they differ
by, in 8 bits with a scale for each output channel: the difference is small, and half as large on disk.
With ranges of what enters its layers it can run in int8.
"""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import ModelError
from .guide import Guide
from .int8 import Ranges, as_tensors, from_tensors
from .network import PRESETS, Network

__all__ = [
    "LEVELS",
    "MANIFEST",
    "PACKAGED",
    "Description",
    "Weights",
    "level_of",
    "load_weights",
    "packaged_path",
    "save_weights",
    "sha256_of",
]

PACKAGED = Path(__file__).parent / "packaged"
MANIFEST = PACKAGED / "manifest.json"
LEVELS = (0.0, 0.2, 0.4, 0.7, 1.0)  # of fidelity; each is a set of weights of its own


@dataclass(frozen=True)
class Description:
    """What a weights file says of itself.

    recurrent: with the latent cache; without it the cache is never fed.
    """

    preset: str
    stage: str
    recurrent: bool


@dataclass(frozen=True)
class Weights:
    """network: the fidelity weights. change: what the perceptual ones add to them, by name; may be empty.
    ranges: for int8, of every level; may be empty."""

    network: Network
    guide: Guide
    description: Description
    sha256: str
    path: Path
    change: dict[str, torch.Tensor]
    ranges: Ranges

    def at(self, fidelity: float) -> Network:
        """theta = theta_fidelity + (1 - fidelity) (theta_perceptual - theta_fidelity), after ESRGAN."""
        network = copy.deepcopy(self.network)
        with torch.no_grad():
            for name, value in network.named_parameters():
                if name in self.change:
                    value.add_(self.change[name], alpha=1 - fidelity)
        return network


def level_of(fidelity: float) -> float:
    """The nearest of LEVELS."""
    return min(LEVELS, key=lambda level: abs(level - fidelity))


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def packaged_path(preset: str = "M") -> Path:
    """The packaged weights of ``preset``, proved by the manifest. Raises ModelError."""
    try:
        manifest: dict[str, Any] = json.loads(MANIFEST.read_text())
        entry = manifest[preset]
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"no packaged weights of preset {preset}: reinstall streamsr ({error})") from error
    path = PACKAGED / str(entry["file"])
    if not path.is_file():
        raise ModelError(f"weights missing: {path.name} (sha256 {entry['sha256']}): reinstall streamsr")
    found = sha256_of(path)
    if found != entry["sha256"]:
        raise ModelError(
            f"weights altered: {path.name} has sha256 {found}, expected {entry['sha256']}: reinstall streamsr"
        )
    return path


def load_weights(path: Path | None = None, *, preset: str = "M") -> Weights:
    """Read a weights file (the packaged one by default) into fp32 modules. Raises ModelError."""
    path = packaged_path(preset) if path is None else Path(path)
    if not path.is_file():
        raise ModelError(f"weights missing: {path}")
    try:
        with safe_open(path, "pt") as file:
            header = json.loads(file.metadata()["streamsr"])
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
        scales, steps = _part(tensors, "change_scale."), _part(tensors, "change.")
        change = {name: value * _by_row(scales[name], value) for name, value in steps.items()}
        description = Description(**header)
        config = PRESETS[description.preset]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"not a streamsr weights file: {path} ({error})") from error
    network, guide = Network(config), Guide()
    try:
        network.load_state_dict(_part(tensors, "network."))
        guide.load_state_dict(_part(tensors, "guide."))
    except RuntimeError as error:
        raise ModelError(f"weights {path.name} do not fit preset {description.preset}: {error}") from error
    try:
        ranges = from_tensors(_part(tensors, "range."), network)
    except ModelError as error:
        raise ModelError(f"weights {path.name}: {error}") from error
    return Weights(network.eval(), guide.eval(), description, sha256_of(path), path, change, ranges)


def save_weights(
    path: Path,
    network: Network,
    guide: Guide,
    description: Description,
    perceptual: Network | None = None,
    ranges: Ranges | None = None,
) -> str:
    """Write the weights; the file appears whole or not at all. Returns its sha256."""
    tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"guide.{k}": v for k, v in guide.state_dict().items()}
    tensors = {k: v.detach().cpu().to(torch.bfloat16).contiguous() for k, v in tensors.items()}
    if perceptual is not None:
        for name, there in perceptual.state_dict().items():
            change = there.detach().cpu().float() - tensors[f"network.{name}"].float()
            scale = change.flatten(1).abs().amax(1) if change.dim() > 1 else change.abs()
            scale = scale.clamp_min(1e-12) / 127
            tensors[f"change.{name}"] = (change / _by_row(scale, change)).round().to(torch.int8)
            tensors[f"change_scale.{name}"] = scale
    tensors |= {f"range.{k}": v for k, v in as_tensors(ranges or {}).items()}
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"streamsr": json.dumps(asdict(description))})
    partial.replace(path)
    return sha256_of(path)


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _by_row(scale: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return scale.view(-1, *[1] * (like.dim() - 1))
