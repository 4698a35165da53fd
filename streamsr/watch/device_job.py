"""What the supervisor and the model process tell each other over their ``link``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["DeviceJob", "DeviceReport"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class DeviceJob(_Model):
    """What the supervisor tells the model process. socket: the path where it is to listen. weights: a file;
    None: the packaged ones. threads: of the CPU; None: all. fidelities: to have ready from the start."""

    socket: str
    weights: str | None = None
    device: str = "auto"
    threads: Annotated[int, Field(ge=1)] | None = None
    fidelities: Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=1)]


class DeviceReport(_Model):
    """What the model process says of itself, once a second.

    cameras: names of those that are connected. batches: network calls by number of faces. restored: faces
    that went through the network. refused: requests that could not be done in time. queue: faces that wait
    now. busy_share: part of the last seconds in which the network worked, in [0, 1]. rss_mb: MB (10^6 bytes).
    """

    state: Literal["starting", "ready", "stopped"]
    error: str | None = None
    device: str | None = None
    model_sha256: str | None = None
    cameras: tuple[str, ...] = ()
    batches: dict[int, int] = {}
    restored: int = 0
    refused: int = 0
    queue: int = 0
    busy_share: float = 0.0
    rss_mb: float = 0.0
    cpu_s: float = 0.0
