"""Put weights into the package: the file, and its sha256 in the manifest.

python -m streamsr.train.package FIDELITY [PERCEPTUAL] --data DIR

With --data the file gets the ranges that int8 needs, measured on training faces. Without, it runs in bf16.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from ..errors import ConfigError
from ..model.weights import MANIFEST, PACKAGED, load_weights, save_weights
from .calibrate import measure_ranges

__all__ = ["package"]


def package(
    fidelity: Path, perceptual: Path | None = None, data: Path | None = None, cache: Path | None = None
) -> str:
    """Both sets of weights into one file, in place of the packaged one of their preset; its sha256.

    The guide is that of ``fidelity``. data: as for training, for the ranges. cache: of its decoded faces, by
    default where training keeps it beside ``fidelity``. Raises ModelError, ConfigError.
    """
    loaded = load_weights(fidelity)
    description, other = loaded.description, None
    if perceptual is not None:
        there = load_weights(perceptual)
        if (there.description.preset, there.description.recurrent) != (
            description.preset,
            description.recurrent,
        ):
            raise ConfigError(f"{fidelity.name} and {perceptual.name} are of different networks")
        description = replace(description, stage=f"{description.stage}+{there.description.stage}")
        other = there.at(0.0)
        here = loaded.network.state_dict()
        loaded = replace(loaded, change={k: v - here[k] for k, v in other.state_dict().items()})
    ranges = measure_ranges(loaded, data, cache or fidelity.parent / "pack") if data is not None else None
    PACKAGED.mkdir(exist_ok=True)
    path = PACKAGED / f"streamsr-{description.preset.lower()}.safetensors"
    sha256 = save_weights(path, loaded.network, loaded.guide, description, other, ranges)
    path.chmod(0o644)
    manifest = json.loads(MANIFEST.read_text()) if MANIFEST.is_file() else {}
    manifest[description.preset] = {"file": path.name, "sha256": sha256}
    MANIFEST.write_text(json.dumps(manifest, indent=2) + "\n")
    return sha256


if __name__ == "__main__":
    words = argparse.ArgumentParser(prog="python -m streamsr.train.package", description=__doc__)
    words.add_argument("fidelity", type=Path)
    words.add_argument("perceptual", type=Path, nargs="?")
    words.add_argument("--data", type=Path)
    words.add_argument("--cache", type=Path)
    given = words.parse_args()
    print(package(given.fidelity, given.perceptual, given.data, given.cache))
