"""The page and the two protocols in a real browser, with a camera that plays a face."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browser import SHOTS, chromium, ms_to_first_frame, opened
from helpers import BypassEnhancer, until
from playwright.async_api import Page, Route, expect
from serve_client import Site, held, serving

from streamsr.serve.session import Session

pytest_plugins = ["rtc_fixtures", "browser_fixtures"]
pytestmark = pytest.mark.alone  # a browser and a model are enough for one machine

DESKTOP = {"width": 1280, "height": 900}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
TOKEN = "publish-0123456789abcdef"
SETTLE_S = 5  # another level of fidelity takes some seconds to prepare; then the figures begin

# another page's own code: one camera out over WHIP, back in over WHEP; resolves with the size it sees
PLAIN = """async name => {
    const offer = async (peer, path) => {
        await peer.setLocalDescription();
        while (peer.iceGatheringState !== "complete") await new Promise(done => setTimeout(done, 10));
        const answer = await fetch(path, {
            method: "POST",
            headers: {"Content-Type": "application/sdp"},
            body: peer.localDescription.sdp,
        });
        await peer.setRemoteDescription({type: "answer", sdp: await answer.text()});
        return [answer.status, answer.headers.get("Location")];
    };
    const camera = await navigator.mediaDevices.getUserMedia({
        video: {width: 640, height: 360, frameRate: 25}, audio: true,
    });
    const up = new RTCPeerConnection({bundlePolicy: "max-bundle"});
    for (const track of camera.getTracks()) up.addTrack(track, camera);
    const [published, here] = await offer(up, `/whip/${name}`);
    const down = new RTCPeerConnection({bundlePolicy: "max-bundle"});
    down.addTransceiver("video", {direction: "recvonly"});
    down.addTransceiver("audio", {direction: "recvonly"});
    const video = document.createElement("video");
    video.muted = true;
    down.ontrack = event => {
        if (event.track.kind === "video") video.srcObject = event.streams[0];
        video.play();
    };
    const [watched, there] = await offer(down, `/whep/${name}`);
    await new Promise(resolve => video.requestVideoFrameCallback(resolve));
    const kinds = down.getReceivers().map(receiver => receiver.track.kind).sort();
    const deleted = await Promise.all([there, here].map(url => fetch(url, {method: "DELETE"})));
    const seen = [video.videoWidth, video.videoHeight];
    return {published, watched, kinds, deleted: deleted.map(answer => answer.status), seen};
}"""


@pytest.fixture(scope="module")
def served(fake_camera: Path, media_address: str) -> Iterator[str]:
    """The command, with the packaged model: its address."""
    command = [sys.executable, "-m", "streamsr", "serve", "--port", "0", "--device", "cpu"]
    process = subprocess.Popen(
        [*command, "--ice-address", media_address],
        stdout=subprocess.PIPE,
        text=True,
        env={key: value for key, value in os.environ.items() if not key.startswith("STREAMSR_")},
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[2]
    finally:
        process.terminate()
        assert process.wait(20) == 0


async def test_the_page_from_start_to_stop(served: str, fake_camera: Path) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    async with (
        chromium(fake_camera, viewport=DESKTOP, color_scheme="light") as context,
        opened(context, f"{served}?stream=page") as page,
    ):
        await page.screenshot(path=SHOTS / "begin.png")
        first_ms = await ms_to_first_frame(page)
        await expect(page.locator("#status")).to_have_text("Live")
        await expect(page.locator("#size-out")).to_have_text(re.compile("1280.720"))
        await expect(page.locator("#age95")).to_have_text(re.compile(r"\d+"))

        await page.focus("#split")
        await page.keyboard.press("End")
        assert (
            await page.evaluate("document.querySelector('#stage').style.getPropertyValue('--at')") == "100%"
        )
        await page.evaluate("document.querySelector('#split').value = 50")
        await page.keyboard.press("ArrowRight")

        await page.focus("#fidelity")
        await page.keyboard.press("End")
        await _controls(served, "page", fidelity=1.0)
        await page.get_by_role("radio", name="2").check(force=True)
        await _controls(served, "page", steps=2)
        await page.get_by_role("button", name="Enhance").click()
        await _controls(served, "page", enabled=False)
        await page.get_by_role("button", name="Enhance").click()
        await page.get_by_role("radio", name="Auto").check(force=True)
        await _controls(served, "page", enabled=True, steps="auto")
        await asyncio.sleep(SETTLE_S)

        (SHOTS / "figures.json").write_text(
            json.dumps({"first_frame_ms": round(first_ms), **await _paced(served, page)}, indent=2)
        )
        await page.screenshot(path=SHOTS / "light.png", full_page=True)
        await page.get_by_role("button", name="Switch between light and dark").click()
        await asyncio.sleep(1.2)
        await page.screenshot(path=SHOTS / "dark.png", full_page=True)
        assert await page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 20, 18)"
        await page.get_by_role("button", name="Stop").click()
        await expect(page.locator("#status")).to_have_text("Stopped")
        await _nobody(served)


async def test_a_late_answer_does_not_undo_what_was_pressed(call_address: None, fake_camera: Path) -> None:
    on_the_way: asyncio.Queue[None] = asyncio.Queue()
    arrives = asyncio.Semaphore(0)

    async def late(route: Route) -> None:
        answer = await route.fetch()
        on_the_way.put_nowait(None)
        await arrives.acquire()
        await route.fulfill(response=answer)

    async with (
        serving() as site,
        chromium(fake_camera) as context,
        opened(context, f"{site.server.url}?stream=late") as page,
    ):
        await ms_to_first_frame(page)
        enabled = page.get_by_role("button", name="Enhance")
        await page.route("**/stats/late", late)
        await on_the_way.get()
        await enabled.click()
        await _controls(site.server.url, "late", enabled=False)
        arrives.release()
        await on_the_way.get()  # the page has read that answer, and asks again
        assert await enabled.get_attribute("aria-pressed") == "false"
        for _ in range(10):
            arrives.release()
        await page.unroute_all(behavior="wait")
        json_type = {"Content-Type": "application/json"}
        answer = await site.status("PATCH", "/controls/late", headers=json_type, data='{"enabled": true}')
        assert answer == 200
        # somebody else did that: it is followed
        await expect(enabled).to_have_attribute("aria-pressed", "true")


@pytest.mark.soak
async def test_the_first_picture_comes_within_three_seconds(served: str, fake_camera: Path) -> None:
    async with (
        chromium(fake_camera, viewport=DESKTOP) as context,
        opened(context, f"{served}?stream=first") as page,
    ):
        assert await ms_to_first_frame(page) < 3000
        await page.get_by_role("button", name="Stop").click()


@pytest.mark.soak
async def test_a_phone_in_the_dark_watches(served: str, fake_camera: Path) -> None:
    async with (
        chromium(fake_camera, **PHONE, color_scheme="dark") as context,
        opened(context, f"{served}?stream=phone") as page,
        opened(context, f"{served}?watch=phone") as watching,
    ):
        assert await page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 20, 18)"
        await page.bring_to_front()
        await ms_to_first_frame(page)
        await asyncio.sleep(3)
        await page.screenshot(path=SHOTS / "phone.png", full_page=True)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        heights = await page.evaluate(
            "[...document.querySelectorAll('.bar :is(button, select)')].map(one => one.offsetHeight)"
        )
        assert min(heights) >= 44
        await watching.bring_to_front()
        await ms_to_first_frame(watching)
        await expect(watching.locator("#status")).to_have_text("Watching phone")
        await _told(served, "stats/phone", lambda figures: figures["viewers"] == 2)
        await watching.screenshot(path=SHOTS / "watch.png", full_page=True)
    await _nobody(served)


async def test_everything_has_a_name_and_takes_the_keyboard(fake_camera: Path) -> None:
    async with (
        serving() as site,
        chromium(fake_camera, viewport=DESKTOP) as context,
        opened(context, site.server.url) as page,
    ):
        unnamed = await page.evaluate(
            """[...document.querySelectorAll("button, select, input, canvas, [role=img]")]
            .filter(one => !(one.labels?.length || one.ariaLabel || one.textContent.trim()))
            .map(one => one.id)"""
        )
        assert unnamed == []
        reached = set()
        for _ in range(14):
            await page.keyboard.press("Tab")
            name = await page.evaluate("document.activeElement.id || document.activeElement.name")
            if name is None:  # the body: all were reached
                break
            reached.add(name)
            ring = await page.evaluate(
                """() => {
                    const now = document.activeElement;
                    const shown = now.matches("[type=radio]") ? now.nextElementSibling : now;
                    return getComputedStyle(shown).outlineStyle;
                }"""
            )
            assert ring == "solid", name
        assert {
            "theme",
            "begin",
            "toggle",
            "camera",
            "mirror",
            "mute",
            "full",
            "fidelity",
            "steps",
        } <= reached


async def test_whip_and_whep_from_any_script(call_address: None, fake_camera: Path) -> None:
    async with (
        serving() as site,
        chromium(fake_camera) as context,
        opened(context, site.server.url) as page,
    ):
        found = await page.evaluate(PLAIN, "plain")
        assert (found["published"], found["watched"], found["deleted"]) == (201, 201, [200, 200])
        assert found["seen"] == [1280, 720] and found["kinds"] == ["audio", "video"]
        await site.settled()


@pytest.mark.soak
async def test_the_page_comes_back_by_itself(call_address: None, fake_camera: Path) -> None:
    async with (
        chromium(fake_camera, viewport=DESKTOP) as context,
        serving() as site,
        opened(context, f"{site.server.url}?stream=again") as page,
    ):
        await ms_to_first_frame(page)
        for lost in ("publisher", "viewer"):
            old = _peer(site, lost)
            assert old is not None
            old.end("lost, for the test")
            await until(lambda lost=lost, old=old: _peer(site, lost) not in (None, old), 60)
            await until(lambda: None not in (_peer(site, "publisher"), _peer(site, "viewer")), 60)
            await _moves(page)
        port = int(re.findall(r":(\d+)/", site.server.url)[0])
        await site.server.__aexit__(None, None, None)
        await expect(page.locator("#status")).to_contain_text("trying again")
        async with serving(port=port) as second:
            await _moves(page)
            await page.get_by_role("button", name="Stop").click()
            await second.settled()


async def test_the_page_asks_for_a_token(call_address: None, fake_camera: Path) -> None:
    async with (
        serving(token=TOKEN) as site,
        chromium(fake_camera, viewport=DESKTOP) as context,
        opened(context, site.server.url) as page,
    ):
        await page.get_by_role("button", name="Start camera").click()
        await page.get_by_label("Token", exact=True).last.fill("wrong-0123456789abcdef")
        await page.get_by_role("button", name="Continue").click()
        await expect(page.locator("#ask-why")).to_have_text("That token was wrong.")
        await page.screenshot(path=SHOTS / "token.png")
        await page.locator("#token").fill(TOKEN)
        await page.keyboard.press("Enter")
        await _moves(page)
        assert TOKEN not in page.url and TOKEN not in await page.content()


@pytest.mark.soak
async def test_ten_pages_that_go_away_leave_nothing(call_address: None, fake_camera: Path) -> None:
    enhancer, idle_s = BypassEnhancer(), 5.0
    async with (
        serving(enhancer, limits={"header_s": idle_s}) as site,
        chromium(fake_camera, viewport=DESKTOP) as context,
    ):

        async def visit() -> None:
            async with opened(context, f"{site.server.url}?stream=ten") as page:
                await ms_to_first_frame(page)
                await page.goto("about:blank")  # a DELETE on the way out, no button
            await site.settled()
            enhancer.sessions.clear()  # they keep what they saw

        for _ in range(10):  # pools of threads and of the allocator fill up
            await visit()
        await asyncio.sleep(idle_s + 1)  # the browser's idle connections end
        before = held()
        for _ in range(10):
            await visit()
        await asyncio.sleep(idle_s + 1)
        held().check_against(before, memory_mb=60)  # a leaked session holds more than 6


def _peer(site: Site, which: str) -> Session | None:
    """Whoever publishes, or the first of those who watch."""
    stream = site.server.streams.stream("again")
    return stream.publisher if which == "publisher" else next(iter(stream.viewers), None)


async def _paced(url: str, page: Page, seconds: float = 15.0) -> dict[str, object]:
    """What the browser shows and the server says of ``seconds`` from now."""
    shown = "document.getElementById('after').getVideoPlaybackQuality().totalVideoFrames"
    began, frames = await _asked(url, "stats/page"), await page.evaluate(shown)
    await asyncio.sleep(seconds)
    frames = await page.evaluate(shown) - frames
    ended = await _asked(url, "stats/page")
    taken_s = ended["uptime_s"] - began["uptime_s"]
    old, new = began["report"]["rungs"], ended["report"]["rungs"]
    rungs = {rung: count - old[rung] for rung, count in new.items()}
    assert frames > seconds and sum(rungs.values()) > 0
    return {
        "fps_received": round(frames / taken_s, 1),
        "restored_share": round(rungs["restored"] / sum(rungs.values()), 3),
        "rungs": rungs,
        "age_ms": ended["report"]["age_ms"],
        "delay_ms": ended["delay_ms"],
    }


async def _moves(page: Page) -> None:
    """The enhanced picture goes on, within a minute."""
    await page.evaluate(
        """() => new Promise((resolve, reject) => {
            const after = document.getElementById("after");
            let seen = 0;
            const count = () => (seen += 1) > 10 ? resolve() : after.requestVideoFrameCallback(count);
            after.requestVideoFrameCallback(count);
            setTimeout(() => reject(new Error("the picture stands still")), 60000);
        })"""
    )


async def _controls(url: str, name: str, **wanted: object) -> None:
    def taken(figures: dict) -> bool:
        return all(figures["controls"][key] == value for key, value in wanted.items())

    await _told(url, f"stats/{name}", taken)


async def _nobody(url: str) -> None:
    """All sessions are gone soon."""
    await _told(url, "health", lambda health: not health["sessions"])


async def _told(url: str, path: str, wanted: Callable[[dict], bool]) -> None:
    """Wait until what the server says is as ``wanted``."""
    async with asyncio.timeout(60):
        while not wanted(await _asked(url, path)):  # noqa: ASYNC110 - the server says it when asked
            await asyncio.sleep(0.1)


async def _asked(url: str, path: str) -> dict:
    def get() -> dict:
        with urllib.request.urlopen(f"{url}{path}", timeout=5) as answer:
            return json.load(answer)

    return await asyncio.to_thread(get)
