"""A training run: its state, its checkpoints, its schedule. Stages G (guide), A and B on stills."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from ..errors import ConfigError
from ..model.guide import Guide, Reading, start_time, template_mask, true_reading
from ..model.network import PRESETS, Condition, Network, log_native
from ..model.sampler import start, state
from ..model.weights import Description, load_weights, save_weights
from .data import Batch, batches
from .losses import decibel_weight, face_weight, guide_loss, restoring_loss, trajectory_weight
from .validate import CONDITIONS, ValidationSet, validation_set

__all__ = ["STAGES", "Run", "Stage", "train_stills"]

CHECKPOINT_S = 120
LOG_STEPS = 100
WARMUP_STEPS = 200
GUIDE_WEIGHT = 0.02
CROP_TOKENS, CROP_VISITS = 8, 4
# starts at zero, and has to specialise: learns faster
CONDITIONED = ("direct.", "film.", "gather.", "phase.")


@dataclass(frozen=True)
class Stage:
    """plan: (S, batch, weight). crop_share: batches of which CROP_VISITS windows of CROP_TOKENS tokens a
    side are trained on, one after another; of the others, whole faces.

    A window costs a quarter and teaches the convolutions as much; the whole face is what attention will
    see. end_share: samples at tau = 1, the state a one-step run visits. guide_only: the network rests.
    workers: processes that degrade.
    """

    name: str
    plan: tuple[tuple[int, int, float], ...]
    lr: float
    crop_share: float
    end_share: float
    ema: float
    guide_only: bool = False
    workers: int = 1


STAGES = {
    "g": Stage("g", ((256, 16, 0.6), (512, 8, 0.4)), 1e-3, 0.0, 1.0, 0.99, guide_only=True, workers=2),
    "a": Stage("a", ((256, 8, 0.3), (512, 8, 0.7)), 8e-4, 1.0, 1.0, 0.999),
    "b": Stage("b", ((256, 8, 0.25), (512, 8, 0.75)), 5e-4, 0.75, 0.85, 0.999),
}


class Run:
    """Network, guide, their averages and the optimiser; ``folder`` holds checkpoint, log and weights."""

    def __init__(self, folder: Path, preset: str, device: torch.device, begin: Path | None) -> None:
        self.folder, self.preset, self.device = folder, preset, device
        self.network, self.guide = Network(PRESETS[preset]), Guide()
        if begin is not None:
            weights = load_weights(begin)
            if weights.description.preset != preset:
                raise ConfigError(f"{begin.name} is of preset {weights.description.preset}, not {preset}")
            self.network, self.guide = weights.network.train(), weights.guide.train()
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
        return True

    def save(self) -> None:
        """Write the checkpoint; it is replaced whole."""
        saved: dict[str, object] = {key: module.state_dict() for module, key in self._modules()}
        saved |= {"optimiser": self.optimiser.state_dict()}
        saved |= {"preset": self.preset, "stage": self.stage, "step": self.step, "elapsed_s": self.elapsed_s}
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(saved, partial)
        partial.replace(self.checkpoint)

    def begin_stage(self, stage: Stage) -> None:
        if self.stage != stage.name:
            self.stage, self.step, self.elapsed_s = stage.name, 0, 0.0

    def export(self, residual_rms: dict[str, float]) -> Path:
        """The averaged weights as the product reads them."""
        path = self.folder / f"streamsr-{self.preset.lower()}.safetensors"
        save_weights(path, *self.average, Description(self.preset, self.stage, False, residual_rms))
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


def train_stills(
    run: Run, stage: Stage, data: Path, cache: Path, *, minutes: float, seed: int, validate_every_s: float
) -> None:
    """Run ``stage`` until its ``minutes`` (over all resumptions) are used up; cosine from lr to 2 % of it."""
    run.begin_stage(stage)
    sizes = sorted({size for size, _, _ in stage.plan})
    sets = [validation_set(data, cache, size, 16) for size in sizes]
    stream = batches(data, cache, list(stage.plan), seed=seed + run.step, workers=stage.workers)
    generator = torch.Generator().manual_seed(seed + run.step)
    begun = time.monotonic() - run.elapsed_s
    saved = validated = time.monotonic()
    losses: list[float] = []
    guiding_losses: list[float] = []
    lesson: _Lesson | None = None
    while run.elapsed_s < minutes * 60:
        if lesson is None or lesson.visits == 0:
            cropped = float(torch.rand((), generator=generator)) < stage.crop_share
            lesson = _Lesson(run, next(stream), cropped)
            guiding_losses.append(float(lesson.guiding.detach()))
        loss = GUIDE_WEIGHT * lesson.take_guiding()
        if not stage.guide_only:
            restoring = _restoring_loss(run, stage, lesson, generator)
            losses.append(float(restoring.detach()))
            loss = loss + restoring
        progress = run.elapsed_s / (minutes * 60)
        lr = (
            stage.lr
            * min(1.0, (run.step + 1) / WARMUP_STEPS)
            * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        )
        run.update(loss, lr, stage.ema)
        now = time.monotonic()
        run.elapsed_s = now - begun
        if run.step % LOG_STEPS == 0:
            means = {"loss": losses, "guide": guiding_losses}
            run.log(**{name: round(fmean(v), 5) for name, v in means.items() if v}, lr=round(lr, 6))
            losses.clear()
            guiding_losses.clear()
        if now - saved > CHECKPOINT_S:
            run.save()
            saved = now
        if now - validated > validate_every_s:
            _validate(run, sets)
            validated = now
    run.save()
    _validate(run, sets)


class _Lesson:
    """A batch on the device, with what the guide says of it and ought to say.

    visits: how often it is still to be trained on, each time with its own noise, t0 and window.
    """

    def __init__(self, run: Run, batch: Batch, cropped: bool) -> None:
        self.size, self.cropped, self.visits = batch.size, cropped, CROP_VISITS if cropped else 1
        self.x, self.x_in, self.y = (v.to(run.device) for v in (batch.x, batch.x_in, batch.y))
        self.camera, coding = batch.camera.to(run.device), batch.coding.to(run.device)
        mask = template_mask(self.size // 4, run.device)
        x, x_in, y = _unit(self.x), _unit(self.x_in), _unit(self.y)
        with torch.no_grad():
            self.true = true_reading(x, x_in, y, mask, batch.quantiser.to(run.device))
        with torch.autocast(run.device.type, torch.bfloat16):
            reading = run.guide(x_in, log_native(self.camera), coding, mask)
        self.guiding = guide_loss(reading, self.true)
        self.reading = Reading(*(value.detach() for value in reading))

    def take_guiding(self) -> Tensor:
        """The guide's loss on the first visit, then zero."""
        self.visits -= 1
        guiding, self.guiding = self.guiding, torch.zeros((), device=self.x.device)
        return guiding


