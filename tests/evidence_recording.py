"""Evidence recordings for tests: made by real pipelines, read and tampered with."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from streamsr import Enhancer, Pipeline
from streamsr.evidence import Evidence, Limits
from streamsr.evidence.chain import NO_LINE, canonical
from streamsr.evidence.keys import private_key
from streamsr.io.file import FileSource

COUNT, GOP = 16, 8  # pictures, and pictures a segment
SIZE = (160, 120)
EACH_KEYFRAME = Limits(segment_s=1e-9, checkpoint_s=0.0)


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
