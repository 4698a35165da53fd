"""The guide against the truth: does it know how much is missing, and is that worth knowing?

    streamsr bench guide --data DIR [--frames 400] [--plot FILE]

Validation faces, degraded as training degrades (``train.degrade.draw``), half of them at each size.
First table, by condition: predicted against true t0 (SNR alignment, after DTI) and sigma_y (the error of
the camera's own pixels): Spearman's rank correlation; mean |log ratio|; mean log ratio, above 0 where the
guide says too much; and the steps a GPU would take, 1 to 4, in percent, by the guide and by the truth.
Second table: the same faces restored in as many steps from the guide's reading, from the true one, and
from readings that say the same t0 for every face (the guide's own bands, scaled); gain over the input.
Sharp faces have no part in it, because they are bypassed.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import ArrayLike

from streamsr.errors import ConfigError

from .command import add_data, add_device, add_weights, answer, parser
from .fidelity import psnr_y
from .panel import face_part
from .plots import figure, save_figure
from .row import write_text
from .stills import central_ellipse
from .tables import listing

if TYPE_CHECKING:
    from streamsr.features import SqueezeNet
    from streamsr.model.crop import Crop
    from streamsr.model.restorer import GuideReading, Restorer

__all__ = ["main", "run", "spearman"]

FRAMES, SIZES, BATCH = 400, (256, 512), 4
FIXED_T0 = (0.05, 0.09, 0.13, 0.18, 0.24, 0.32, 0.42)
COLUMNS = (
    "condition", "n", "t0_spearman", "t0_error", "t0_bias", "sigma_y_spearman", "sigma_y_error",
    "sigma_y_bias", "steps_guide", "steps_true",
)  # fmt: skip
TITLES = {
    "condition": "faces",
    "n": "n",
    "t0_spearman": "t0: Spearman",
    "t0_error": "mean absolute log ratio",
    "t0_bias": "mean log ratio",
    "sigma_y_spearman": "sigma_y: Spearman",
    "sigma_y_error": "mean absolute log ratio",
    "sigma_y_bias": "mean log ratio",
    "steps_guide": "1/2/3/4 steps, %, by the guide",
    "steps_true": "by the truth",
}
ABLATION_TITLES = {
    "t0": "t0 from",
    "face_gain_db": "over the input, dB",
    "against_guide_db": "against the guide's, dB",
    "standard_error": "standard error",
    "feature_distance": "feature distance",
}
JUDGED = ("face_psnr_y", "face_gain_db", "feature_distance")
ABLATION_COLUMNS = ("t0", "n", "steps", *JUDGED, "against_guide_db", "standard_error")


@dataclass(frozen=True)
class Observation:
    """A degraded face: x (S, S, 3) uint8 what ought to come out; found and true readings of it."""

    kind: str
    x: np.ndarray
    crop: Crop
    found: GuideReading
    true: GuideReading


def run(
    data: Path,
    frames: int = FRAMES,
    steps: int = 1,
    seed: int = 0,
    device: str = "auto",
    weights: Path | None = None,
    work: Path | None = None,
    plot: Path | None = None,
    markdown: Path | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns what the rows share, the rows of the ablation among it, and the rows by condition.

    work: keeps the decoded faces. Raises ConfigError, ModelError, DeviceError.
    """
    from streamsr.features import load_squeezenet  # torch loads here, not for --help
    from streamsr.model.restorer import Restorer

    network = load_squeezenet(data)
    if frames < 2 * len(SIZES):
        raise ConfigError(f"--frames must be at least {2 * len(SIZES)}, got {frames}")
    if steps < 1:
        raise ConfigError(f"--steps must be at least 1, got {steps}")
    restorer = Restorer.load(weights, device=device)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            seen = observe(restorer, data, work or Path(temporary), frames, seed)
        by_condition = {"all": seen} | {
            kind: [each for each in seen if each.kind == kind] for kind in ("clean", "call", "cctv", "sharp")
        }
        rows = [_calibration(name, members) for name, members in by_condition.items() if members]
        restored = [each for each in seen if each.kind != "sharp"]  # those are bypassed
        ablation = _ablation(restorer, network, restored, steps, seed)
        head = {"seed": seed, "device": str(restorer.device), "model_sha256": restorer.sha256}
    finally:
        restorer.close()
    if plot is not None:
        _plot(plot, by_condition, ablation)
    if markdown is not None:
        write_text(markdown, f"{listing(rows, TITLES)}\n{listing(ablation, ABLATION_TITLES)}")
    return head | {"ablation": ablation}, rows


