"""Real calls through a server: several viewers, sound, limits, and what is left afterwards."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from helpers import BypassEnhancer, BypassSession, make_face, nothing_left, until
from rtc_peers import SoundTrack
from serve_client import SDP, Site, held, offer_of, picture, serving

from streamsr.clock import MONOTONIC, Clock
from streamsr.report import Outcome

pytest_plugins = ["rtc_fixtures"]
pytestmark = pytest.mark.usefixtures("call_address")


def hum(first: int, count: int) -> np.ndarray:
    return (8000 * np.sin(2 * np.pi * 440 * (first + np.arange(count)) / 48_000)).astype(np.int16)


async def test_viewers_share_one_enhancement() -> None:
    enhancer = BypassEnhancer(faces=(make_face(Outcome.RESTORED, nfe=1, t0=0.4),))
    with nothing_left():
        async with (
            serving(enhancer) as site,
            site.publisher("one", picture(), SoundTrack(hum)),
            site.viewer("one") as first,
            site.viewer("one") as second,
        ):
            for viewer in (first, second):
                frames = [await asyncio.wait_for(viewer.tracks["video"].recv(), 10) for _ in range(10)]
                assert (frames[-1].width, frames[-1].height) == (128, 96)
                sound = await asyncio.wait_for(viewer.tracks["audio"].recv(), 10)
                assert sound.sample_rate == 48_000
            assert len(enhancer.sessions) == 1
            figures = await site.figures("one")
            assert figures["viewers"] == 2 and figures["audio"] and figures["state"] == "connected"
            report = figures["report"]
            assert report["output_px"] == [128, 96] and report["restored_share"] == 1
            assert report["rungs"]["restored"] >= 10 and figures["delay_ms"] > 0
            assert not {"source", "sink", "versions", "warnings"} & set(report)


async def test_sound_before_picture_in_one_offer_and_after_it_in_the_other() -> None:
    async with (
        serving() as site,
        site.publisher("one", SoundTrack(hum), picture()),
        site.viewer("one") as viewer,
    ):
        for kind in ("video", "audio"):
            await asyncio.wait_for(viewer.tracks[kind].recv(), 10)


async def test_a_slow_viewer_holds_up_nobody() -> None:
    """One never reads what it gets: its queue drops, the other's picture keeps its pace."""
    async with serving() as site, site.publisher("one") as client:
        stream = site.server.streams.stream("one")
        lazy = stream.relays["video"].subscribe()
        async with site.viewer("one") as viewer:
            await asyncio.wait_for(viewer.tracks["video"].recv(), 10)
            began = asyncio.get_running_loop().time()
            for _ in range(25):
                await asyncio.wait_for(viewer.tracks["video"].recv(), 2)
            assert 0.7 < asyncio.get_running_loop().time() - began < 1.4
            assert lazy.dropped >= 20
        assert client.peer.connectionState == "connected"


async def test_viewers_of_a_stream_that_ends_are_told() -> None:
    with nothing_left():
        async with serving() as site:
            async with site.publisher("one"), site.viewer("one") as viewer:
                await asyncio.wait_for(viewer.tracks["video"].recv(), 10)
                assert await site.counts() == (1, 2)
            await until(lambda: viewer.peer.connectionState == "closed")
            await site.settled()


async def test_a_publisher_that_fell_silent_gives_up_its_name() -> None:
    async with serving(limits={"takeover_s": 0.5}) as site, site.publisher("one") as first:
        await asyncio.wait_for(first.connected.wait(), 10)
        first.peer.getSenders()[0].replaceTrack(None)
        await asyncio.sleep(1)
        async with site.publisher("one") as second, site.viewer("one") as viewer:
            await asyncio.wait_for(viewer.tracks["video"].recv(), 10)
            assert second.location != first.location
            await until(lambda: first.peer.connectionState == "closed")


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"width_px": 48, "height_px": 48}, "the picture is 64x48, larger than 48x48"),
        ({"fps": 5}, "more than 5 frames per second"),
        ({"session_s": 1}, "longer than 1 s"),
    ],
)
async def test_limits_end_a_session_and_say_so(limits: dict[str, float], reason: str) -> None:
    async with serving(limits=limits) as site, site.publisher("one") as client:
        await until(lambda: client.peer.connectionState == "closed", 10)
        await site.settled()
        status, _, text = await site.answer("GET", "/stats/one")
        assert status == 404 and reason in text


async def test_silence_and_never_connecting_end_a_session() -> None:
    async with serving(limits={"silence_s": 2, "connect_s": 1.5}) as site:
        async with site.publisher("one") as client:
            await asyncio.wait_for(client.connected.wait(), 10)
            client.peer.getSenders()[0].replaceTrack(None)
            await site.settled()
            assert "no picture for 2 s" in (await site.answer("GET", "/stats/one"))[2]
        offer = await offer_of()
        assert await site.status("POST", "/whip/two", headers={"Content-Type": SDP}, data=offer) == 201
        await site.settled()
        assert "not connected within 1.5 s" in (await site.answer("GET", "/stats/two"))[2]


class SecondFails(BypassEnhancer):
    """The model breaks down in its second session."""

    def session(self, *, scale: int = 2, clock: Clock = MONOTONIC, **options: object) -> BypassSession:
        session = super().session(scale=scale, clock=clock, **options)
        if len(self.sessions) == 2:
            session.restore = lambda tracked, deadline_ns=None: 1 // 0  # type: ignore[method-assign]
        return session


async def test_a_stream_that_fails_leaves_the_others() -> None:
    async with serving(SecondFails()) as site, site.publisher("good"), site.viewer("good") as viewer:
        await asyncio.wait_for(viewer.tracks["video"].recv(), 10)
        async with site.publisher("bad") as bad:
            await until(lambda: bad.peer.connectionState == "closed", 10)
            await site.gone("bad")
            assert "division" in (await site.answer("GET", "/stats/bad"))[2]
        before = (await site.figures("good"))["report"]["frames_out"]
        await asyncio.wait_for(viewer.tracks["video"].recv(), 2)
        await asyncio.sleep(0.5)
        assert (await site.figures("good"))["report"]["frames_out"] > before + 5


async def test_ten_sessions_leave_nothing() -> None:
    async def once(site: Site) -> None:
        async with site.publisher("one", picture(), SoundTrack(hum)), site.viewer("one") as viewer:
            await asyncio.wait_for(viewer.tracks["video"].recv(), 10)
        await site.settled()
        enhancer.sessions.clear()  # they keep what they saw

    enhancer = BypassEnhancer()
    async with serving(enhancer) as site:
        for _ in range(3):  # pools of threads and of the allocator fill up
            await once(site)
        before = held()
        for _ in range(10):
            await once(site)
        held().check_against(before, memory_mb=20)


async def test_logs_name_nobody_and_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="streamsr")
    token = "publish-0123456789abcdef"
    authorised = {"Authorization": f"Bearer {token}"}
    async with (
        serving(token=token) as site,
        site.publisher("one", headers=authorised) as client,
        site.viewer("one", headers=authorised) as viewer,
    ):
        await asyncio.wait_for(viewer.tracks["video"].recv(), 10)
        secrets = [token, client.location, client.fragment.splitlines()[0], "a=", "127.0.0.1", "10.77."]
    assert "whip of one began" in caplog.text and "whip of one ended" in caplog.text
    assert [secret for secret in secrets if secret in caplog.text] == []
