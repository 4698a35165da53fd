"""What the supervisor and the model process tell each other over their ``link``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from .status import DeviceFigures

__all__ = ["DeviceJob", "DeviceReport"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class DeviceJob(_Model):
    """What the supervisor tells the model process. socket: the path where it is to listen. weights: a file;
    None: the packaged ones. threads: of the CPU; None: half of them, cameras want the others. fidelities: to
    have ready from the start."""

    socket: str
    weights: str | None = None
    device: str = "auto"
    engine: str = "auto"
    threads: Annotated[int, Field(ge=1)] | None = None
    fidelities: Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=1)]


class DeviceReport(DeviceFigures):
    """What the model process says of itself, once a second. cameras: names of those that are connected."""

    state: Literal["starting", "ready", "stopped"]
    error: str | None = None
    model_sha256: str | None = None
    cameras: tuple[str, ...] = ()
