"""NAL units of H264 and H265: split out of a packet, hashed, and one of our own put in.

A container frames the same units in its own way: start codes (RTSP, MPEG-TS) or lengths (MP4, Matroska).
What a camera sent are the units, so they are what is hashed: each behind its length in four bytes.
"""

from __future__ import annotations

import hashlib
import re
import struct
from uuid import UUID

__all__ = ["SEI_UUID", "Framing", "packet_sha256", "read_sei", "with_sei"]

SEI_UUID = UUID("5b1d3c64-0c2f-4e0a-9a43-8b9a35e3a1d7")  # whose user data are ours
START_CODE = re.compile(rb"\x00\x00\x01")
EMULATED = re.compile(rb"\x00\x00(?=[\x00-\x03])")  # would read as a start code within a unit
SEI, USER_DATA_UNREGISTERED = 6, 5  # H.264 tables 7-1 and D.1
STOP_BIT = b"\x80"
LENGTH = struct.Struct(">I")


class Framing:
    """How the packets of a stream are cut into units. codec: FFmpeg's name. Others are not cut."""

    def __init__(self, codec: str, extradata: bytes | None) -> None:
        self._has_units = codec in ("h264", "hevc")
        self._length_bytes = 0  # start codes
        at = {"h264": 4, "hevc": 21}.get(codec, 0)  # of the length's size in avcC and hvcC
        if extradata and extradata[0] == 1 and len(extradata) > at:
            self._length_bytes = (extradata[at] & 3) + 1

    def units(self, data: bytes) -> list[bytes]:
        """The units of a packet, without what frames them; none where it cannot be read."""
        if not self._has_units:
            return [data]
        cut = self._by_length(data) if self._length_bytes else _by_start_code(data)
        return [unit for unit in (unit.rstrip(b"\0") for unit in cut) if unit]

    def _by_length(self, data: bytes) -> list[bytes]:
        units, at = [], 0
        while at + self._length_bytes <= len(data):
            size = int.from_bytes(data[at : at + self._length_bytes], "big")
            at += self._length_bytes
            units.append(data[at : at + size])
            at += size
        return units


def packet_sha256(units: list[bytes]) -> str:
    """Of what ``Framing.units`` gave."""
    digest = hashlib.sha256()
    for unit in units:
        digest.update(LENGTH.pack(len(unit)))
        digest.update(unit)
    return digest.hexdigest()


def with_sei(packet: bytes, text: str) -> bytes:
    """An H264 packet with start codes, with ``text`` as user data before its first slice."""
    unit = b"\0\0\0\1" + _sei(text)
    for found in START_CODE.finditer(packet):
        if found.end() < len(packet) and 1 <= packet[found.end()] & 31 <= 5:
            at = found.start() - (packet[found.start() - 1 : found.start()] == b"\0")
            return packet[:at] + unit + packet[at:]
    return packet


def read_sei(units: list[bytes]) -> str | None:
    """What ``with_sei`` put into the packet that has these units."""
    for unit in units:
        if unit[0] & 31 != SEI:
            continue
        payload = unit[1:].replace(b"\0\0\3", b"\0\0")
        if payload[:1] != bytes([USER_DATA_UNREGISTERED]):
            continue
        size, at = 0, 1
        while at < len(payload) and payload[at] == 255:
            size, at = size + 255, at + 1
        if at < len(payload) and payload[at + 1 : at + 17] == SEI_UUID.bytes:
            size += payload[at]
            return payload[at + 17 : at + 1 + size].decode(errors="replace")
    return None


def _sei(text: str) -> bytes:
    payload = SEI_UUID.bytes + text.encode()
    whole, rest = divmod(len(payload), 255)
    raw = bytes([USER_DATA_UNREGISTERED]) + b"\xff" * whole + bytes([rest]) + payload
    return bytes([SEI]) + EMULATED.sub(b"\0\0\3", raw) + STOP_BIT


def _by_start_code(data: bytes) -> list[bytes]:
    starts = [(found.start(), found.end()) for found in START_CODE.finditer(data)]
    ends = [start for start, _ in starts[1:]] + [len(data)]
    return [data[begin:end] for (_, begin), end in zip(starts, ends, strict=True)]
