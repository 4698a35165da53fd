"""The dashboard in a real browser: what it shows, in what order, and that it says when nobody answers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, SHOTS, chromium, opened
from playwright.async_api import Page, expect
from watch_client import Dashboard, Watched, watching
from watch_status import RUNGS, camera, model, status

from streamsr.watch.status import CameraStatus, SinkStatus, WatchStatus

DESKTOP = {"width": 1440, "height": 900}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
TOKEN = "watch-0123456789abcdef"
PLACES = ("gate", "yard", "lobby", "ramp", "dock-1", "dock-2", "stairs", "roof", "kiosk", "lift-a", "lift-b")
PLACES += ("garage", "hall", "desk", "fence-n", "fence-s")
LOST = SinkStatus(
    url="rtsp://server/ramp",
    state="backoff",
    error="rtsp://server/ramp: no route to host",
    written=812,
    dropped=96,
)

pytestmark = pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="make test-deps installs chromium")


def wall(number: int) -> WatchStatus:
    """Cameras of mixed states; the first of them streams."""
    odd: dict[int, dict[str, Any]] = {
        2: {"state": "backoff", "since_s": 47.0, "error": "rtsp://10.0.0.5/lobby: connection refused"},
        3: {"sinks": (LOST,)},
        5: {"state": "connecting", "since_s": 2.0},
        7: {"state": "stopped", "since_s": 4000.0},
        9: {"state": "frozen", "since_s": 75.0, "error": "the picture has not changed for 60 s"},
        12: {"state": "failed", "since_s": 1.0, "restarts": 3, "error": "ended by SIGSEGV"},
        14: {"rungs": {**RUNGS, "restored": 0}, "restored_share": None},
    }
    cameras = [camera(name, **odd.get(index, {})) for index, name in enumerate(PLACES[:number])]
    return status(*cameras)


def later(now: WatchStatus, seconds: int) -> WatchStatus:
    """The same, as it is when those that stream have gone on."""

    def on(one: CameraStatus) -> CameraStatus:
        if one.state != "streaming":
            return one.model_copy(update={"since_s": one.since_s + seconds})
        rungs = {rung: n + (seconds * n) // 100 for rung, n in one.rungs.items()}
        return one.model_copy(update={"rungs": rungs, "frames_out": one.frames_out + 10 * seconds})

    batches = {size: n + 3 * seconds for size, n in now.model.batches.items()}
    going = now.model.model_copy(update={"batches": batches, "refused": now.model.refused + seconds})
    return now.model_copy(
        update={"cameras": tuple(map(on, now.cameras)), "model": going, "uptime_s": now.uptime_s + seconds}
    )


@asynccontextmanager
async def alive(watched: Watched) -> AsyncIterator[None]:
    """Time passes: what is watched goes on ten times a second."""
    began = watched.now

    async def go_on() -> None:
        for tenth in range(10_000):
            await asyncio.sleep(0.1)
            watched.now = later(began, tenth // 2)
            watched.frame = tenth // 5 % 5

    task = asyncio.create_task(go_on())
    yield
    task.cancel()


@asynccontextmanager
async def open_page(
    now: WatchStatus | Watched, *, token: str | None = None, **options: Any
) -> AsyncIterator[tuple[Dashboard, Page]]:
    """A dashboard in a browser. options: of its window."""
    async with (
        watching(now, token=token) as dashboard,
        chromium(None, **(options or {"viewport": DESKTOP})) as context,
        opened(context, dashboard.url) as page,
    ):
        yield dashboard, page


async def fit(page: Page) -> None:
    """Make the window as high as the page: every picture is asked for."""
    size = await page.evaluate("({width: innerWidth, height: document.documentElement.scrollHeight})")
    await page.set_viewport_size(size)
    await asyncio.sleep(2.5)


async def names(page: Page) -> list[str]:
    """Of the cameras that are shown, in their order."""
    return await page.locator(".camera:visible h3").all_inner_texts()


@pytest.mark.parametrize("number", [1, 16])
async def test_walls_of_cameras(number: int) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    watched = Watched(wall(number))
    watched.dark = {PLACES[5], PLACES[7]}
    looks: dict[str, dict[str, Any]] = {
        "light": {"viewport": DESKTOP, "color_scheme": "light"},
        "dark": {"viewport": DESKTOP, "color_scheme": "dark"},
        "phone": {**PHONE, "color_scheme": "light"},
    }
    async with watching(watched) as dashboard, alive(watched):
        for look, options in looks.items():
            async with chromium(None, **options) as context, opened(context, dashboard.url) as page:
                await expect(page.locator(".camera")).to_have_count(number)
                await fit(page)
                await expect(page.locator("#camera-gate .view")).to_have_attribute("data-picture", "new")
                await expect(page.locator("#camera-gate [data-of=restored]")).to_have_text(
                    re.compile(r"\d\d")
                )
                assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
                await page.screenshot(path=SHOTS / f"watch-{number}-{look}.png", full_page=True)
                await page.get_by_role("button", name="Side by side").click()
                assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
                await page.screenshot(path=SHOTS / f"watch-{number}-{look}-both.png", full_page=True)


async def test_trouble_comes_first_and_is_told() -> None:
    async with open_page(wall(16)) as (dashboard, page):
        await expect(page.locator("#status")).to_have_text(
            "16 cameras, 3 in trouble, 2 to watch, 1 switched off"
        )
        assert await page.title() == "(3) streamsr watch"
        shown = await names(page)
        assert shown[:3] == ["hall", "lift-a", "lobby"] and set(shown[3:5]) == {"dock-2", "ramp"}
        assert shown[-1] == "roof" and len(shown) == 16
        lobby = page.locator("#camera-lobby")
        await expect(lobby.locator(".status")).to_have_text("Not reached, 47 s")
        await expect(lobby.locator(".trouble").first).to_contain_text("connection refused")
        await expect(page.locator("#camera-ramp .status")).to_have_text("No output")
        await page.get_by_role("button", name="Trouble only").click()
        assert len(await names(page)) == 5
        dashboard.watched.now = status(camera("gate"), camera("yard"))
        await expect(page.locator("#status")).to_have_text("2 cameras, all streaming")
        await expect(page.locator("#nothing")).to_be_visible()


async def test_focus_stays_while_the_order_changes() -> None:
    watched = Watched(status(camera("a"), camera("b"), camera("c", priority=0)))
    async with open_page(watched) as (_, page):
        await expect(page.locator("#camera-b .view")).to_have_attribute("data-picture", "new")
        assert await names(page) == ["c", "a", "b"]
        split = page.locator("#camera-b .split")
        await split.focus()
        await page.keyboard.press("End")
        watched.now = status(camera("a"), camera("b", state="stalled"), camera("c", state="failed"))
        await expect(page.locator("#status")).to_contain_text("2 in trouble")
        assert await names(page) == ["b", "c", "a"]
        assert await page.evaluate("document.activeElement.closest('article').id") == "camera-b"
        at = "document.querySelector('#camera-b .view').style.getPropertyValue('--at')"
        assert await page.evaluate(at) == "100%"
        # back in order, but it keeps its place for a while
        watched.now = status(camera("a"), camera("b"), camera("c"))
        await expect(page.locator("#status")).to_have_text("3 cameras, all streaming")
        assert (await names(page))[0] == "b"


async def test_it_says_when_nobody_answers_and_goes_on_by_itself() -> None:
    now = wall(4)
    async with chromium(None, viewport=DESKTOP) as context:
        async with watching(now) as dashboard:
            port = int(dashboard.url.rsplit(":", 1)[1].rstrip("/"))
            page = await context.new_page()
            await page.goto(dashboard.url)
            await expect(page.locator("#camera-gate .view")).to_have_attribute("data-picture", "new")
        await expect(page.get_by_role("alert")).to_contain_text("The server does not answer")
        await expect(page.locator("#status")).to_have_text("No connection")
        await expect(page.locator("#cameras")).not_to_have_css("opacity", "1")  # it fades
        await page.screenshot(path=SHOTS / "watch-gone.png")
        async with watching(now, port=port):
            await expect(page.locator("#gone")).to_be_hidden(timeout=10_000)
            await expect(page.locator("#status")).to_contain_text("4 cameras")


async def test_an_answer_that_ends_in_its_middle_does_not_end_the_page() -> None:
    async with open_page(wall(1)) as (dashboard, page):
        await expect(page.locator("#camera-gate .view")).to_have_attribute("data-picture", "new")
        await page.route("**/api/status", lambda route: route.fulfill(status=200, body='{"version": "0.'))
        await page.route("**/*.jpg", lambda route: route.fulfill(status=200, body="half a pictu"))
        await expect(page.get_by_role("alert")).to_contain_text("The server does not answer")
        await page.unroute("**/api/status")
        await expect(page.locator("#gone")).to_be_hidden()
        await page.unroute("**/*.jpg")
        dashboard.watched.now = status(camera("gate"), camera("yard"))
        await expect(page.locator("#camera-yard .view")).to_have_attribute("data-picture", "new")


async def test_the_model_process_and_details() -> None:
    now = status(
        camera("gate", error="rtsp://10.0.0.5/gate: timed out"),
        reload_error="cameras.toml:7: no",
        model=model(state="backoff", since_s=3.0, error="ended by SIGKILL", restarts=2),
    )
    async with open_page(now) as (_, page):
        await expect(page.locator("#model-state")).to_have_text("died, will be started again, 3 s")
        await expect(page.locator("#model-error")).to_have_text("ended by SIGKILL")
        await expect(page.locator("#reload-error")).to_contain_text("cameras.toml:7: no")
        await expect(page.locator("#restarts")).to_have_text("2")
        await page.get_by_text("More", exact=True).click()
        more = page.locator("#camera-gate details")
        await expect(more).to_contain_text("640\u00d7360 to 1280\u00d7720")
        await expect(more).to_contain_text("2\u202f000 in, 1\u202f994 out, 6 dropped")
        await expect(more.locator(".sinks li")).to_have_count(2)
        await page.screenshot(path=SHOTS / "watch-details.png", full_page=True)


async def test_pictures_are_asked_for_where_somebody_can_see_them() -> None:
    asked: set[str] = set()
    async with open_page(wall(16), **PHONE) as (_, page):
        page.on(
            "request",
            lambda request: asked.add(request.url.split("/")[-2]) if request.url.endswith(".jpg") else None,
        )
        await expect(page.locator(".camera")).to_have_count(16)
        await asyncio.sleep(3)
        first = await names(page)
        assert asked and asked <= set(first[:6])


async def test_it_asks_for_a_token() -> None:
    async with open_page(wall(1), token=TOKEN) as (dashboard, page):
        await page.locator("#token").fill("wrong-0123456789abcdef")
        await page.get_by_role("button", name="Continue").click()
        await expect(page.locator("#ask-why")).to_have_text("That token was wrong.")
        await page.locator("#token").fill(TOKEN)
        await page.keyboard.press("Enter")
        await expect(page.locator("#camera-gate .view")).to_have_attribute("data-picture", "new")
        assert TOKEN not in page.url and TOKEN not in await page.content()
        async with opened(page.context, f"{dashboard.url}#token={TOKEN}") as page:
            await expect(page.locator("#status")).to_have_text("1 camera, streaming")
            assert TOKEN not in page.url


async def test_everything_has_a_name_and_takes_the_keyboard() -> None:
    async with open_page(wall(4)) as (_, page):
        await expect(page.locator("#camera-gate .view")).to_have_attribute("data-picture", "new")
        unnamed = await page.evaluate(
            """[...document.querySelectorAll("main :is(button, input, canvas, summary, [role=img])")]
            .filter(one => !(one.labels?.length || one.ariaLabel || one.textContent.trim()))
            .map(one => one.outerHTML)"""
        )
        assert unnamed == []
        reached = []
        for _ in range(12):
            await page.keyboard.press("Tab")
            reached.append(
                await page.evaluate("(now => now.id || now.className || now.tagName)(document.activeElement)")
            )
            ring = await page.evaluate(
                """() => {
                    const now = document.activeElement;
                    if (!now.matches(".split")) return getComputedStyle(now).outlineStyle;
                    return getComputedStyle(now.nextElementSibling, "::after").outlineStyle;
                }"""
            )
            assert ring in ("solid", "auto") or reached[-1] == "BODY", reached
        assert {"theme", "both", "trouble", "split", "SUMMARY"} <= set(reached)


async def test_nothing_flickers_while_nothing_changes() -> None:
    """A status that is the same leaves every element as it is."""
    async with open_page(wall(16)) as (_, page):
        await expect(page.locator("#camera-hall .view")).to_have_attribute("data-picture", "old")
        await asyncio.sleep(2)
        changed = await page.evaluate(
            """() => new Promise(resolve => {
                const seen = [];
                const watch = new MutationObserver(list => seen.push(...list));
                const all = {subtree: true, childList: true, characterData: true, attributeOldValue: true};
                watch.observe(document.body, all);
                const changed = one => one.type !== "attributes"
                    || one.oldValue !== one.target.getAttribute(one.attributeName);
                const told = one => `${one.attributeName ?? one.type} of ${one.target.outerHTML}`;
                setTimeout(() => resolve(seen.filter(changed).map(told)), 3500);
            })"""
        )
        assert changed == []
