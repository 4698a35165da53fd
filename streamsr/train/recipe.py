"""The stages of the recipe: G guide, A and B stills, C clips, D adversarial, E adversarial on clips."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["STAGES", "Stage"]


@dataclass(frozen=True)
class Stage:
    """plan: (S, batch, weight). crop_share: batches of which CROP_VISITS quarters are trained on, one
    after another; of the others, whole faces.

    A quarter costs a quarter and teaches the convolutions as much; the whole face is what attention will
    see. end_share: samples at tau = 1, the state a one-step run visits. guide_only: the network rests.
    workers: processes that degrade. frames: of a clip; weights that remember are rolled out over all of
    them. remembering: weights that did not begin to. adversarial: against a discriminator, on features of
    SqueezeNet. steady: weight of the loss on the change of the error between frames. minutes: on two CPU
    cores.
    """

    name: str
    minutes: float
    plan: tuple[tuple[int, int, float], ...]
    lr: float
    crop_share: float
    end_share: float
    ema: float
    guide_only: bool = False
    workers: int = 1
    frames: int = 1
    remembering: bool = False
    adversarial: bool = False
    steady: float = 0.0


_BOTH_SIZES = ((256, 4, 0.35), (512, 4, 0.65))

STAGES = {
    stage.name: stage
    for stage in (
        Stage("g", 5, ((256, 16, 0.6), (512, 8, 0.4)), 1e-3, 0.0, 1.0, 0.99, guide_only=True, workers=2),
        Stage("a", 15, ((256, 8, 0.3), (512, 8, 0.7)), 8e-4, 1.0, 1.0, 0.999),
        Stage("b", 120, ((256, 8, 0.2), (512, 8, 0.8)), 5e-4, 0.75, 0.85, 0.999),
        Stage("c", 120, ((256, 8, 0.35), (512, 8, 0.65)), 1e-4, 0.9, 0.9, 0.9995, frames=4, remembering=True),
        Stage("d", 60, _BOTH_SIZES, 1e-4, 0.9, 1.0, 0.999, workers=2, adversarial=True),
        Stage("e", 60, _BOTH_SIZES, 5e-5, 0.9, 1.0, 0.999, workers=2, frames=5, adversarial=True, steady=0.5),
    )
}
