"""What a session remembers of one face from frame to frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .model.reading import GuideReading, Trace

__all__ = ["FaceMemory"]

GUIDE_SMOOTHING = 0.7  # EMA of the guide's logs
BYPASS_BELOW, RESUME_ABOVE = 0.30, 0.36  # missing high-band energy over what is there
# of a crop that had to be enlarged: its finest bands are empty, and what is there says little
ENLARGED_BYPASS_BELOW, ENLARGED_RESUME_ABOVE = 0.10, 0.14
FADE_FRAMES = 5
ASK_FIRST, ASK_EVERY = 5, 5  # frames: a face is asked about at first, then now and then; it changes slowly
ASK_AT_LAST = 50  # frames after which it is asked about whatever time there is
RECALL_FRAMES = 15  # a mouth has moved on by then
RECENT_FRAMES = 4  # what lies further back is not searched for


class FaceMemory:
    """Begins anew with every ``key``, that is epoch (lost track, scene cut, reconnect) and size S.

    reading: the guide's, smoothed. strength: of the effect, 0 (bypassed) to 1, cross-faded. trace: of the
    last restored frame, set by ``keep``.
    """

    def __init__(self, key: tuple[int, int]) -> None:
        self.key = key
        self.seen_index = 0
        self.trace: Trace | None = None
        self.strength = 1.0
        self._kept_index = 0
        self._share: float | None = None
        self._shared_index = 0
        self._reading: GuideReading | None = None
        self._bypass = False
        self._frames = self._read_frame = 0

    @property
    def known(self) -> bool:
        """Whether there is a ``reading``."""
        return self._reading is not None

    @property
    def reading(self) -> GuideReading:
        assert self._reading is not None, "observe() comes first"
        return self._reading

    def keep(self, trace: Trace) -> None:
        """Remember what the frame ``seen_index`` was given."""
        self.trace, self._kept_index = trace, self.seen_index

    def recall(self) -> float:
        """How much of the last residual still fits as it is, in [0, 1]: old detail fades out."""
        if self.trace is None:
            return 0.0
        left = RECALL_FRAMES - (self.seen_index - self._kept_index)
        return float(np.clip(left / FADE_FRAMES, 0, 1))

    def fade(self, target: float) -> float:
        """The share of the residual that the frame ``seen_index`` shows, in [0, 1].

        The first frame's is ``target``; from then on it moves there over FADE_FRAMES, so that a frame
        without the network, and the next one with it, do not flash.
        """
        if self._share is None:
            self._share = target
        else:
            most = max(1, self.seen_index - self._shared_index) / FADE_FRAMES
            self._share += float(np.clip(target - self._share, -most, most))
            self._share = 0.0 if self._share < 1e-6 else self._share
        self._shared_index = self.seen_index
        return self._share

    def recent(self) -> Trace | None:
        """The last trace, if the network may build on it."""
        return self.trace if self.seen_index - self._kept_index <= RECENT_FRAMES else None

    def asks(self, spare: bool = True) -> bool:
        """Whether the guide is to read this frame's crop. Called once a frame; faces take turns.

        spare: there is time for it; without, only a face that it has not seen for long is read.
        """
        self._frames += 1
        if self._reading is None or self._frames - self._read_frame >= ASK_AT_LAST:
            return True
        due = self._frames <= ASK_FIRST or 0 < self.strength < 1
        return spare and (due or (self._frames + self.key[0]) % ASK_EVERY == 0)

    def observe(self, reading: GuideReading, *, enlarged: bool = False) -> None:
        """Smooth the guide's word and move towards or away from bypass.

        enlarged: the crop has more pixels than the camera gave it.
        """
        first, self._read_frame = self._reading is None, self._frames
        if self._reading is not None:
            keep = GUIDE_SMOOTHING
            reading = replace(
                reading,
                log_bands=keep * self._reading.log_bands + (1 - keep) * reading.log_bands,
                log_sigma_y=keep * self._reading.log_sigma_y + (1 - keep) * reading.log_sigma_y,
                quantiser=keep * self._reading.quantiser + (1 - keep) * reading.quantiser,
                noise=keep * self._reading.noise + (1 - keep) * reading.noise,
            )
        self._reading = reading
        share = reading.missing_share
        below, above = BYPASS_BELOW, RESUME_ABOVE
        if enlarged:
            below, above = ENLARGED_BYPASS_BELOW, ENLARGED_RESUME_ABOVE
        self._bypass = share < (above if self._bypass else below)
        target = 0.0 if self._bypass else 1.0
        step = 1.0 if first else 1 / FADE_FRAMES
        self.strength += float(np.clip(target - self.strength, -step, step))
        if self.strength < 1e-6:
            self.strength = 0.0