def observe(restorer: Restorer, data: Path, cache: Path, frames: int, seed: int) -> list[Observation]:
    """``frames`` validation faces, half at each size, each degraded in its own way."""
    from streamsr.train.data import FacePack, degrade_stills
    from streamsr.train.degrade import draw

    rng = np.random.default_rng(seed)
    seen = []
    for size in SIZES:
        images = FacePack(data, cache, "val", size).images
        for k in range(frames // len(SIZES)):
            x, how = np.ascontiguousarray(images[k % len(images)]), draw(rng, size)
            (sample,) = degrade_stills([x], [how], rng)
            if how.grey:
                x = cv2.cvtColor(cv2.cvtColor(x, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
            (found,) = restorer.guide([sample.crop])
            true = _true_reading(x, sample.crop, how.quantiser, found)
            seen.append(Observation(how.kind, x, sample.crop, found, true))
    return seen


def _true_reading(x: np.ndarray, crop: Crop, quantiser: float, found: GuideReading) -> GuideReading:
    import torch

    from streamsr.model.guide import template_mask, true_reading

    from .user_networks import unit_batch

    clean, x_in, y = (unit_batch([picture]) for picture in (x, crop.x_in, crop.y))
    true = true_reading(clean, x_in, y, template_mask(crop.size // 4), torch.tensor([quantiser]))
    return replace(
        found,
        log_bands=true.log_bands[0].numpy(),
        log_sigma_y=float(true.log_sigma_y),
        quantiser=quantiser,
    )


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Rank correlation in [-1, 1], equal values sharing their mean rank; NaN where all are equal."""
    ranks: list[np.ndarray] = []
    for values in (a, b):
        _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(counts) - (counts + 1) / 2)[group])
    if any(np.ptp(rank) == 0 for rank in ranks):
        return float("nan")
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _calibration(name: str, seen: Sequence[Observation]) -> dict[str, Any]:
    from streamsr.model.sampler import step_count

    row: dict[str, Any] = {"condition": name, "n": len(seen)}
    for value in ("t0", "sigma_y"):
        found, true = (np.array([getattr(r, value) for r in rs]) for rs in _readings(seen))
        ratio = np.log(found / true)
        row[f"{value}_spearman"] = spearman(found, true)
        row[f"{value}_error"], row[f"{value}_bias"] = float(np.abs(ratio).mean()), float(ratio.mean())
    for name, readings in zip(("steps_guide", "steps_true"), _readings(seen), strict=True):
        counts = np.bincount([step_count(reading.t0) for reading in readings], minlength=5)[1:]
        row[name] = "/".join(f"{100 * count / len(seen):.0f}" for count in counts)
    return row


def _readings(seen: Sequence[Observation]) -> tuple[list[GuideReading], list[GuideReading]]:
    return [each.found for each in seen], [each.true for each in seen]


def at_t0(reading: GuideReading, t0: float) -> GuideReading:
    """The same reading at another level: its bands scaled so that sigma / (kappa + sigma) is ``t0``."""
    factor = (t0 / (1 - t0)) / (reading.t0 / (1 - reading.t0))
    return replace(reading, log_bands=(reading.log_bands + math.log(factor)).astype(np.float32))


def _ablation(
    restorer: Restorer, network: SqueezeNet, seen: Sequence[Observation], steps: int, seed: int
) -> list[dict[str, Any]]:
    found, true = _readings(seen)
    arms: dict[str, list[GuideReading]] = {"guide": found, "true": true}
    arms |= {f"{t0:g}": [at_t0(reading, t0) for reading in found] for t0 in FIXED_T0}
    figures: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for chosen in _batches(seen):
        for name, readings in arms.items():
            crops = [seen[k].crop for k in chosen]
            traces = restorer.restore(crops, [readings[k] for k in chosen], steps=steps, seed=seed)
            for k, trace in zip(chosen, traces, strict=True):
                x_in = trace.crop.x_in
                x_hat = np.rint(x_in + trace.residual).clip(0, 255).astype(np.uint8)
                figures[name].append(_judged(network, seen[k].x, x_hat, x_in))
    rows: list[dict[str, Any]] = []
    for name, judged in figures.items():
        means = np.mean(judged, axis=0).tolist()
        behind = np.array(judged)[:, 0] - np.array(figures["guide"])[:, 0]  # face by face
        row = {"t0": name, "n": len(judged), "steps": steps, **dict(zip(JUDGED, means, strict=True))}
        row["against_guide_db"] = float(behind.mean())
        row["standard_error"] = float(behind.std(ddof=1) / math.sqrt(len(behind)))
        rows.append(row)
    return rows


def _batches(seen: Sequence[Observation]) -> list[list[int]]:
    """Indices of crops of one size, a few at a time."""
    batches = []
    for size in SIZES:
        same = [k for k, each in enumerate(seen) if each.crop.size == size]
        batches += [same[i : i + BATCH] for i in range(0, len(same), BATCH)]
    return batches


def _judged(network: SqueezeNet, x: np.ndarray, x_hat: np.ndarray, x_in: np.ndarray) -> tuple[float, ...]:
    """See JUDGED."""
    import torch

    from streamsr.features import feature_distance

    from .user_networks import unit_batch

    region = central_ellipse(len(x))
    psnr = psnr_y(x_hat, x, region)
    with torch.inference_mode():
        taps = network(unit_batch([face_part(x_hat), face_part(x)]))
        distance = feature_distance([tap[:1] for tap in taps], [tap[1:] for tap in taps])
    return psnr, psnr - psnr_y(x_in, x, region), float(distance)


def _plot(
    path: Path, by_condition: Mapping[str, Sequence[Observation]], ablation: Sequence[Mapping[str, Any]]
) -> None:
    from streamsr.model.sampler import step_count

    canvas = figure(4)
    for axes, value in zip(canvas.axes, ("t0", "sigma_y"), strict=False):
        for kind, seen in list(by_condition.items())[1:]:
            found, true = ([getattr(r, value) for r in rs] for rs in _readings(seen))
            axes.scatter(true, found, s=8, label=f"{kind} ({spearman(true, found):.2f})" if seen else kind)
        axes.axline((0.05, 0.05), slope=1, color="black", linewidth=0.8)
        axes.set(xscale="log", yscale="log", xlabel=f"true {value}", ylabel=f"guide's {value}", title=value)
        axes.legend(title="Spearman", loc="upper left")
    steps = [[step_count(r.t0) for r in readings] for readings in _readings(by_condition["all"])]
    canvas.axes[2].hist(steps, bins=np.arange(0.5, 5), label=["guide", "truth"])
    canvas.axes[2].set(xlabel="steps by t0", ylabel="faces", xticks=range(1, 5))
    canvas.axes[2].legend()
    fixed = [row for row in ablation if row["t0"] not in ("guide", "true")]
    axes = canvas.axes[3]
    axes.plot(
        [float(row["t0"]) for row in fixed], [row["face_gain_db"] for row in fixed], "o-", label="fixed"
    )
    for row, colour in zip(ablation, ("tab:orange", "tab:green"), strict=False):
        axes.axhline(row["face_gain_db"], color=colour, label=row["t0"])
    axes.set(xlabel="t0 of every face", ylabel="gain in PSNR-Y, dB")
    axes.legend()
    save_figure(canvas, path)


def main(argv: Sequence[str] | None = None) -> int:
    """See command.answer."""
    words = parser("guide", __doc__)
    add = words.add_argument
    add_data(words, "faces.csv, faces/ and peers/")
    add("--frames", type=int, default=FRAMES, help="faces, half of them at each size")
    add("--steps", type=int, default=1, help="network evaluations of the second table")
    add("--seed", type=int, default=0)
    add_device(words)
    add_weights(words)
    add("--work", type=Path, help="keep the decoded faces here")
    add("--plot", type=Path, help="write scatters, the histogram of steps and the ablation (PNG, SVG, PDF)")
    add("--markdown", type=Path, help="write both tables as Markdown")
    return answer(words, argv, run, COLUMNS, more={"ablation": ABLATION_COLUMNS})


if __name__ == "__main__":
    sys.exit(main())
