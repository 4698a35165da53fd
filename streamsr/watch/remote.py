"""The model process as a camera's process sees it: ``Restorer`` and ``Enhancer`` without torch."""

from __future__ import annotations

from typing import Literal

from ..clock import MONOTONIC, NS_PER_S, Clock
from ..face.tracker import MediaPipeTracker, Tracker
from ..session import DEFAULT_FIDELITY, Session
from .remote_restorer import RemoteRestorer

__all__ = ["RemoteEnhancer"]


class RemoteEnhancer:
    """Sessions whose faces are restored in the model process at ``socket``, one session at a time.

    name, priority: of the camera; 0 is the highest priority. wait_s: how long to wait for a model process
    that is not there yet. One that is away, or busy, holds nothing up: frames take the ladder's next rungs
    meanwhile, and it is found again when it is back.
    """

    def __init__(self, socket: str, *, name: str, priority: int = 1, wait_s: float = 0.0) -> None:
        self._restorer = RemoteRestorer(socket, name=name, priority=priority)
        self._restorer.connect(MONOTONIC.now_ns() + round(wait_s * NS_PER_S))

    @property
    def device(self) -> str:
        return self._restorer.device_type

    @property
    def model_sha256(self) -> str | None:
        """None before the model process was first there."""
        return self._restorer.sha256

    def session(
        self,
        *,
        scale: int = 2,
        fidelity: float | None = None,
        steps: int | Literal["auto"] | None = None,
        seed: int | None = None,
        tracker: Tracker | None = None,
        clock: Clock = MONOTONIC,
    ) -> Session:
        """As ``streamsr.Enhancer.session``, but where nobody is in the picture faces are looked for when
        something moves, and now and then. clock: of the deadlines; it has to be CLOCK_MONOTONIC."""
        return Session(
            self._restorer,
            scale=scale,
            fidelity=DEFAULT_FIDELITY if fidelity is None else fidelity,
            steps="auto" if steps is None else steps,
            seed=seed or 0,
            tracker=MediaPipeTracker(on_motion=True) if tracker is None else tracker,
            clock=clock,
        )

    def close(self) -> None:
        """May be called twice."""
        self._restorer.close()
