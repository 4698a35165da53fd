"""The model processes of a Ray cluster, one wherever there are cameras, shown as one."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from ..errors import ModelError
from .device_job import DeviceJob
from .ray_actor import KeptActor
from .ray_node import ModelReport, Place
from .status import DeviceState, DeviceStatus
from .totals import Key, Owner, Totals

__all__ = ["ModelsOnRay"]

LOOK_S = 0.5  # where the cameras are
IDLE_S = 10.0  # a place without cameras for so long needs no model process
STOP_S = 3.0
WORST_FIRST: tuple[DeviceState, ...] = ("backoff", "stopped", "starting", "ready")


class ModelOnRay(KeptActor[ModelReport]):
    """The one at ``place``. make: its actor."""

    def __init__(self, place: Place, make: Callable[[], Any]) -> None:
        super().__init__("model", None)
        self.place, self._make_here = place, make
        self.unwanted = 0  # looks, one after the other: a clock would go on while this process stands still

    def status(self) -> DeviceStatus:
        """Where it does not answer, without counts."""
        if self.last is None or not self.answers:
            return DeviceStatus(state="starting", since_s=self.silent_s, error=self.error)
        return self.last.status

    def _is_needed(self) -> bool:
        return not self.unwanted

    def _make(self) -> Any:
        return self._make_here()

    def _ask(self, actor: Any) -> Any:
        return actor.report.remote()


class ModelsOnRay:
    """A model process for each of ``places``, wherever these are just now; see ``WatchedModel``.

    make: an actor for a job, which is JSON, at a place.
    """

    def __init__(
        self,
        job: DeviceJob,
        make: Callable[[str, Place], Any],
        places: Callable[[], set[Place]],
        on_refused: Callable[[], None],
    ) -> None:
        self.job = job
        self.refused: ModelError | None = None
        self._make, self._places, self._on_refused = make, places, on_refused
        self._models: dict[Place, ModelOnRay] = {}
        self._totals = Totals()
        self._counted: set[Owner] = set()  # places that it knows, also those that are no more
        self._restarts = 0  # of models that are no more
        self._ever_ready = False
        self._stopping = asyncio.Event()

    @property
    def model_sha256(self) -> str | None:
        found = (model.last.model_sha256 for model in self._models.values() if model.last is not None)
        return next((sha256 for sha256 in found if sha256 is not None), None)

    def status(self) -> DeviceStatus:
        """The state is that of the place that is worst off; counts are of all that there ever were."""
        here = [model for model in self._models.values() if model.answers or not model.unwanted]
        now = {model.place.name: model.status() for model in here}
        errors = [f"{name}: {status.error}" for name, status in now.items() if status.error is not None]
        return DeviceStatus(
            state=min((status.state for status in now.values()), key=WORST_FIRST.index, default="starting"),
            since_s=min((status.since_s for status in now.values()), default=0.0),
            error="; ".join(errors) or None,
            restarts=self._restarts + sum(model.restarts for model in self._models.values()),
            device=", ".join(sorted({status.device for status in now.values() if status.device})) or None,
            batches=self._batches(),
            restored=round(self._total("restored")),
            refused=round(self._total("refused")),
            queue=sum(status.queue for status in now.values()),
            busy_share=sum(status.busy_share for status in now.values()) / max(1, len(now)),
            rss_mb=sum(status.rss_mb or 0.0 for status in now.values()),
            cpu_s=self._total("cpu"),
        )

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            while not self._stopping.is_set():
                wanted = self._places()
                for place, model in list(self._models.items()):
                    model.unwanted = 0 if place in wanted else model.unwanted + 1
                    self._count(model)
                    if model.ended or model.unwanted > IDLE_S / LOOK_S:
                        self._restarts += self._models.pop(place).restarts
                        tasks.create_task(model.stop(STOP_S))
                for place in wanted - self._models.keys():
                    make = partial(self._make, self.job.model_dump_json(), place)
                    self._models[place] = ModelOnRay(place, make)
                    tasks.create_task(self._models[place].run())
                self._check()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), LOOK_S)

    async def stop(self, patience_s: float) -> None:
        self._stopping.set()
        await asyncio.gather(*(model.stop(patience_s) for model in self._models.values()))

    def kill(self, reason: str) -> None:
        self._stopping.set()
        for model in self._models.values():
            model.kill(reason)

    def _check(self) -> None:
        """None can begin, and none ever could: then it is a mistake of the configuration."""
        last = [model.last for model in self._models.values()]
        self._ever_ready |= any(one is not None and one.status.state == "ready" for one in last)
        refusals = [one.refused for one in last if one is not None and one.refused is not None]
        if self.refused is None and refusals and len(refusals) == len(last) and not self._ever_ready:
            self.refused = ModelError(refusals[0])
            self._on_refused()

    def _count(self, model: ModelOnRay) -> None:
        if model.last is None:
            return
        status, owner = model.last.status, ("model", model.place.name)
        counts: dict[Key, float] = {("batch", str(faces)): n for faces, n in status.batches.items()}
        counts |= {
            ("restored",): status.restored,
            ("refused",): status.refused,
            ("cpu",): status.cpu_s or 0.0,
        }
        self._totals.see(owner, status.process_id, counts)
        self._counted.add(owner)

    def _total(self, key: str) -> float:
        return sum(self._totals.of(owner, key) for owner in self._counted)

    def _batches(self) -> dict[int, int]:
        found: Counter[int] = Counter()
        for owner in self._counted:
            for faces, n in self._totals.parts(owner, "batch"):
                found[int(faces)] += round(n)
        return dict(sorted(found.items()))
