"""Put a run's weights into the package: the file, and its sha256 in the manifest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from ..model.weights import MANIFEST, PACKAGED, load_weights

__all__ = ["package"]


def package(weights: Path) -> str:
    """Copy ``weights`` over the packaged ones of its preset and return its sha256. Raises ModelError."""
    loaded = load_weights(weights)
    preset = loaded.description.preset
    PACKAGED.mkdir(exist_ok=True)
    name = f"streamsr-{preset.lower()}.safetensors"
    shutil.copyfile(weights, PACKAGED / name)
    (PACKAGED / name).chmod(0o644)
    manifest = json.loads(MANIFEST.read_text()) if MANIFEST.is_file() else {}
    manifest[preset] = {"file": name, "sha256": loaded.sha256}
    MANIFEST.write_text(json.dumps(manifest, indent=2) + "\n")
    return loaded.sha256
