"""A running ``streamsr watch``, seen from outside: scraped, asked whether it is ready, looked at."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
from fractions import Fraction
from pathlib import Path

import pytest
from browser import CHROMIUM, SHOTS, chromium, opened
from media import moving_portrait, write_video
from playwright.async_api import expect
from prometheus_client.parser import text_string_to_metric_families as parsed
from watch_process import WatchProcess, camera

pytestmark = pytest.mark.timeout(240)

COUNTS = ("_total", "_bucket", "_sum", "_count")
Counts = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two cameras that show a face, from files, and one that is switched off."""
    folder = tmp_path_factory.mktemp("cameras")
    film = folder / "portrait.mp4"
    write_video(film, count=63, size=(320, 240), rate=Fraction(10), picture_of=moving_portrait)
    patient = {"loop": True, "budget_ms": 2000}  # a busy machine restores some too
    tables = [camera(name, film, **patient, sink=folder / f"{name}.mp4") for name in ("gate", "yard")]
    return "\n".join([*tables, camera("spare", film, loop=True, sink=folder / "spare.mp4", enabled=False)])


def scrape(watch: WatchProcess) -> Counts:
    """All counters."""
    families = parsed(watch.get("metrics").decode())
    samples = (sample for family in families for sample in family.samples)
    return {
        (one.name, frozenset(one.labels.items())): one.value for one in samples if one.name.endswith(COUNTS)
    }


def ready(watch: WatchProcess) -> tuple[bool, list[str]]:
    """Whether it is, and what is not."""
    try:
        found = json.loads(watch.get("readyz"))
    except urllib.error.HTTPError as error:
        assert error.code == 503
        found = json.loads(error.read())
    return found["ready"], [one.get("name", one["what"]) for one in found["not_ready"]]


def test_counters_go_on_and_readiness_tells_while_processes_die(text: str, tmp_path: Path) -> None:
    gate = frozenset({("camera", "gate")})
    with WatchProcess(tmp_path / "cameras.toml", text) as watch:
        assert not ready(watch)[0] and json.loads(watch.get("healthz")) == {"status": "ok"}
        watch.streaming("gate", "yard", timeout_s=90)
        assert ready(watch) == (True, [])
        watch.until(lambda now: now["by_name"]["gate"]["frames_in"] > 20)
        last, missing = scrape(watch), set()
        for victim in ("gate", "model"):
            now = watch.status()
            process_id = (now["model"] if victim == "model" else now["by_name"][victim])["process_id"]
            os.kill(process_id, signal.SIGKILL)
            deadline = time.monotonic() + 90
            while victim not in missing or not ready(watch)[0]:
                assert time.monotonic() < deadline, watch.lines[-5:]
                missing |= set(ready(watch)[1])
                counts = scrape(watch)
                assert all(counts[key] >= count for key, count in last.items() if key in counts)
                last = counts
                time.sleep(0.1)
        assert missing >= {"gate", "model"} and "spare" not in missing
        assert last["streamsr_camera_restarts_total", gate] == 1
        assert last["streamsr_model_restarts_total", frozenset()] == 1
        restored = watch.status()["by_name"]["yard"]["rungs"]["restored"]
        watch.until(lambda now: now["by_name"]["yard"]["rungs"]["restored"] > restored)
        now = watch.until(lambda now: now["by_name"]["gate"]["frames_in"] > 5)
        total = scrape(watch)["streamsr_camera_frames_in_total", gate]
        assert total > now["by_name"]["gate"]["frames_in"] + 10  # those of the first process as well
        assert watch.stop() == 0
    lines = [json.loads(line) for line in watch.lines]
    assert all(list(line)[:5] == ["time", "level", "event", "camera", "message"] for line in lines)
    died = [line for line in lines if line["event"] == "camera_died"]
    assert [line["camera"] for line in died] == ["gate"] and "SIGKILL" in died[0]["message"]


@pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="make test-deps installs chromium")
async def test_the_dashboard_shows_what_is_enhanced(text: str, tmp_path: Path) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    with WatchProcess(tmp_path / "cameras.toml", text) as watch:
        url = watch.event("listening")["url"]
        async with (
            chromium(None, viewport={"width": 1440, "height": 1100}) as context,
            opened(context, url) as page,
        ):
            for name in ("gate", "yard"):
                card = page.locator(f"#camera-{name}")
                await expect(card.locator(".status")).to_have_text("Streaming", timeout=60_000)
                await expect(card.locator(".view")).to_have_attribute("data-picture", "new", timeout=20_000)
                await expect(card.locator(".rungs i").first).to_be_visible(timeout=90_000)  # restored
            await expect(page.locator("#status")).to_have_text("3 cameras, 2 streaming, 1 switched off")
            widths = await page.evaluate(
                "[...document.querySelectorAll('#camera-gate canvas')].map(one => one.width)"
            )
            small, large = sorted(widths)  # a part of the picture before and after, at scale 2
            assert 0 < small < large == pytest.approx(2 * small, abs=2)
            await page.screenshot(path=SHOTS / "watch-real.png", full_page=True)
        assert watch.stop() == 0
