"""``streamsr verify`` and ``streamsr make-key``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from .evidence.keys import make_key, public_key
from .evidence.verify import SegmentVerdict, sidecars, verify_links, verify_segment

__all__ = ["run", "write_key"]


def run(path: Path, key_file: Path | None, *, rerun: bool, device: str, as_json: bool) -> int:
    """Print what was found; 0 only if all is well. Raises StreamSRError for what cannot be read."""
    key = public_key(key_file) if key_file is not None else None
    verdicts = [verify_segment(sidecar, key) for sidecar in sidecars(path)]
    verify_links(verdicts)
    folder = path if path.is_dir() else path.parent
    if rerun:
        from .rerun import rerun as enhance_again

        enhance_again(folder, [verdict for verdict in verdicts if verdict.ok], device)
    ok = all(verdict.ok for verdict in verdicts)
    if as_json:
        found = {"ok": ok, "key_checked": key is not None, "segments": [each.as_dict() for each in verdicts]}
        print(json.dumps(found, indent=2))
    else:
        for verdict in verdicts:
            if verdict.ok:
                print(_summary(verdict))
    for verdict in verdicts:
        if verdict.problem is not None:
            print(f"error: {verdict.file}: {verdict.problem}", file=sys.stderr)
            return 2
    if key is None and not as_json:
        found_key = verdicts[0].key_fingerprint
        print(f"the key was not checked: --key PUBLIC.pem says whether {found_key} is whose you think")
    return 0


def write_key(path: Path) -> None:
    public, found = make_key(path)
    print(f"wrote {path} (keep it secret) and {public}; fingerprint {found}")


def _summary(verdict: SegmentVerdict) -> str:
    parts = [
        f"{verdict.file}: {verdict.frames} frames, {verdict.dropped} dropped",
        "chain, signatures and recordings as they were",
    ]
    if verdict.gap is not None:
        parts.append(f"a gap before it: {verdict.gap.get('reason') or 'frames not recorded'}")
    if verdict.earlier_missing:
        parts.append("what came before it is not here")
    if verdict.rerun is not None:
        parts.append(verdict.rerun["summary"])
    return ", ".join(parts)
