"""Whose faces come first and whose are refused, on a clock that the tests move."""

from __future__ import annotations

from collections import Counter

import pytest

from streamsr.watch.device_costs import Costs
from streamsr.watch.device_queue import MOST_MS, TERM_S, Camera, DeviceQueue, Job, Kind

MS = 1_000_000
S = 1_000 * MS
RESTORE = Kind("restore", 256)
NOW = 10 * S


def _queue(*, face_ms: float = 10.0, base_ms: float = 0.0) -> DeviceQueue:
    costs = Costs()
    for size in (256, 512):
        for faces in (1, 2) if base_ms else (1,):
            costs.learn("restore", size, faces, base_ms + face_ms * faces)
            costs.learn("guide", size, faces, base_ms + face_ms * faces)
    return DeviceQueue(costs)


def _camera(queue: DeviceQueue, priority: int = 1) -> Camera:
    camera = Camera(priority)
    queue.join(camera)
    return camera


def _job(camera: Camera, due_ms: float | None, faces: int = 1, kind: Kind = RESTORE) -> Job:
    return Job(camera, kind, faces, None if due_ms is None else NOW + round(due_ms * MS))


def _order(queue: DeviceQueue, now_ns: int = NOW) -> list[Job]:
    taken = []
    while batch := queue.take(now_ns)[0]:
        taken += [job for job, _ in batch]
        queue.done(now_ns)
    return taken


def test_priority_comes_first_then_the_earliest_deadline() -> None:
    queue = _queue()
    high, low = _camera(queue, 0), _camera(queue, 1)
    jobs = [_job(low, 60), _job(high, 100), _job(high, 90), _job(high, None), _job(low, 55)]
    for job in jobs:
        assert queue.add(job, NOW) == []
    assert _order(queue) == [jobs[2], jobs[1], jobs[3], jobs[4], jobs[0]]
    assert queue.faces == 0


def test_what_cannot_be_done_in_time_is_refused_at_once() -> None:
    queue = _queue()
    camera = _camera(queue)
    assert queue.add(first := _job(camera, 25, faces=2), NOW) == []
    late = _job(camera, 25)
    assert queue.add(late, NOW) == [late]
    assert queue.add(longer := _job(camera, 35), NOW) == []
    assert _order(queue) == [first, first, longer]


def test_what_was_admitted_is_done_as_long_as_it_can_be() -> None:
    queue = _queue()
    camera = _camera(queue)
    assert queue.add(tight := _job(camera, 11), NOW) == [tight]  # nothing may go wrong
    assert queue.add(job := _job(camera, 12), NOW) == []
    assert queue.take(NOW + 2 * MS) == ([(job, 0)], [])
    queue = _queue()
    queue.add(job := _job(_camera(queue), 12), NOW)
    assert queue.take(NOW + 3 * MS) == ([], [job])


def test_the_evaluation_under_way_counts() -> None:
    queue = _queue()
    camera = _camera(queue)
    queue.add(_job(camera, 50), NOW)
    queue.take(NOW)
    late, in_time = _job(camera, 15), _job(camera, 22)
    assert queue.add(late, NOW + MS) == [late]
    assert queue.add(in_time, NOW + MS) == []


def test_a_higher_priority_takes_the_place_of_a_lower_one_that_waits() -> None:
    queue = _queue()
    high, low = _camera(queue, 0), _camera(queue, 5)
    waiting = _job(low, 15)
    assert queue.add(waiting, NOW) == []
    assert queue.add(urgent := _job(high, 18), NOW) == [waiting]
    assert _order(queue) == [urgent]


def test_a_lower_priority_never_pushes_out_a_higher_one() -> None:
    queue = _queue()
    high, low = _camera(queue, 0), _camera(queue, 1)
    queue.add(_job(high, 12), NOW)
    late = _job(low, 11)  # the earlier deadline does not help it
    assert queue.add(late, NOW) == [late]


def test_without_a_deadline_nothing_is_refused() -> None:
    queue = _queue(face_ms=1000)
    camera = _camera(queue)
    for _ in range(5):
        assert queue.add(_job(camera, None, faces=4), NOW) == []
    assert len(_order(queue)) == 20


def test_faces_that_are_alike_share_an_evaluation_as_long_as_it_is_short() -> None:
    queue = _queue(face_ms=1, base_ms=8)
    cameras = [_camera(queue) for _ in range(20)]
    for camera in cameras:
        assert queue.add(_job(camera, 500), NOW) == []
    queue.add(_job(cameras[0], 500, kind=Kind("restore", 512)), NOW)
    queue.add(_job(cameras[0], 500, kind=Kind("restore", 256, seed=7)), NOW)
    batch, _ = queue.take(NOW)
    assert len(batch) == MOST_MS - 8 == len({id(job.camera) for job, _ in batch})
    assert {job.kind for job, _ in batch} == {RESTORE}


