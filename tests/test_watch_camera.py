"""Parts of a camera's process: its region, its patience with a source, its pictures for the dashboard."""

from __future__ import annotations

import base64
import threading
import time
from dataclasses import replace

import cv2
import numpy as np
import pytest
from helpers import FakeClock, wait_until
from media import moving_portrait
from rtsp_server import RtspServer, free_port, live_video

from streamsr.errors import SourceError
from streamsr.face.tracker import MediaPipeTracker, TrackedFace
from streamsr.io.rtsp import RtspSource
from streamsr.watch.patient_source import PatientSource
from streamsr.watch.region import RegionTracker
from streamsr.watch.snapshots import Snapshots, chosen_view

pytest_plugins = ["shared_fixtures"]


class Placed:
    """A tracker whose one face stands where it is told."""

    def __init__(self, face: TrackedFace) -> None:
        self.face = face
        self.resets = 0
        self.closed = False

    def track(self, image: np.ndarray, time_s: float) -> list[TrackedFace]:
        return [self.face]

    def reset(self) -> None:
        self.resets += 1

    def close(self) -> None:
        self.closed = True


@pytest.fixture(scope="module")
def face() -> TrackedFace:
    """As mediapipe finds it."""
    tracker = MediaPipeTracker()
    try:
        sightings = [tracker.track(moving_portrait(index, 320, 240), index / 25) for index in range(6)]
    finally:
        tracker.close()
    (found,) = sightings[-1]
    return replace(found, blend=1.0)


@pytest.mark.parametrize(
    ("middle_px", "blend"),
    [
        ((200, 150), 1.0),
        ((99, 150), None),
        ((105, 150), 0.5),
        ((110, 150), 1.0),
        ((200, 102.5), 0.25),
        ((299, 150), 0.1),
        ((301, 150), None),
        ((200, 199.9), 1.0),  # the region ends where the picture does
    ],
)
def test_only_faces_inside_the_region_and_none_flashes_at_its_edge(
    middle_px: tuple[float, float], blend: float | None, face: TrackedFace
) -> None:
    x, y = middle_px
    placed = Placed(replace(face, roi_px=(x - 20, y - 20, 40, 40)))  # type: ignore[arg-type]
    tracker = RegionTracker(placed, (100, 100, 200, 100))
    found = tracker.track(np.zeros((200, 400, 3), np.uint8), 0.0)
    assert [round(one.blend, 6) for one in found] == ([] if blend is None else [blend])
    tracker.reset()
    tracker.close()
    assert (placed.resets, placed.closed) == (1, True)


def test_a_source_is_awaited_for_ever(gstreamer: None) -> None:
    server = RtspServer({"/live": live_video(rate=10)})
    source = PatientSource(
        server.url("/live", "ann:s3cr3t"),
        lambda: RtspSource(server.url("/live"), open_timeout_s=2),
        camera="gate",
        uniform=lambda: 1.0,
    )
    assert source.state == "connecting" and "s3cr3t" not in source.url
    opening = threading.Thread(target=source.open)
    opening.start()
    wait_until(lambda: source.state == "backoff", 5)
    assert "refused the connection" in (source.error or "")
    with server:
        opening.join(10)
        assert not opening.is_alive() and source.state == "open"
        frame = source.read()
        assert frame is not None and (frame.width, frame.height) == (160, 120)
        source.close()
        source.close()


def test_who_waits_for_a_source_can_be_called_off() -> None:
    url = f"rtsp://127.0.0.1:{free_port()}/live"
    source = PatientSource(url, lambda: RtspSource(url), camera="gate")
    wanted: list[str] = []

    def wait() -> None:
        try:
            source.open()
        except SourceError as error:
            wanted.append(str(error))

    opening = threading.Thread(target=wait)
    opening.start()
    wait_until(lambda: source.state == "backoff", 5)
    began = time.monotonic()
    source.interrupt()
    opening.join(2)
    assert time.monotonic() - began < 1 and len(wanted) == 1
    with pytest.raises(SourceError, match="interrupted"):
        PatientSource.open(source)


def test_a_snapshot_shows_the_largest_face_and_does_not_shake() -> None:
    shape, small, face = (360, 640, 3), (10, 10, 20, 20), (300, 100, 60, 80)
    assert chosen_view([], shape, (0, 0, 64, 36)) is None
    view = chosen_view([small, face], shape, None)
    assert view == (240, 90, 180, 101)
    assert chosen_view([(310, 105, 55, 75)], shape, view) == view, "it moves less than the view allows"
    assert chosen_view([(420, 105, 60, 80)], shape, view) != view
    assert chosen_view([(240, 60, 180, 240)], shape, view) == (60, 28, 540, 304)
    x, y, width, height = chosen_view([(600, 330, 40, 60)], shape, None)
    assert (x + width, y + height) == (640, 360), "inside of the picture"


def test_a_snapshot_shows_the_same_part_before_and_after() -> None:
    clock = FakeClock()
    snapshots = Snapshots(clock)
    before = moving_portrait(0, 320, 240)
    after = cv2.resize(before, (640, 480), interpolation=cv2.INTER_NEAREST)
    snapshots.want(5)
    snapshots.show(before, after, [(100, 60, 40, 50)])
    pair = snapshots.take()
    assert pair is not None
    small, large = (
        cv2.imdecode(np.frombuffer(base64.b64decode(pair[which]), np.uint8), cv2.IMREAD_COLOR)
        for which in ("before", "after")
    )
    assert small.shape == (90, 120, 3) and large.shape == (180, 240, 3)
    reduced = cv2.resize(large, (120, 90), interpolation=cv2.INTER_AREA)
    assert np.abs(reduced.astype(int) - small).mean() < 4


def test_snapshots_are_made_while_somebody_looks() -> None:
    clock = FakeClock()
    snapshots = Snapshots(clock)
    before, after = moving_portrait(0, 161, 121), moving_portrait(0, 640, 480)
    snapshots.show(before, after)
    assert snapshots.take() is None, "nobody looks"
    snapshots.want(5)
    snapshots.show(before, after)
    pair = snapshots.take()
    assert pair is not None and snapshots.take() is None
    for which, picture, size in (("before", before, (161, 121)), ("after", after, (480, 360))):
        data = np.frombuffer(base64.b64decode(pair[which]), np.uint8)
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]
        assert decoded.shape == (size[1], size[0], 3) and len(data) < 60_000
        wanted = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        assert np.abs(decoded.astype(int) - wanted).mean() < 4
    snapshots.show(before, after)
    assert snapshots.take() is None, "at most two a second"
    clock.advance_ms(500)
    snapshots.show(before, after)
    assert snapshots.take() is not None
    clock.advance_ms(4501)
    snapshots.show(before, after)
    assert snapshots.take() is None, "nobody looks any more"
