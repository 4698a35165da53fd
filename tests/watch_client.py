"""The HTTP side of ``streamsr watch`` on a free port, of a status that the test decides."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import aiohttp
import cv2
import numpy as np

from streamsr.io.synthetic import MotionSample
from streamsr.watch.config import WatchListen
from streamsr.watch.http import Which, site
from streamsr.watch.status import WatchStatus
from streamsr.web import Site


@cache
def jpeg(index: int, which: Which) -> bytes:
    """Frame ``index`` of the sample, 320x180; before: as a poor camera gives it."""
    picture = MotionSample(index + 1, seed=index).frame(index)[60:348]
    small = cv2.resize(picture, (320, 180), interpolation=cv2.INTER_AREA)
    if which == "before":
        poor = cv2.resize(cv2.GaussianBlur(small, (0, 0), 1.2), (107, 60), interpolation=cv2.INTER_AREA)
        small = cv2.resize(poor, (320, 180), interpolation=cv2.INTER_CUBIC)
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(small[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return data.tobytes()


class Watched:
    """now: what ``status`` says, replaced at will. dark: cameras that never gave a picture."""

    def __init__(self, now: WatchStatus) -> None:
        self.now = now
        self.dark: set[str] = set()
        self.frame = 0
        self.asked = 0

    def status(self) -> WatchStatus:
        self.asked += 1
        return self.now

    def snapshot(self, name: str, which: Which) -> bytes | None:
        names = [camera.name for camera in self.now.cameras]
        if name not in names:
            raise KeyError(name)
        return None if name in self.dark else jpeg(7 * names.index(name) + self.frame, which)


@asynccontextmanager
async def watching(now: WatchStatus | Watched, **options: Any) -> AsyncIterator[Dashboard]:
    watched = now if isinstance(now, Watched) else Watched(now)
    async with (
        site(watched, WatchListen(**{"port": 0, **options})) as found,
        aiohttp.ClientSession(found.url, timeout=aiohttp.ClientTimeout(20)) as http,
    ):
        yield Dashboard(watched, found, http)


class Dashboard:
    """A server as its clients see it."""

    def __init__(self, watched: Watched, found: Site, http: aiohttp.ClientSession) -> None:
        self.watched, self.site, self.http, self.url = watched, found, http, found.url

    async def get(self, path: str, **headers: str) -> tuple[int, Any, bytes]:
        """Status, headers, body."""
        async with self.http.get(path, headers=headers) as response:
            return response.status, response.headers, await response.read()
