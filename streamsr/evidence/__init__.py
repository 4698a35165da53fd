"""Evidence mode: the original and the enhanced stream side by side, hash-chained and signed.

A restored face is not evidence of identity: it is a likely face. What the chain proves is what this
software received and what it produced, unaltered from then on. It does not prove that the camera was honest,
nor that its clock was right, nor what the machine's owner did before the first packet.

A segment is three files of one name: ``.original.mp4``, the packets as they came; ``.enhanced.mp4``, what
left, with a visible mark and words of its own in each picture (SEI); and ``.jsonl``, the sidecar:

header      versions, weights, configuration, camera, start (UTC), public key, hash of the segment before
frame       index, pts, time; its packets, the decoded picture, the enhanced one; certificate, faces
dropped     a picture that was decoded, and how far it got; its packets
packets     packets of which no picture came
checkpoint  a signature over all lines so far, every two seconds
end         the last signature, and the hashes of both files

Each line has the SHA-256 of the line before it; ``chain`` says what is hashed and signed, ``streamsr.io.nal``
what a packet's hash is of. A segment stands alone: what is remembered of a face begins anew with it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .evidence import Evidence
    from .recorder import EvidenceStatistics, Limits

__all__ = ["Evidence", "EvidenceStatistics", "Limits"]

_HOME = {"Evidence": "evidence", "EvidenceStatistics": "recorder", "Limits": "recorder"}


def __getattr__(name: str) -> Any:  # keys and chains are looked at without PyAV
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
