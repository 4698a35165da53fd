"""What the supervisor tells a camera's process: its first line."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from .camera_config import CameraConfig

__all__ = ["CameraJob"]


class CameraJob(BaseModel):
    """source_url, sink_urls: with credentials. device_socket: path of the model process's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    camera: CameraConfig
    source_url: str
    sink_urls: tuple[str, ...]
    device_socket: str

    @classmethod
    def of(cls, camera: CameraConfig, device_socket: str) -> CameraJob:
        """Raises KeyedError: a secret that is not there any more."""
        return cls(
            camera=camera,
            source_url=camera.source_url(),
            sink_urls=camera.sink_urls(),
            device_socket=device_socket,
        )

    def line(self) -> str:
        return self.model_dump_json(by_alias=True)
