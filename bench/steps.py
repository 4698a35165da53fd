"""How many steps, and what else may be done around an evaluation of the network.

    streamsr bench steps --data DIR [--weights BEFORE,AFTER] [--frames 12]

Validation faces, whole and aligned, by the network alone: gain over bicubic in PSNR-Y and the distance of
SqueezeNet's features, over the face. ``projected`` is FLAIR's Eq. 8 with the product's gamma (soft) or 1
(hard); ``corrected`` shows the second step a condition that the first estimate corrects, after DPI's
condition corrector; ``injected`` starts from and is conditioned on another estimate than the enlarged
input, after DTI's enhancement and injection: five back-projections, or the network's own first estimate.
ms: one face through the product's engine.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .command import add_data, add_list, answer, parser
from .tally import Tally

if TYPE_CHECKING:
    from torch import Tensor

    from streamsr.model.guide import Guide, Reading
    from streamsr.model.network import Network
    from streamsr.train.data import Batch

__all__ = ["main", "run"]

FRAMES, BATCH, TIMED = 12, 4, 15
STEPS = (1, 2, 4, 16)
BACK_PROJECTIONS = 5
COLUMNS = ("weights", "size", "condition", "variant", "n", "face_gain_db", "feature_distance", "ms")


class _Faces(NamedTuple):
    """x, x_in (B, 3, S, S), y (B, 3, S/4, S/4) in [-1, 1]; camera (B, 2, 3); coding; reading: the guide's;
    noise like x."""

    x: Tensor
    x_in: Tensor
    y: Tensor
    camera: Tensor
    coding: Tensor
    reading: Reading
    noise: Tensor


class _Evaluator:
    """A network and its guide at one size."""

    def __init__(self, network: Network, guide: Guide, size: int) -> None:
        from streamsr.model.guide import template_mask

        self.network, self.guide, self.size = network, guide, size
        self._mask = template_mask(size // 4)

    def faces(self, batch: Batch, seed: int) -> _Faces:
        import torch

        x, x_in, y = (v[:, 0].float() / 127.5 - 1 for v in (batch.x, batch.x_in, batch.y))
        camera, coding = batch.camera[:, 0], batch.coding[:, 0]
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
        return _Faces(x, x_in, y, camera, coding, self.read(x_in, camera, coding), noise)

    def read(self, x_in: Tensor, camera: Tensor, coding: Tensor) -> Reading:
        from streamsr.model.network import log_native

        return self.guide(x_in, log_native(camera), coding, self._mask)

    def restored(self, faces: _Faces, steps: int, *, correct: bool = False) -> Tensor:
        """x_hat of ``steps`` steps from the guide's t0. correct: y, between steps, by the estimate."""
        import torch

        from streamsr.model.network import Condition
        from streamsr.model.sampler import sample, start

        t0, y = faces.reading.t0, faces.y
        told, level = faces.reading.condition(), torch.ones_like(t0)

        def predict(x_t: Tensor, t: Tensor) -> Tensor:
            nonlocal y
            condition = Condition(t, t0, told, faces.camera, level)
            with torch.autocast("cpu", torch.bfloat16):
                residual = self.network(x_t, faces.x_in, y, condition, size=self.size).residual.float()
            if correct:
                estimate = torch.nn.functional.avg_pool2d(faces.x_in + residual, 4)
                y = faces.y + (1 - _gamma(faces)) * (estimate - faces.y)
            return residual

        return faces.x_in + sample(predict, faces.x_in, start(faces.x_in, t0, faces.noise), t0, steps)

    def variants(self, faces: _Faces) -> Iterator[tuple[str, Tensor]]:
        import torch

        for steps in STEPS:
            yield _name(steps), self.restored(faces, steps)
        one = self.restored(faces, 1)
        yield "1 step, soft projection", _projected(one, faces.y, _gamma(faces))
        yield "1 step, hard projection", _projected(one, faces.y, torch.ones(1, 1, 1, 1))
        yield "2 steps, condition corrected", self.restored(faces, 2, correct=True)
        back = faces.x_in
        for _ in range(BACK_PROJECTIONS):
            back = _projected(back, faces.y, torch.ones(1, 1, 1, 1), smooth=True)
        for name, estimate in (("back-projection", back), ("first estimate", one)):
            reading = self.read(estimate.clamp(-1, 1), faces.camera, faces.coding)
            injected = faces._replace(x_in=estimate, reading=reading)
            yield f"1 step, {name} injected", self.restored(injected, 1)


