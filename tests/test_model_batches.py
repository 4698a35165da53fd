"""Calls of several threads on one: what is joined, what is not, and whose error is whose."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from helpers import wait_until

from streamsr.model.batches import Batches


@contextmanager
def _held(batches: Batches) -> Iterator[Callable[..., Future[list[int]]]]:
    """Calls made inside wait for the thread together; they are queued in their order."""
    free, held = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        free.wait(10)

    with ThreadPoolExecutor(20) as callers:
        callers.submit(batches.alone, hold)
        assert held.wait(10)
        count = 0

        def ask(*arguments: object) -> Future[list[int]]:
            nonlocal count
            count += 1
            future = callers.submit(batches.evaluate, *arguments)  # type: ignore[arg-type]
            wait_until(lambda: len(batches._waiting) == count, 10)
            return future

        yield ask
        free.set()


def _doubling(seen: list[list[int]]) -> Callable[[list[int]], Sequence[int]]:
    def run(faces: list[int]) -> list[int]:
        seen.append(faces)
        return [2 * face for face in faces]

    return run


def test_calls_of_a_kind_that_wait_are_one_batch_up_to_the_most() -> None:
    batches, seen = Batches(most=4), list[list[int]]()
    run = _doubling(seen)
    with _held(batches) as ask:
        asked = [ask("a", [1, 2], run), ask("b", [3], run), ask("a", [4], run), ask("a", [5, 6], run)]
        asked += [ask("a", [7], run), ask("b", [8], run)]
    assert [each.result() for each in asked] == [[2, 4], [6], [8], [10, 12], [14], [16]]
    assert seen == [[1, 2, 4, 7], [3, 8], [5, 6]]
    batches.close()


def test_where_it_saves_nothing_each_call_runs_alone_and_whole() -> None:
    batches, seen = Batches(), list[list[int]]()
    with _held(batches) as ask:
        asked = [ask("a", [k, k + 1, k + 2], _doubling(seen)) for k in (0, 10)]
    assert [each.result() for each in asked] == [[0, 2, 4], [20, 22, 24]]
    assert seen == [[0, 1, 2], [10, 11, 12]]
    batches.close()


def test_nobody_gets_an_error_of_another() -> None:
    batches = Batches(most=8)

    def run(faces: list[int]) -> list[int]:
        if 3 in faces:
            raise ValueError("three")
        return [2 * face for face in faces]

    with _held(batches) as ask:
        asked = [ask("a", [k], run) for k in (1, 3, 5)]
    assert asked[0].result() == [2] and asked[2].result() == [10]
    with pytest.raises(ValueError, match="three"):
        asked[1].result()
    assert batches.evaluate("a", [4], run) == [8]  # and the thread goes on
    batches.close()


def test_after_close_there_is_no_thread_and_no_call_waits_for_ever() -> None:
    batches = Batches(most=8)
    batches.close()
    batches.close()
    with pytest.raises(RuntimeError, match="shutdown"):
        batches.evaluate("a", [1], list)
