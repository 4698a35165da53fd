"""A real evidence recording, made once a module, and what the tests of evidence do with copies of it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from media import moving_portrait, write_video

from streamsr import Enhancer, Pipeline
from streamsr.evidence import Evidence, Limits
from streamsr.evidence.chain import NO_LINE, canonical
from streamsr.evidence.keys import make_key, private_key
from streamsr.io.file import FileSource

COUNT, GOP = 16, 8  # pictures, and pictures a segment
SIZE = (160, 120)
EACH_KEYFRAME = Limits(segment_s=1e-9, checkpoint_s=0.0)


@pytest.fixture(scope="module")
def enhancer():
    with Enhancer(device="cpu") as made:
        yield made


def record(source: Path, folder: Path, key: Path, enhancer: Enhancer, *, live: bool = False, **options: Any):
    """Run a file through a pipeline in evidence mode. Returns its report and the evidence's figures."""

    async def run():
        with Evidence(folder, key, camera="gate", **options) as evidence:
            read = FileSource(str(source), tap=evidence.tap, paced=live)
            sink = evidence.sink(None, live=live)
            async with Pipeline(read, sink, evidence.enhancer(enhancer)) as pipeline:
                report = await pipeline.run()
        return report, evidence.statistics()

    return asyncio.run(run())


@pytest.fixture(scope="module")
def recording(tmp_path_factory, enhancer) -> Path:
    """Two segments of 8 frames each, every line signed; key.pem and in.mp4 beside them."""
    folder = tmp_path_factory.mktemp("evidence")
    make_key(folder / "key.pem")
    options = {"g": str(GOP), "bf": "0", "sc_threshold": "0"}
    write_video(folder / "in.mp4", count=COUNT, size=SIZE, picture_of=moving_portrait, options=options)
    record(folder / "in.mp4", folder / "gate", folder / "key.pem", enhancer, limits=EACH_KEYFRAME)
    assert len(list((folder / "gate").iterdir())) == 6
    return folder


@pytest.fixture
def copy(recording, tmp_path) -> Path:
    """The folder of the two segments, to be tampered with."""
    return Path(shutil.copytree(recording / "gate", tmp_path / "gate"))


def sidecar(folder: Path, number: int = 1) -> Path:
    """Of the first segment, or the ``number``-th."""
    return sorted(folder.glob("*.jsonl"))[number - 1]


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def line_of(path: Path, frame: int) -> int:
    """Which line is about ``frame``."""
    return next(at for at, line in enumerate(lines(path)) if json.loads(line).get("index") == frame)


def rewrite(path: Path, change: Callable[[list[dict]], None], key_file: Path | None) -> None:
    """Change the records, and make the chain anew, as whoever has ``key_file`` could; None: no signatures."""
    key: Ed25519PrivateKey | None = private_key(key_file) if key_file is not None else None
    records = [json.loads(line) for line in lines(path)]
    change(records)
    last, written = NO_LINE, []
    for record in records:
        record["prev"] = last
        if "signature" in record and key is not None:
            del record["signature"]
            record["signature"] = key.sign(canonical(record)).hex()
        written.append(canonical(record))
        last = hashlib.sha256(written[-1]).hexdigest()
    path.write_bytes(b"".join(line + b"\n" for line in written))
