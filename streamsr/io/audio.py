"""The audio of a file, copied packet by packet into an output."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av

from ..errors import SinkError, SourceError

__all__ = ["AudioCopy"]

KEPT_METADATA = ("language", "title")


class AudioCopy:
    """Every audio stream of the file at ``path``; nothing is decoded, times stay as they are."""

    def __init__(self, path: str) -> None:
        """Raises SourceError if ``path`` cannot be read."""
        try:
            self._container = av.open(path)
        except av.FFmpegError as error:
            raise SourceError(f"cannot read the audio of {path}: {error.strerror}", path) from None
        self._streams: dict[int, av.stream.Stream] = {}  # index in the input -> stream of the output
        self._packets: Iterator[av.Packet] = iter(())
        self._next: av.Packet | None = None
        self.cut = ""  # why it ended early, if it did

    def add_to(self, output: av.container.OutputContainer, url: str) -> None:
        """Declare the streams, before the output's header. Raises SinkError if it cannot hold one."""
        inputs = self._container.streams.audio
        for stream in inputs:
            try:
                copy = output.add_stream_from_template(stream, opaque=True)
            except (ValueError, av.FFmpegError):
                matroska = output.format.name == "matroska"
                fix = "convert it to AAC first" if matroska else "write an .mkv file"
                name = stream.codec_context.name if stream.codec_context else "unknown"
                raise SinkError(
                    f"{output.format.name} cannot hold the source's {name} audio: {fix}", url
                ) from None
            copy.metadata.update(
                {key: stream.metadata[key] for key in KEPT_METADATA if key in stream.metadata}
            )
            self._streams[stream.index] = copy
        if inputs:
            self._packets = self._container.demux(*inputs)
            self._advance()

    def copy_until(
        self, output: av.container.OutputContainer, time_s: Fraction | None, shift_s: Fraction
    ) -> None:
        """Write the packets due up to ``time_s`` (None: all that are left), ``shift_s`` later each."""
        while self._next is not None:
            packet = self._next
            at = packet.dts if packet.dts is not None else packet.pts
            if time_s is not None and at is not None and at * packet.time_base + shift_s > time_s:
                return
            shift = round(shift_s / packet.time_base)
            if packet.pts is not None:
                packet.pts += shift
            if packet.dts is not None:
                packet.dts += shift
            packet.stream = self._streams[packet.stream.index]
            output.mux(packet)
            self._advance()

    def close(self) -> None:
        self._next = None
        self._packets = iter(())
        self._container.close()

    def _advance(self) -> None:
        try:
            self._next = next((packet for packet in self._packets if packet.size), None)
        except av.FFmpegError as error:
            self._next, self.cut = None, str(error.strerror)
