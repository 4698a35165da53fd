from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
import weakref

import pytest
from helpers import nothing_left, owned_threads

from streamsr.machine import give_way
from streamsr.worker import Worker, join


async def test_calls_run_in_order_on_one_thread_of_its_own() -> None:
    with nothing_left():
        worker = Worker("one")
        seen: list[tuple[int, str]] = []
        calls = [
            worker.call(lambda number: seen.append((number, threading.current_thread().name)), number)
            for number in range(20)
        ]
        await asyncio.gather(*calls)
        assert seen == [(number, "streamsr-one") for number in range(20)]
        await worker.close()


async def test_results_keywords_and_errors_come_back() -> None:
    worker = Worker("two")
    assert await worker.call(int, "ff", base=16) == 255
    with pytest.raises(ValueError, match="invalid literal"):
        await worker.call(int, "no number")
    assert await worker.call(max, 1, 2) == 2  # an error does not end the thread
    await worker.close()


async def test_stop_iteration_is_an_error_not_a_hang() -> None:
    worker = Worker("three")
    with pytest.raises(RuntimeError, match="StopIteration"):
        await asyncio.wait_for(worker.call(next, iter(())), 2)
    await worker.close()


async def test_the_loop_goes_on_meanwhile() -> None:
    worker = Worker("four")
    call = asyncio.create_task(worker.call(time.sleep, 0.2))
    ticks = 0
    while not call.done():
        await asyncio.sleep(0.01)
        ticks += 1
    assert ticks >= 5
    await worker.close()


async def test_a_cancelled_caller_leaves_at_once_and_its_queued_call_never_runs() -> None:
    worker = Worker("five")
    gate, ran = threading.Event(), []
    running = asyncio.create_task(worker.call(gate.wait))
    queued = asyncio.create_task(worker.call(ran.append, "queued"))
    await asyncio.sleep(0.01)
    for task in (running, queued):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 1)
    gate.set()
    assert await worker.call(lambda: list(ran)) == []
    await worker.close()


async def test_finish_runs_what_is_queued_then_the_last_call_then_ends() -> None:
    with nothing_left():
        worker = Worker("six")
        order: list[str] = []
        call = asyncio.create_task(worker.call(lambda: (time.sleep(0.02), order.append("queued"))))
        await asyncio.sleep(0)
        worker.finish(lambda: order.append("last"))
        worker.finish(lambda: order.append("ignored"))
        with pytest.raises(RuntimeError, match="no more calls"):
            await worker.call(order.append, "late")
        await worker.end()
        await call
        assert order == ["queued", "last"]
        assert worker.ended and worker.last_error is None
        await worker.close()


async def test_an_error_in_the_last_call_is_kept() -> None:
    worker = Worker("seven")
    worker.finish(lambda: 1 / 0)
    await worker.end()
    assert isinstance(worker.last_error, ZeroDivisionError)


async def test_join_waits_through_cancellations_then_raises_them() -> None:
    worker, gate = Worker("eight"), threading.Event()
    worker.finish(gate.wait)
    joining = asyncio.create_task(join([worker], grace_s=5))
    for _ in range(3):
        await asyncio.sleep(0.01)
        joining.cancel()
    assert not joining.done() and owned_threads() == {"streamsr-eight"}
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await joining
    assert worker.ended and owned_threads() == set()


async def test_join_pokes_and_gives_up_on_a_stuck_thread() -> None:
    stuck, quick = Worker("stuck"), Worker("quick")
    gate, pokes = threading.Event(), []
    stuck.finish(gate.wait)
    quick.finish()
    began = time.monotonic()
    assert await join([stuck, quick], grace_s=0.2, poke=lambda: pokes.append(1)) == (stuck,)
    assert 0.2 <= time.monotonic() - began < 2
    assert len(pokes) >= 2
    gate.set()
    await stuck.end()


async def test_an_idle_thread_keeps_no_picture_alive() -> None:
    class Picture:
        pass

    worker = Worker("nine")
    picture = Picture()
    alive = weakref.ref(picture)
    await worker.call(lambda given: given, picture)
    del picture
    until = time.monotonic() + 2
    while alive() is not None and time.monotonic() < until:
        gc.collect()
        await asyncio.sleep(0.01)
    assert alive() is None
    await worker.close()


def test_a_thread_gives_way_and_so_do_those_that_it_starts() -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    found: list[int] = []

    def aside() -> None:
        give_way()
        give_way()
        found.append(niceness())
        child = threading.Thread(target=lambda: found.append(niceness()))
        child.start()
        child.join()

    before = niceness()
    thread = threading.Thread(target=aside)
    thread.start()
    thread.join()
    assert found == [max(10, before)] * 2 and niceness() == before
