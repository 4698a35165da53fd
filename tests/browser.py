"""Debian's Chromium with a camera that plays a face, driven by Playwright."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
from av.video.stream import VideoStream
from playwright.async_api import BrowserContext, Page, async_playwright, expect

from streamsr.io.synthetic import MotionSample

CHROMIUM = "/usr/bin/chromium"
CAMERA_PX = (640, 360)
expect.set_options(timeout=60_000)  # ms: a machine may be busy
SHOTS = Path(__file__).parents[1] / "build" / "browser"
FLAGS = (
    "--allow-loopback-in-peer-connection",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--no-sandbox",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",  # without permission, candidates are mDNS names
)


def write_camera(path: Path, seconds: float = 4.0) -> None:
    sample = MotionSample(round(25 * seconds), Fraction(25), seed=0)
    with av.open(str(path), "w", format="mjpeg") as container:
        stream = container.add_stream("mjpeg", rate=25)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = CAMERA_PX
        stream.pix_fmt = "yuvj420p"
        stream.codec_context.qmin = stream.codec_context.qmax = 3
        for index in range(sample.frames):
            near = sample.frame(index)[40:328]  # 16:9, with all of the head
            picture = cv2.resize(near, CAMERA_PX, interpolation=cv2.INTER_AREA)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


@asynccontextmanager
async def chromium(camera: Path | None, **options: Any) -> AsyncIterator[BrowserContext]:
    """A fresh browser and its only context; options: of the context, such as its viewport."""
    flags = [*FLAGS, *([f"--use-file-for-fake-video-capture={camera}"] if camera else [])]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        context = await browser.new_context(**options)
        try:
            yield context
        finally:
            await browser.close()


@asynccontextmanager
async def opened(context: BrowserContext, url: str) -> AsyncIterator[Page]:
    """A page at ``url``; what it logs or throws as an error fails the test."""
    page = await context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    await page.goto(url)
    yield page
    await page.close(run_before_unload=True)
    expected = "Failed to load resource"  # a refusal that the page handles
    unexpected = [text for text in complaints if not text.startswith(expected)]
    assert unexpected == [], unexpected


async def ms_to_first_frame(page: Page, button: str = "#begin") -> float:
    """From the click to the first enhanced picture on the screen."""
    return await page.evaluate(
        """button => new Promise((resolve, reject) => {
            const after = document.getElementById("after");
            const began = performance.now();
            after.requestVideoFrameCallback(() => resolve(performance.now() - began));
            setTimeout(() => reject(new Error("no picture within 60 s")), 60000);
            document.querySelector(button).click();
        })""",
        button,
    )
