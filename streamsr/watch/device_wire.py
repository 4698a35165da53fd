"""What camera and model processes say to each other, and the memory in which they pass pictures.

A camera connects to the model process's Unix socket (SOCK_SEQPACKET: a packet is a message, of JSON) and
says ``Hello``, with an anonymous file of ``MEMORY_BYTES``. Its pictures lie there, in SLOTS of FACES faces
each; a request names the slot, which is the model process's until it has answered. Times are of
CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from ..model.crop import Crop
from ..model.reading import GuideReading
from ..session_options import MAX_STEPS

__all__ = [
    "FACES",
    "MAX_MESSAGE",
    "SLOTS",
    "VERSION",
    "Face",
    "FaceToRestore",
    "Guide",
    "Hello",
    "Prepare",
    "Read",
    "ReadingMessage",
    "Refusal",
    "Restore",
    "Restored",
    "SharedPictures",
    "Welcome",
    "create_memory",
    "from_camera",
    "from_device",
]

VERSION = 1
MAX_MESSAGE = 16_384  # bytes
SLOTS = 2  # one in work; one whose answer came too late and was not waited for
FACES = 4  # in one request
MAX_SIDE = 512  # S
MAX_PATCH = 256  # px a side: see face.alignment.camera_patch

_RESIDUAL = MAX_SIDE * MAX_SIDE * 3 * 4
_PATCH = MAX_PATCH * MAX_PATCH * 4
_X_IN = MAX_SIDE * MAX_SIDE * 3
_Y = _X_IN // 16
_FACE_BYTES = _RESIDUAL + _PATCH + _X_IN + _Y
MEMORY_BYTES = SLOTS * FACES * _FACE_BYTES  # 34 MB of addresses; memory only where something was written
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW

Index = Annotated[int, Field(ge=0, lt=2**63)]
Number = Annotated[float, Field(ge=-1e9, le=1e9)]
Fidelity = Annotated[float, Field(ge=0, le=1)]
PatchSide = Annotated[int, Field(ge=8, le=MAX_PATCH)]


class _Message(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=()
    )


class ReadingMessage(_Message):
    """``GuideReading``."""

    log_bands: Annotated[tuple[Number, ...], Field(min_length=7, max_length=7)]
    log_sigma_y: Number
    quantiser: Number
    present_energy: Number
    noise: Number

    @classmethod
    def of(cls, reading: GuideReading) -> ReadingMessage:
        return cls(
            log_bands=tuple(reading.log_bands.tolist()),
            log_sigma_y=reading.log_sigma_y,
            quantiser=reading.quantiser,
            present_energy=reading.present_energy,
            noise=reading.noise,
        )

    def reading(self) -> GuideReading:
        bands = np.array(self.log_bands, np.float32)
        return GuideReading(bands, self.log_sigma_y, self.quantiser, self.present_energy, self.noise)


class Face(_Message):
    """``Crop`` without its pictures. camera: row by row. patch: height, width."""

    camera: Annotated[tuple[Number, ...], Field(min_length=6, max_length=6)]
    patch: tuple[PatchSide, PatchSide]


class FaceToRestore(Face):
    """key: of this face's memory in this connection. recent: the network may build on what is there."""

    reading: ReadingMessage
    key: Index
    recent: bool


class Hello(_Message):
    """The first message, with the memory's file. priority: 0 is the highest."""

    type: Literal["hello"] = "hello"
    version: int
    name: Annotated[str, Field(min_length=1, max_length=64)]
    priority: Annotated[int, Field(ge=0, le=10**6)]


class Prepare(_Message):
    """There will be requests at this fidelity. Those that come before it is ready are refused."""

    type: Literal["prepare"] = "prepare"
    fidelity: Fidelity


class _Request(_Message):
    id: Index
    slot: Annotated[int, Field(ge=0, lt=SLOTS)]
    size: int
    deadline_ns: Index | None


class Guide(_Request):
    type: Literal["guide"] = "guide"
    faces: Annotated[tuple[Face, ...], Field(min_length=1, max_length=FACES)]


class Restore(_Request):
    type: Literal["restore"] = "restore"
    faces: Annotated[tuple[FaceToRestore, ...], Field(min_length=1, max_length=FACES)]
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)]
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)]
    fidelity: Fidelity


