"""The HTML report of a benchmark: whole in one file, and readable light and dark, wide and narrow."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, SHOTS, chromium, opened

from streamsr.bench import plots
from streamsr.bench.report import write_report

HEAD: dict[str, Any] = {
    "bench": "call",
    "command": "streamsr bench call --data '<script>alert(1)</script>'",
    "commit": "0123456789ab",
    "version": "0.1.0",
    "device": "cpu",
    "cpu": "a processor",
    "cores": 2,
    "python": "3.11.7",
    "torch": "2.13.0",
    "note": "one line & another",
}
SPLIT = {"algorithmic": 0.0, "compute": 31.0, "waiting": 7.5, "codec": 9.25, "transport": 12.0}


def _stages(**row: Any) -> dict[str, Any]:
    names = ("track", "align", "guide", "net", "composite", "frame")
    return row | {f"{name}_{p}_ms": k + 1.0 for name in names for k, p in enumerate(("p50", "p95", "p99"))}


def _method(name: str, psnr: float, distance: float | None) -> dict[str, Any]:
    row = {"method": name, "condition": "call", "scale": 4, "face_psnr_y": psnr, "face_hf_ratio": 0.5}
    return row | {"feature_distance": distance}


def _all_plots() -> list[plots.Plot]:
    frames = [
        _stages(size=256, steps=n, faces=faces, input_px=at)
        for n in (1, 2)
        for faces, at in ((1, "640x360"), (2, "640x360"), (1, "1280x720"))
    ]
    network = [_network(256, 1, batch) for batch in (1, 2)]
    piped = [_stages(faces=1, streams=n, fps=30.0, rss_mb=[500.0] * 60) for n in (1, 2)]
    shares = {"copy_share": 0.5, "matmul_share": 0.01, "times_faster": 12.0}
    twins = {
        "product_p50_ms": 2.0,
        "product": "OpenCV",
        "best_p50_ms": 3.0,
        "best": "torch",
        "twin_p50_ms": 8.0,
    }
    methods = [_method("bicubic", 31, 0.4), _method("streamsr f=1", 32, 0.3), _method("espcn", 31.5, None)]
    return [
        *plots.latency_plots({"network": network}, frames),
        *plots.throughput_plots({}, piped),
        *plots.kernel_bars({"kernels_ran": True}, [{"op": "crop", "case": "crop & paste", **shares}]),
        *plots.kernel_bars({"kernels_ran": False}, [{"op": "flow", "case": "flow 128 px", **twins}]),
        *plots.endurance_memory({}, [{"rss_each_minute_mb": [700.0, 710.0, 705.0]}]),
        *plots.call_split({"split_ms": SPLIT, "glass_to_glass_ms": {"p50": 59.75}}, []),
        *plots.frontiers(("condition", "scale"), methods),
    ]


def _network(size: int, steps: int, batch: int) -> dict[str, Any]:
    return {"size": size, "steps": steps, "batch": batch, "restore_p50_ms": 9.0, "restore_p95_ms": 11.0}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    rows = [{"call": "enhanced", "fps": 25.0, "n": 3, "gone": None, "rungs": {"restored": 3}, "note": "<b>"}]
    write_report(path, "About it.", HEAD, {"": (("call", "fps"), rows), "more": (("n",), rows)}, _all_plots())
    return path


class _Found(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: Counter[str] = Counter()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href", "data", "action"):
                self.links.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_report_is_whole_and_says_what_was_measured(page: Path) -> None:
    text, found = page.read_text(), _Found()
    found.feed(text)
    assert all(link.startswith("#") for link in found.links)
    assert {link[1:] for link in found.links} <= set(found.ids)
    assert max(Counter(found.ids).values(), default=0) <= 1
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(found.ids)
    assert "@import" not in text and not re.search(r"url\((?!#)", text)
    assert found.tags["script"] == 0 and found.tags["link"] == 0
    assert found.tags["figure"] == found.tags["svg"] == len(_all_plots())
    for words in (HEAD["command"], HEAD["commit"], HEAD["cpu"], "one line & another", "crop & paste", "59.8"):
        assert words in found.text or words == "59.8"
    assert '"restored": 3' in found.text  # what no table shows is in the JSON
    assert "#0101f" not in text and "#0102f" not in text  # every colour is the page's


def test_a_plot_for_everything_that_was_varied() -> None:
    titles = [plot.title for plot in _all_plots()]
    assert titles == [
        "S = 256, 1 step", "S = 256, 2 steps", "A frame by faces in the picture", "A frame by input",
        "The network by batch", "Frames a second by streams", "Stages", "Memory", "Memory", "crop",
        "Kernels and twins", "flow", "Memory", "Glass to glass", "call, x4",
    ]  # fmt: skip


@pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="make test-deps installs chromium")
@pytest.mark.parametrize(("theme", "width"), [("light", 1200), ("dark", 1200), ("dark", 390), ("light", 390)])
async def test_in_a_browser(page: Path, theme: str, width: int) -> None:
    viewport = {"width": width, "height": 900}
    async with chromium(None, viewport=viewport, color_scheme=theme) as context:
        asked: list[str] = []
        context.on("request", lambda request: asked.append(request.url))
        async with opened(context, page.as_uri()) as tab:
            assert await tab.evaluate("document.documentElement.scrollWidth") <= width
            ground = await tab.evaluate("getComputedStyle(document.body).backgroundColor")
            drawn = await tab.evaluate(
                """() => [...document.querySelectorAll("figure svg")].map(svg => {
                    const box = svg.getBoundingClientRect();
                    const words = [...svg.querySelectorAll("text")];
                    const sizes = words.map(word => word.getBoundingClientRect());
                    return {
                        width: box.width,
                        words: words.length,
                        least: Math.min(...sizes.map(size => size.height)),
                        outside: words.filter((word, k) =>
                            sizes[k].left < box.left - 1 || sizes[k].right > box.right + 1
                            || sizes[k].top < box.top - 1 || sizes[k].bottom > box.bottom + 1
                        ).map(word => word.textContent),
                        colours: words.map(word => getComputedStyle(word).fill),
                    };
                })"""
            )
            SHOTS.mkdir(parents=True, exist_ok=True)
            await tab.screenshot(path=SHOTS / f"report_{theme}_{width}.png", full_page=True)
    assert asked == [page.as_uri()]
    dark = sum(map(int, re.findall(r"\d+", ground)[:3])) < 3 * 128
    assert dark == (theme == "dark")
    for plot in drawn:
        assert plot["width"] >= 280 and plot["words"] >= 4 and plot["least"] >= 9, plot
        assert plot["outside"] == [], plot
        for colour in plot["colours"]:
            away = sum(abs(int(a) - int(b)) for a, b in _channels(colour, ground))
            assert away > 150, f"{colour} on {ground}"


def _channels(*colours: str) -> list[tuple[str, ...]]:
    return list(zip(*(re.findall(r"\d+", colour)[:3] for colour in colours), strict=True))
