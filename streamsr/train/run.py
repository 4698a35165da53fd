"""A training run: state, checkpoints, schedule."""

from __future__ import annotations

import copy
import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from ..errors import ConfigError
from ..features import load_squeezenet
from ..model.guide import Guide
from ..model.network import PRESETS, Network
from ..model.weights import Description, load_weights, save_weights
from .adversary import Adversary, Judged
from .data import batches
from .lesson import Lesson
from .recipe import Stage
from .validate import ClipSet, ValidationSet, clip_set, validation_set

__all__ = ["Run", "train_stage"]

CHECKPOINT_S = 120
LOG_STEPS = 100
WARMUP_STEPS = 200
GUIDE_WEIGHT = 0.02
# starts at zero, and has to specialise: learns faster
CONDITIONED = ("direct.", "film.", "gather.", "phase.", "memory.", "gain.")


class Run:
    """Network, guide, their averages and the optimiser; ``folder`` holds checkpoint, log and weights.

    begin: weights to begin from, at this ``fidelity`` (0: their perceptual set, if they have one).
    """

    def __init__(
        self, folder: Path, preset: str, device: torch.device, begin: Path | None, fidelity: float = 1.0
    ) -> None:
        self.folder, self.preset, self.device = folder, preset, device
        self.network, self.guide = Network(PRESETS[preset]), Guide()
        if begin is not None:
            weights = load_weights(begin)
            if weights.description.preset != preset:
                raise ConfigError(f"{begin.name} is of preset {weights.description.preset}, not {preset}")
            self.network, self.guide = weights.at(fidelity).train(), weights.guide.train()
        self.network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.guide.to(device)
        self.average = copy.deepcopy(self.network).eval(), copy.deepcopy(self.guide).eval()
        slow: list[torch.nn.Parameter] = []
        fast: list[torch.nn.Parameter] = []
        for name, parameter in self.network.named_parameters():
            (fast if any(part in name for part in CONDITIONED) else slow).append(parameter)
        self.optimiser = torch.optim.AdamW(
            [
                {"params": slow, "factor": 1.0},
                {"params": fast, "factor": 3.0},
                {"params": list(self.guide.parameters()), "factor": 2.0},
            ],
            betas=(0.9, 0.98),
            weight_decay=0.01,
            fused=True,
        )
        self.stage = ""
        self._adversary_saved: dict[str, object] | None = None
        self.recurrent = begin is not None and weights.description.recurrent
        self.adversary: Adversary | None = None  # of stage D
        self.step, self.elapsed_s = 0, 0.0
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def resume(self) -> bool:
        """Go on from the folder's checkpoint, if it has one. Raises ConfigError."""
        if not self.checkpoint.is_file():
            return False
        saved = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        if saved["preset"] != self.preset:
            raise ConfigError(f"{self.checkpoint} is of preset {saved['preset']}, not {self.preset}")
        for module, key in self._modules():
            module.load_state_dict(saved[key])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.stage, self.step, self.elapsed_s = saved["stage"], saved["step"], saved["elapsed_s"]
        self.recurrent, self._adversary_saved = saved["recurrent"], saved["adversary"]
        return True

    def save(self) -> None:
        """Write the checkpoint; it is replaced whole."""
        saved: dict[str, object] = {key: module.state_dict() for module, key in self._modules()}
        saved |= {"optimiser": self.optimiser.state_dict()}
        saved |= {"preset": self.preset, "stage": self.stage, "recurrent": self.recurrent}
        saved |= {"step": self.step, "elapsed_s": self.elapsed_s}
        saved |= {"adversary": None if self.adversary is None else self.adversary.state()}
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(saved, partial)
        partial.replace(self.checkpoint)

    def begin_stage(self, stage: Stage, data: Path, seed: int) -> None:
        """Raises ConfigError if ``data`` lacks what the stage needs beside faces."""
        if stage.adversarial:
            self.adversary = Adversary(load_squeezenet(data), self.device, seed)
            if self._adversary_saved is not None:
                self.adversary.load(self._adversary_saved)
        if self.stage != stage.name:
            self.stage, self.step, self.elapsed_s = stage.name, 0, 0.0
        if stage.remembering and not self.recurrent:
            self.network.forget()
            self.average[0].forget()
            self.recurrent = True

    def export(self) -> Path:
        """The averaged weights as the product reads them."""
        path = self.folder / f"streamsr-{self.preset.lower()}.safetensors"
        save_weights(path, *self.average, Description(self.preset, self.stage, self.recurrent))
        return path

    def log(self, **row: object) -> None:
        line = json.dumps(
            {"stage": self.stage, "step": self.step, "minutes": round(self.elapsed_s / 60, 1), **row}
        )
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)

    def update(self, loss: Tensor, lr: float, ema: float) -> None:
        loss.backward()
        parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for group in self.optimiser.param_groups:
            group["lr"] = lr * group["factor"]
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.step += 1
        keep = min(ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for average, now in zip(self.average, (self.network, self.guide), strict=True):
                torch._foreach_lerp_(list(average.parameters()), list(now.parameters()), 1 - keep)

    def _modules(self) -> list[tuple[torch.nn.Module, str]]:
        return [
            (self.network, "network"),
            (self.guide, "guide"),
            (self.average[0], "network_average"),
            (self.average[1], "guide_average"),
        ]


def train_stage(
    run: Run, stage: Stage, data: Path, cache: Path, *, minutes: float, seed: int, validate_every_s: float
) -> None:
    """Run ``stage`` until its ``minutes`` (over all resumptions) are used up; cosine from lr to 2 % of it."""
    run.begin_stage(stage, data, seed)
    plan = [kind for kind in stage.plan if kind[0] in run.network.config.sizes]
    sizes = [size for size, _, _ in plan]
    sets = [validation_set(data, cache, size, 16) for size in sizes]
    clips = [clip_set(data, cache, size, 8) for size in sizes] if run.recurrent else []
    stream = batches(data, cache, plan, seed=seed + run.step, workers=stage.workers, frames=stage.frames)
    generator = torch.Generator().manual_seed(seed + run.step)
    begun = time.monotonic() - run.elapsed_s
    saved = validated = time.monotonic()
    losses: list[float] = []
    guiding_losses: list[float] = []
    lesson: Lesson | None = None
    while run.elapsed_s < minutes * 60:
        if lesson is None or lesson.visits == 0 or stage.guide_only:
            cropped = float(torch.rand((), generator=generator)) < stage.crop_share
            lesson = Lesson(run.guide, next(stream), run.device, cropped=cropped)
            guiding_losses.append(float(lesson.guiding.detach()))
        loss = GUIDE_WEIGHT * lesson.take_guiding()
        if not stage.guide_only:
            visit = lesson.visit(run.network, stage.end_share, generator, recurrent=run.recurrent)
            restoring = visit.loss(stage.steady)
            losses.append(float(restoring.detach()))
            loss = loss + restoring
            if run.adversary is not None:
                seen = run.adversary.look(Judged(visit.x_hat, visit.x, visit.x_in, visit.weight))
                loss = loss + run.adversary.loss(seen)
        progress = run.elapsed_s / (minutes * 60)
        lr = (
            stage.lr
            * min(1.0, (run.step + 1) / WARMUP_STEPS)
            * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        )
        run.update(loss, lr, stage.ema)
        if run.adversary is not None:
            run.adversary.update(seen)
        now = time.monotonic()
        run.elapsed_s = now - begun
        if run.step % LOG_STEPS == 0:
            means = {"loss": losses, "guide": guiding_losses}
            rival = {} if run.adversary is None else {"told_apart": round(run.adversary.accuracy, 3)}
            run.log(**{name: round(fmean(v), 5) for name, v in means.items() if v}, lr=round(lr, 6), **rival)
            losses.clear()
            guiding_losses.clear()
        if now - saved > CHECKPOINT_S:
            run.save()
            saved = now
        if now - validated > validate_every_s:
            _validate(run, sets, clips)
            validated = now
    run.save()
    _validate(run, sets, clips)


def _validate(run: Run, sets: list[ValidationSet], clips: list[ClipSet]) -> None:
    for moving in clips:
        gains = moving.score(*run.average, run.device)
        run.log(clips=moving.size, **{k: [round(v, 3) for v in gain] for k, gain in gains.items()})
    for each in sets:
        scores = each.score(*run.average, run.device)
        run.log(
            size=each.size,
            **{
                name: {k: round(v, 4) for k, v in asdict(score).items()}
                | {"gain": round(score.output - score.bicubic, 3)}
                for name, score in scores.items()
            },
        )
    run.export()