def run(
    data: Path, weights: Sequence[Path | None] = (None,), frames: int = FRAMES, work: Path | None = None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """weights: files, None for the packaged ones. work: keeps the decoded faces. Returns (head, rows).

    Raises ConfigError, ModelError.
    """
    import torch

    from streamsr.features import feature_distance, load_squeezenet
    from streamsr.model.guide import template_mask
    from streamsr.model.weights import load_weights
    from streamsr.train.validate import CONDITIONS, Seen, psnr_y, validation_set

    squeezenet = load_squeezenet(data)
    seen = {**CONDITIONS, "noisy x4": Seen(4, None, 6.0)}
    tally, rows, times = Tally(), [], {}
    with tempfile.TemporaryDirectory() as temporary, torch.inference_mode():
        for path in weights:
            loaded = load_weights(path)
            label = loaded.path.stem
            for size in loaded.network.config.sizes:
                times[label, size] = _milliseconds(path, size)
                evaluator = _Evaluator(loaded.network, loaded.guide, size)
                mask = template_mask(size)[0, 0]
                stills = validation_set(data, work or Path(temporary), size, frames, seen)
                for condition, batch in stills.conditions.items():
                    for i in range(0, len(batch.x), BATCH):
                        faces = evaluator.faces(batch.part(i, i + BATCH), i)
                        true, bicubic = squeezenet(faces.x), psnr_y(faces.x_in, faces.x, mask)
                        for variant, x_hat in evaluator.variants(faces):
                            gains = np.subtract(psnr_y(x_hat, faces.x, mask), bicubic)
                            distances = feature_distance(squeezenet(x_hat), true)
                            for gain, distance in zip(gains, distances.tolist(), strict=True):
                                figures = {"face_gain_db": float(gain), "feature_distance": distance}
                                tally.add((label, size, condition, variant), figures)
    for key in tally:
        label, size, condition, variant = key
        row = {"weights": label, "size": size, "condition": condition, "variant": variant}
        row |= {"n": tally.count(key), "ms": times[label, size].get(variant)}
        rows.append(row | tally.means(key))
    return {"device": "cpu", "frames": frames}, rows


def _milliseconds(path: Path | None, size: int) -> dict[str, float]:
    """Median time of one face, by number of steps, as the product runs it."""
    from streamsr.model.crop import Crop
    from streamsr.model.restorer import Restorer

    restorer = Restorer.load(path)
    try:
        rng = np.random.default_rng(0)
        x_in, y = (rng.integers(0, 256, (side, side, 3), np.uint8) for side in (size, size // 4))
        crop = Crop(x_in, y, np.eye(2, 3) / 2, np.zeros((16, 16), np.float32))
        readings = restorer.guide([crop])
        taken: dict[str, float] = {}
        for steps in STEPS:
            each = []
            for _ in range(TIMED):
                began = time.perf_counter()
                restorer.restore([crop], readings, steps=steps)
                each.append((time.perf_counter() - began) * 1e3)
            taken[_name(steps)] = float(np.median(each[2:]))
        return taken
    finally:
        restorer.close()


def _name(steps: int) -> str:
    return f"{steps} step{'s' if steps > 1 else ''}"


def _gamma(faces: _Faces) -> Tensor:
    """(B, 1, 1, 1): the product's."""
    from streamsr.model.coding import noise_level
    from streamsr.model.consistency import gamma

    reading = faces.reading
    return gamma(reading.log_sigma_y.exp(), reading.quantiser, noise_level(faces.coding)).view(-1, 1, 1, 1)


def _projected(x_hat: Tensor, y: Tensor, gamma: Tensor, *, smooth: bool = False) -> Tensor:
    """x_hat - gamma A+ (A x_hat - y): FLAIR, Eq. 8. smooth: A+ cubic instead of nearest."""
    import torch.nn.functional as F

    gap = F.avg_pool2d(x_hat, 4) - y
    return x_hat - gamma * F.interpolate(gap, scale_factor=4, mode="bicubic" if smooth else "nearest")


def main(argv: Sequence[str] | None = None) -> int:
    """See command.answer."""
    words = parser("steps", "Steps of the sampler, projection, correction, injection.")
    add = words.add_argument
    add_data(words, "faces/, faces.csv and peers/")
    add_list(words, "--weights", Path, (None,), "files, comma-separated, instead of the packaged ones")
    add("--frames", type=int, default=FRAMES, help="faces of each size")
    add("--work", type=Path, help="keep the decoded faces here")
    return answer(words, argv, run, COLUMNS)


if __name__ == "__main__":
    sys.exit(main())