class Welcome(_Message):
    """The answer to ``Hello``. device: "cpu" or "cuda". sizes: S that the weights know. recurrent: they build
    on what a face's last frame left."""

    type: Literal["welcome"] = "welcome"
    device: str
    sizes: tuple[int, ...]
    recurrent: bool
    model_sha256: str


class Read(_Message):
    """The answer to ``Guide``. waited_ms: how long other cameras' faces were before these."""

    type: Literal["read"] = "read"
    id: Index
    waited_ms: float
    readings: tuple[ReadingMessage, ...]


class Restored(_Message):
    """The answer to ``Restore``; the residuals are in the memory. waited_ms: as in ``Read``."""

    type: Literal["restored"] = "restored"
    id: Index
    waited_ms: float


class Refusal(_Message):
    """It cannot be done by its deadline, or not yet at this fidelity."""

    type: Literal["refused"] = "refused"
    id: Index


_FROM_CAMERA: TypeAdapter[Any] = TypeAdapter(
    Annotated[Hello | Prepare | Guide | Restore, Field(discriminator="type")]
)
_FROM_DEVICE: TypeAdapter[Any] = TypeAdapter(
    Annotated[Welcome | Read | Restored | Refusal, Field(discriminator="type")]
)


def from_camera(packet: bytes) -> Hello | Prepare | Guide | Restore:
    """Raises ValueError for what is no such message."""
    message: Hello | Prepare | Guide | Restore = _FROM_CAMERA.validate_json(packet)
    return message


def from_device(packet: bytes) -> Welcome | Read | Restored | Refusal:
    """Raises ValueError for what is no such message."""
    message: Welcome | Read | Restored | Refusal = _FROM_DEVICE.validate_json(packet)
    return message


def create_memory(name: str) -> int:
    """An anonymous file of ``MEMORY_BYTES``, a size fixed for ever; gone with the last that holds it."""
    fd = os.memfd_create(f"streamsr-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, MEMORY_BYTES)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS | fcntl.F_SEAL_SEAL)
    return fd


class SharedPictures:
    """The memory behind ``fd``, which may be closed afterwards. Raises ValueError for a file that is none."""

    def __init__(self, fd: int) -> None:
        try:
            # a file that its owner could shrink would kill whoever reads it
            sealed = fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS == _SEALS
            size = os.fstat(fd).st_size
            if not sealed or size != MEMORY_BYTES:
                raise ValueError(f"memory must be sealed and of {MEMORY_BYTES} bytes, got {size}")
            memory = mmap.mmap(fd, MEMORY_BYTES)
        except OSError as error:
            raise ValueError(f"not a memory file: {error}") from error
        self._bytes = np.frombuffer(memory, np.uint8).reshape(SLOTS, FACES, _FACE_BYTES)

    def residual(self, slot: int, face: int, size: int) -> np.ndarray:
        """(S, S, 3) float32, the memory itself."""
        return self._part(slot, face, 0, (size, size, 3), np.float32)

    def write(self, slot: int, face: int, crop: Crop) -> None:
        for at, picture in self._pictures(slot, face, crop.size, crop.patch.shape):
            np.copyto(at, getattr(crop, picture))

    def read(self, slot: int, face: int, size: int, told: Face) -> Crop:
        """A copy: the memory is its owner's to change at any time."""
        parts = {name: at.copy() for at, name in self._pictures(slot, face, size, told.patch)}
        return Crop(camera=np.array(told.camera, np.float64).reshape(2, 3), **parts)

    def _pictures(
        self, slot: int, face: int, size: int, patch: tuple[int, ...]
    ) -> list[tuple[np.ndarray, str]]:
        side = size // 4
        at = _RESIDUAL + _PATCH
        return [
            (self._part(slot, face, _RESIDUAL, patch, np.float32), "patch"),
            (self._part(slot, face, at, (size, size, 3), np.uint8), "x_in"),
            (self._part(slot, face, at + _X_IN, (side, side, 3), np.uint8), "y"),
        ]

    def _part(self, slot: int, face: int, at: int, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        count = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return self._bytes[slot, face, at : at + count].view(dtype).reshape(shape)
