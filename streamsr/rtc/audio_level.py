"""How loud a frame of sound is, which senders tell receivers; aiortc takes 1 ms of its loop for it."""

from __future__ import annotations

import math

import numpy as np
from av import AudioFrame

__all__ = ["audio_level_dbov"]

PEAK = 32767
SILENCE = -127


def audio_level_dbov(frame: AudioFrame) -> int:
    """In dBov, -127 to 0, of 16-bit samples, all channels together (RFC 6465, appendix A)."""
    samples = np.frombuffer(bytes(frame.planes[0]), np.int16).astype(np.float64)
    # not samples @ samples: a BLAS with threads leaves them spinning for the next one, a third of a core
    rms = math.sqrt(float(np.square(samples).sum()) / (frame.samples * PEAK * PEAK))
    return SILENCE if rms == 0 else round(min(max(20 * math.log10(rms), SILENCE), 0))