def _restoring_loss(run: Run, stage: Stage, lesson: _Lesson, generator: torch.Generator) -> Tensor:
    device, size, b = run.device, lesson.size, len(lesson.x)
    t0 = _draw_t0(lesson.true.t0, lesson.reading.t0, generator)
    inside = _uniform(b, generator, device) >= stage.end_share
    tau = torch.where(inside, _uniform(b, generator, device), torch.ones(b, device=device))
    x, x_in, y, window = lesson.x, lesson.x_in, lesson.y, (0, 0)
    where = face_weight(size, device)
    if lesson.cropped:
        (x, x_in, where, y), window = _crop((x, x_in, where, y), CROP_TOKENS, generator)
    x, x_in, y = _unit(x), _unit(x_in), _unit(y)
    x_s = start(x_in, t0, torch.randn(x_in.shape, generator=generator).to(device))
    x_t, t = state(x, x_s, tau), tau * t0
    weight = torch.where(inside, trajectory_weight(t), torch.ones_like(t)) * decibel_weight(lesson.true.sigma)
    told = Condition(t, t0, lesson.reading.condition(), lesson.camera, torch.ones_like(t))
    with torch.autocast(device.type, torch.bfloat16):
        residual = run.network(x_t, x_in, y, told, size=size, window=window).residual
    return restoring_loss(x_in + residual, x, where, weight)


def _unit(picture: Tensor) -> Tensor:
    """uint8 -> [-1, 1] float32, channels last."""
    return picture.contiguous(memory_format=torch.channels_last).float().div_(127.5).sub_(1)


def _draw_t0(true: Tensor, guided: Tensor, generator: torch.Generator) -> Tensor:
    """t0* e^N(0, .2^2) 60 %, the guide's own 25 %, U(t0*, 1) 15 %."""
    b, device = len(true), true.device
    jitter = (0.2 * torch.randn(b, generator=generator).to(device)).exp()
    choice = _uniform(b, generator, device)
    upper = true + (1 - true) * _uniform(b, generator, device)
    t0 = torch.where(choice < 0.6, true * jitter, torch.where(choice < 0.85, guided, upper))
    return t0.clamp(float(start_time(torch.tensor(1e-3))), 0.98)


def _crop(
    pictures: Sequence[Tensor], tokens: int, generator: torch.Generator
) -> tuple[list[Tensor], tuple[int, int]]:
    """The same window of ``tokens`` x ``tokens`` out of 16 x 16 tokens of every picture, and its corner."""
    top, left = (int(torch.randint(0, 17 - tokens, (1,), generator=generator)) for _ in range(2))
    windows = []
    for picture in pictures:
        px = picture.shape[-1] // 16
        windows.append(picture[..., top * px : (top + tokens) * px, left * px : (left + tokens) * px])
    return windows, (top, left)


def _uniform(b: int, generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.rand(b, generator=generator).to(device)


def _validate(run: Run, sets: list[ValidationSet]) -> None:
    residual = {}
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
        # of coded input: where the observation is exact, gamma is near 1 whatever the estimate's error
        coded = [score.residual_rms for name, score in scores.items() if CONDITIONS[name][1] is not None]
        residual[str(each.size)] = math.sqrt(fmean(rms * rms for rms in coded))
    run.export(residual)
