"""What comes in as SDP, looked at before aiortc acts on it: offers, and fragments with more candidates."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal

from aiortc import RTCIceCandidate
from aiortc.sdp import DIRECTIONS, MediaDescription, SessionDescription, candidate_from_sdp

from ..web import Refusal
from .config import Limits

__all__ = ["Fragment", "Offer", "read_fragment", "read_offer"]

MAX_LINES = 1000  # a browser's offer of sound and picture has about 200
MAX_SECTIONS = 2  # one of sound, one of picture

# what aiortc's parser raises for text that is no SDP
_UNREADABLE = (AssertionError, AttributeError, IndexError, KeyError, StopIteration, TypeError, ValueError)
_USERNAME = re.compile(r"[A-Za-z0-9+/]{4,256}")
_PASSWORD = re.compile(r"[A-Za-z0-9+/]{22,256}")
_MDNS_NAME = re.compile(r"[A-Za-z0-9-]{1,63}\.local")


@dataclass(frozen=True, slots=True)
class Offer:
    """text: as it came. username, password: of the client's ICE. kinds: of the sections that do what was
    wanted, in their order."""

    text: str
    username: str
    password: str
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fragment:
    """A body of application/trickle-ice-sdpfrag (RFC 8840): of one media section, as bundling has it."""

    username: str
    password: str
    candidates: tuple[RTCIceCandidate, ...]
    complete: bool


def read_offer(text: str, wanted: Literal["sendonly", "recvonly"], limits: Limits) -> Offer:
    """wanted: the direction that the client's video section must have, sendrecv will do.

    Raises Refusal: 400 for what is no offer, 422 for one that cannot be served.
    """
    if text.count("\n") > MAX_LINES:
        raise Refusal(400, f"an offer has at most {MAX_LINES} lines")
    try:
        offer = SessionDescription.parse(text)
    except _UNREADABLE:
        raise Refusal(400, "the body is not an SDP offer") from None
    kinds = [media.kind for media in offer.media]
    if len(kinds) > MAX_SECTIONS or len(set(kinds)) != len(kinds) or not set(kinds) <= {"audio", "video"}:
        raise Refusal(422, "an offer has one video section, at most one audio section, and no others")
    if "video" not in kinds:
        raise Refusal(422, "an offer needs a video section")
    if sum(len(media.ice_candidates) for media in offer.media) > limits.candidates:
        raise Refusal(422, f"an offer has at most {limits.candidates} ICE candidates")
    secrets = [_check_section(media) for media in offer.media]
    willing = tuple(media.kind for media in offer.media if media.direction in (wanted, "sendrecv"))
    if "video" not in willing:
        raise Refusal(422, f"the video section must be {wanted}")
    mids = [media.rtp.muxId for media in offer.media]
    bundles = [[str(mid) for mid in group.items] for group in offer.group if group.semantic == "BUNDLE"]
    # aiortc takes the first group as it stands: a mid of no section, or one named twice, breaks its transport
    if len(set(mids)) != len(mids) or not (
        [sorted(mids)] == [sorted(bundle) for bundle in bundles] or (len(mids) == 1 and not bundles)
    ):
        raise Refusal(422, "the sections must be in one BUNDLE group, which names each once and no others")
    return Offer(text, *secrets[0], willing)


def _check_section(media: MediaDescription) -> tuple[str, str]:
    """Returns its ICE username and password."""
    ice, dtls = media.ice, media.dtls
    assert ice is not None, "the parser always makes one"
    secrets = _check_credentials(ice.usernameFragment, ice.password)
    for candidate in media.ice_candidates:
        _check_candidate(candidate)
    if dtls is None or not any(print_.algorithm.lower() == "sha-256" for print_ in dtls.fingerprints):
        raise Refusal(400, "each section needs a sha-256 fingerprint and a setup attribute")
    if not media.rtp.muxId or not media.rtcp_mux:
        raise Refusal(400, "each section needs mid and rtcp-mux")
    if media.direction not in (None, *DIRECTIONS):
        raise Refusal(400, "a section's direction is unknown")
    return secrets


def _check_credentials(username: str | None, password: str | None) -> tuple[str, str]:
    if not (username and _USERNAME.fullmatch(username) and password and _PASSWORD.fullmatch(password)):
        raise Refusal(400, "ice-ufrag and ice-pwd are needed, as RFC 8839 has them")
    return username, password


def _check_candidate(candidate: RTCIceCandidate) -> None:
    try:
        ipaddress.ip_address(candidate.ip)
    except ValueError:
        if not _MDNS_NAME.fullmatch(candidate.ip):
            raise Refusal(400, "a candidate's address is neither an IP address nor NAME.local") from None
    if candidate.type not in ("host", "srflx", "prflx", "relay") or not 0 < candidate.port < 65536:
        raise Refusal(400, "a candidate's type or port is unknown")


def read_fragment(text: str, limits: Limits) -> Fragment:
    """Raises Refusal: 400 for what is no fragment."""
    lines = [line.strip() for line in text.splitlines()]
    if len(lines) > MAX_LINES:
        raise Refusal(400, f"a fragment has at most {MAX_LINES} lines")
    found: dict[str, str] = {}
    mid: str | None = None
    candidates: list[RTCIceCandidate] = []
    complete = False
    for line in lines:
        name, _, value = line.removeprefix("a=").partition(":")
        if not line.startswith("a="):
            continue
        if name in ("ice-ufrag", "ice-pwd"):
            found.setdefault(name, value)
        elif name == "mid":
            mid = value
        elif name == "end-of-candidates":
            complete = True
        elif name == "candidate" and value:
            candidates.append(_candidate(value, mid))
    username, password = _check_credentials(found.get("ice-ufrag"), found.get("ice-pwd"))
    if len(candidates) > limits.candidates:
        raise Refusal(422, f"a fragment has at most {limits.candidates} ICE candidates")
    return Fragment(username, password, tuple(candidates), complete)


def _candidate(value: str, mid: str | None) -> RTCIceCandidate:
    try:
        candidate = candidate_from_sdp(value)
    except _UNREADABLE:
        raise Refusal(400, "a candidate line is malformed") from None
    _check_candidate(candidate)
    candidate.sdpMid = mid
    candidate.sdpMLineIndex = 0 if mid is None else None
    return candidate
