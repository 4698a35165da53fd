"""Cameras on an RTSP server, through ``streamsr watch``, back to the server: ``python demos/watch.py``.

The server is GStreamer's, a Debian package; the cameras show the embedded sample. --cameras 4: four of them.
Open the dashboard that it prints, or the enhanced streams in a player. Ctrl-C ends it.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import cv2

from streamsr.io.synthetic import MotionSample

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from rtsp_server import CHANNELS, RtspServer, missing, publish_in, publish_out

RATE = 10
SECONDS = 12  # of the sample, then over again
WIDTH_PX, HEIGHT_PX = 320, 180
CAMERA = (
    "( multifilesrc location={}/%05d.png loop=true caps=image/png,framerate={}/1 ! pngdec ! videoconvert "
    "! video/x-raw,format=I420 ! x264enc tune=zerolatency speed-preset=veryfast bitrate=200 key-int-max=20 "
    "! h264parse ! rtph264pay name=pay0 pt=96 config-interval=1 )"
)


def render(folder: Path, seed: int) -> str:
    """The pipeline of a camera that shows the sample, in a motion of its own."""
    folder.mkdir()
    sample = MotionSample(SECONDS * RATE, rate=RATE, seed=seed)
    for index in range(sample.frames):
        picture = cv2.resize(sample.frame(index)[60:348], (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(folder / f"{index:05d}.png"), picture[..., ::-1])
    return CAMERA.format(folder, RATE)


def configuration(server: RtspServer, count: int) -> str:
    tables = ['[watch]\nlisten = "127.0.0.1:0"\n']
    for number in range(1, count + 1):
        tables.append(
            f'[[camera]]\nname = "camera{number}"\nurl = "{server.url(f"/camera{number}")}"\n'
            f'sink = "{server.url(f"/publish{number}")}"\n'
        )
    return "\n".join(tables)


def dashboard_of(watch: subprocess.Popen[bytes], log: Path) -> str:
    """Its address, which ``streamsr watch`` tells in its log."""
    while watch.poll() is None:
        for line in log.read_text().splitlines():
            if line.startswith("{") and json.loads(line)["event"] == "listening":
                return str(json.loads(line)["url"])
        time.sleep(0.1)
    sys.exit(log.read_text().strip())


def show(dashboard: str) -> bool:
    """Print how the cameras are. Whether all of them stream."""
    with urllib.request.urlopen(f"{dashboard}api/status", timeout=5) as answer:
        status = json.load(answer)
    for camera in status["cameras"]:
        share, age = camera["restored_share"], camera["age_ms"]
        print(
            f"{camera['name']:>10} {camera['state']:<11} {camera['fps']:5.1f} fps"
            f"  age {age['p50'] if age else 0:4.0f} ms  restored {share or 0:4.0%}"
            f"  {camera['error'] or ''}"
        )
    print(
        f"{'model':>10} {status['model']['state']:<11} {status['model']['busy_share']:4.0%} busy", flush=True
    )
    return all(camera["state"] == "streaming" for camera in status["cameras"])


def run(folder: Path, count: int, seconds: float) -> int:
    print(f"rendering {count} x {SECONDS} s of the sample", flush=True)
    cameras = {f"/camera{n}": render(folder / f"camera{n}", n) for n in range(1, count + 1)}
    channels = dict(zip(range(1, count + 1), CHANNELS, strict=False))
    outlets = {f"/enhanced{number}": publish_out(channel) for number, channel in channels.items()}
    inlets = {f"/publish{number}": publish_in(channel) for number, channel in channels.items()}
    with RtspServer({**cameras, **outlets}, inlets) as server:
        path = folder / "cameras.toml"
        path.write_text(configuration(server, count))
        print(path.read_text())
        command = [sys.executable, "-m", "streamsr", "watch", str(path)]
        log = folder / "watch.log"
        with log.open("wb") as file:
            watch = subprocess.Popen(command, stderr=file, start_new_session=True)  # Ctrl-C comes here first
        try:
            dashboard = dashboard_of(watch, log)
            print(f"dashboard  {dashboard}")
            for number in channels:
                print(f"before     {server.url(f'/camera{number}')}")
                print(f"after      {server.url(f'/enhanced{number}')}", flush=True)
            until = None  # the cameras stream
            while (until is None or time.monotonic() < until) and watch.poll() is None:
                time.sleep(2)
                if show(dashboard) and until is None:
                    until = time.monotonic() + seconds
        finally:
            watch.send_signal(signal.SIGTERM)
            watch.wait()
        return watch.returncode


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cameras", type=int, choices=range(1, len(CHANNELS) + 1), default=1)
    parser.add_argument(
        "--seconds",
        type=float,
        default=float("inf"),
        help="from when all cameras stream; for ever by default",
    )
    options = parser.parse_args(arguments)
    reason = missing()
    if reason is not None:
        print(f"the demo needs GStreamer's RTSP server: {reason}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    folder = Path(tempfile.mkdtemp(prefix="streamsr-demo-"))
    try:
        return run(folder, options.cameras, options.seconds)
    except KeyboardInterrupt:
        return 0
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