def test_a_dear_face_is_evaluated_alone_so_that_nobody_waits_for_two() -> None:
    queue = _queue(face_ms=13)
    camera = _camera(queue)
    queue.add(job := _job(camera, None, faces=3), NOW)
    assert [queue.take(NOW)[0] for _ in range(3)] == [[(job, 0)], [(job, 1)], [(job, 2)]]


def test_nobody_rides_along_where_that_would_make_another_late() -> None:
    queue = _queue(face_ms=5)
    camera = _camera(queue)
    first, tight = _job(camera, 20), _job(camera, 23, faces=3, kind=Kind("restore", 512))
    rider = _job(camera, 100)
    for job in (first, tight, rider):
        assert queue.add(job, NOW) == []
    assert queue.take(NOW)[0] == [(first, 0)]


def test_a_dead_camera_leaves_nothing() -> None:
    queue = _queue()
    gone, other = _camera(queue), _camera(queue)
    queue.add(_job(gone, 50), NOW)
    queue.add(kept := _job(other, 50), NOW)
    queue.leave(gone)
    assert _order(queue) == [kept]


def _run(seconds: float, cameras: int, face_ms: float, period_ms: float, **queue_of: float) -> list[Counter]:
    """Cameras of one priority, a face each, every ``period_ms``: by 5 s, what each was done and asked."""
    queue = _queue(face_ms=face_ms, **queue_of)
    known = [_camera(queue) for _ in range(cameras)]
    arrivals = sorted(
        (round((k * period_ms / cameras + n * period_ms) * MS), camera)
        for n in range(round(1e3 * seconds / period_ms))
        for k, camera in enumerate(range(cameras))
    )
    budget_ns, spans = round(2.5 * period_ms * MS), [Counter() for _ in range(round(seconds / 5))]
    under_way: list[tuple[Job, int]] = []
    free_ns = 0

    def work_until(now_ns: int) -> None:
        nonlocal under_way, free_ns
        while free_ns <= now_ns:
            for job, _ in under_way:
                assert free_ns <= job.due_ns, "admitted, and late"
                spans[min(free_ns // (5 * S), len(spans) - 1)][known.index(job.camera)] += 1
            queue.done(free_ns)
            under_way = queue.take(free_ns)[0]
            if not under_way:
                return
            free_ns += round(face_ms * MS)

    for at_ns, camera in arrivals:
        work_until(at_ns)
        free_ns = max(free_ns, at_ns)
        queue.add(Job(known[camera], RESTORE, 1, at_ns + budget_ns), at_ns)
        work_until(at_ns)
    return spans


def test_when_the_device_is_full_some_cameras_stay_whole() -> None:
    spans = _run(TERM_S - 5, cameras=8, face_ms=20, period_ms=100)  # room for 5 of 8
    for span in spans:
        whole = [camera for camera in range(8) if span[camera] >= 0.95 * 50]
        assert len(whole) >= 4
        assert sum(span.values()) >= 0.95 * 250


def test_and_over_a_few_minutes_none_is_left_out() -> None:
    spans = _run(8 * TERM_S, cameras=8, face_ms=20, period_ms=100)
    total = sum(spans, Counter())
    asked = 10 * 8 * TERM_S
    assert min(total[camera] for camera in range(8)) > 0.35 * asked
    assert sum(total.values()) > 0.95 * 5 / 8 * 8 * asked


def test_with_room_for_all_everyone_is_whole() -> None:
    spans = _run(60, cameras=5, face_ms=18, period_ms=100)
    assert all(span[camera] >= 49 for span in spans[1:] for camera in range(5))


def test_a_cost_believed_too_high_is_tried_again() -> None:
    queue = _queue(face_ms=500)
    camera = _camera(queue)
    frames = 0
    while queue.add(Job(camera, RESTORE, 1, NOW + 100 * MS), NOW):
        frames += 1
    assert 10 < frames < 100
    queue.take(NOW)
    queue.costs.learn("restore", 256, 1, 10.0)
    assert queue.costs.of("restore", 256, 1) < 30


def test_costs_are_a_line_in_the_number_of_faces() -> None:
    costs = Costs()
    assert costs.of("restore", 256, 3) == 0
    for _ in range(40):
        for faces in (1, 4, 8):
            costs.learn("restore", 256, faces, 6 + 0.5 * faces)
    assert costs.of("restore", 256, 1) == pytest.approx(6.5, rel=1e-3)
    assert costs.of("restore", 256, 16) == pytest.approx(14, rel=1e-3)
    assert costs.of("restore", 512, 1) == costs.of("guide", 256, 1) == 0
    assert costs.of("restore", 256, 0) == 0


def test_a_hiccup_is_no_cost() -> None:
    costs = Costs()
    for _ in range(20):
        costs.learn("restore", 256, 1, 10.0)
    costs.learn("restore", 256, 1, 3000.0)
    assert costs.of("restore", 256, 1) < 12
    for _ in range(60):
        costs.learn("restore", 256, 1, 40.0)  # what lasts is learned
    assert costs.of("restore", 256, 1) == pytest.approx(40, rel=0.02)
