"""One publisher, its enhanced picture, and who watches it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Literal

from aiortc import MediaStreamTrack

from ..clock import MONOTONIC, NS_PER_S, Clock
from ..rtc import DelayedAudioTrack, EnhancedTrack
from ..stages import Enhancer
from .config import ServeConfig
from .intake import Intake
from .relay import Relay
from .session import Session

__all__ = ["Stream"]

WITHHELD = {"source", "sink", "warnings", "versions"}  # of a RunReport: no business of a client


class Stream:
    """Lives as long as ``run``: until its publisher's session ends."""

    def __init__(self, name: str, config: ServeConfig, enhancer: Enhancer, clock: Clock = MONOTONIC) -> None:
        self.name = name
        self.publisher = Session("whip", name, config)
        self.viewers: set[Session] = set()
        self._config, self._enhancer, self._clock = config, enhancer, clock
        self._began_ns = clock.now_ns()
        self._intake: Intake | None = None
        self._enhanced: EnhancedTrack | None = None
        self.relays: dict[str, Relay] = {}
        self.publisher.peer.on("track", self._on_track)

    @property
    def ready(self) -> bool:
        """Its tracks are known: viewers may come."""
        return "video" in self.relays

    @property
    def silent_s(self) -> float:
        """Since the publisher's last picture; before the first one, since the beginning."""
        if self._intake is not None:
            return self._intake.silent_s
        return (self._clock.now_ns() - self._began_ns) / NS_PER_S

    async def run(self) -> None:
        """Until the publisher's session ends; then its viewers' sessions end too."""
        watch = asyncio.create_task(self._watch_silence())
        try:
            await self.publisher.run()
        finally:
            watch.cancel()
            await self.close()

    async def close(self) -> None:
        """End everything. May be called twice."""
        for relay in self.relays.values():
            await relay.close()
        if self._enhanced is not None:
            await self._enhanced.close()
        for viewer in tuple(self.viewers):
            viewer.end("the stream ended")

    def show(self, viewer: Session, kinds: Sequence[str]) -> None:
        """Add this stream's tracks of ``kinds`` to a viewer's peer, before it negotiates.

        kinds: in the order of the offer. In another one aiortc stops the transport that both share.
        """
        for kind in kinds:
            if kind in self.relays:
                viewer.peer.addTransceiver(self.relays[kind].subscribe(), direction="sendonly")
        self.viewers.add(viewer)

    def control(
        self,
        *,
        fidelity: float | None = None,
        steps: int | Literal["auto"] | None = None,
        enabled: bool | None = None,
    ) -> None:
        """Change what the next frame gets; None leaves it."""
        track = self._enhanced
        if track is None:
            return
        if fidelity is not None:
            track.fidelity = fidelity
        if steps is not None:
            track.steps = steps
        if enabled is not None:
            track.enabled = enabled

    def figures(self) -> dict[str, Any]:
        """What the client may know of the stream now, ready for JSON."""
        track = self._enhanced
        return {
            "stream": self.name,
            "state": self.publisher.peer.connectionState,
            "uptime_s": round((self._clock.now_ns() - self._began_ns) / NS_PER_S, 1),
            "viewers": len(self.viewers),
            "audio": "audio" in self.relays,
            "delay_ms": round(track.delay_ms, 1) if track is not None else None,
            "controls": {"fidelity": track.fidelity, "steps": track.steps, "enabled": track.enabled}
            if track is not None
            else None,
            "report": track.report().model_dump(mode="json", exclude=WITHHELD) if track is not None else None,
        }

    def _on_track(self, track: MediaStreamTrack) -> None:
        if track.kind == "video":
            config = self._config
            self._intake = Intake(track, config.limits, self.publisher.end)
            self._enhanced = EnhancedTrack(
                self._intake,
                self._enhancer,
                scale=config.scale,
                fidelity=config.fidelity,
                steps=config.steps,
                seed=config.seed,
                budget_ms=config.budget_ms,
            )
            self.relays["video"] = Relay(self._enhanced, self._on_video_end)
        else:
            self.relays["audio"] = Relay(DelayedAudioTrack(track, self._delay_ms), lambda: None)

    def _on_video_end(self) -> None:
        error = self._enhanced.report().error if self._enhanced is not None else None
        self.publisher.end(f"the picture ended: {error}" if error else "the picture ended")

    def _delay_ms(self) -> float:
        return self._enhanced.delay_ms if self._enhanced is not None else 0.0

    async def _watch_silence(self) -> None:
        while True:
            left_s = self._config.limits.silence_s - self.silent_s
            if left_s <= 0:
                break
            await asyncio.sleep(left_s)
        self.publisher.end(f"no picture for {self._config.limits.silence_s:g} s")
