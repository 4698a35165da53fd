"""``streamsr train STAGE``: one stage of the recipe, resumable."""

from __future__ import annotations

from pathlib import Path

from ..errors import ConfigError
from ..model.network import PRESETS
from ..model.restorer import choose_device
from .recipe import STAGES
from .run import Run, train_stage

__all__ = ["train"]


def train(
    stage: str,
    *,
    data: Path,
    out: Path,
    preset: str = "M",
    minutes: float | None = None,
    begin: Path | None = None,
    device: str = "auto",
    seed: int = 0,
    validate_every_s: float = 600.0,
) -> None:
    """Run ``stage`` in folder ``out`` until its minutes are used up, over all resumptions.

    A checkpoint in ``out`` is resumed; without one training begins from the weights file ``begin``, an
    adversarial stage from its perceptual set if it has one, or from nothing. Raises ConfigError, ModelError,
    DeviceError.
    """
    if stage not in STAGES:
        raise ConfigError(f"stage must be one of {', '.join(STAGES)}, got {stage}")
    if preset not in PRESETS:
        raise ConfigError(f"preset must be one of {', '.join(PRESETS)}, got {preset}")
    minutes = STAGES[stage].minutes if minutes is None else minutes
    if not minutes > 0:
        raise ConfigError(f"minutes must be above 0, got {minutes}")
    fidelity = 0.0 if STAGES[stage].adversarial else 1.0
    run = Run(out, preset, choose_device(device), begin, fidelity)
    if run.resume():
        print(f"resuming stage {run.stage} at step {run.step}, {run.elapsed_s / 60:.1f} min", flush=True)
    train_stage(
        run, STAGES[stage], data, out / "pack", minutes=minutes, seed=seed, validate_every_s=validate_every_s
    )
    print(f"wrote {out / f'streamsr-{preset.lower()}.safetensors'}", flush=True)
