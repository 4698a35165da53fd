from __future__ import annotations

import asyncio
from itertools import pairwise
from random import Random

import pytest

from streamsr.channel import EndOfStream, LatestFrame, Lossless


async def test_latest_frame_keeps_the_newest_and_counts_the_rest() -> None:
    channel: LatestFrame[int] = LatestFrame()
    for item in range(5):
        await channel.send(item)
    assert await channel.receive() == 4
    now = channel.statistics()
    assert (now.sent, now.received, now.dropped, now.depth, now.max_depth) == (5, 1, 4, 0, 1)


async def test_latest_frame_of_two_drops_the_oldest_and_keeps_the_order() -> None:
    channel: LatestFrame[int] = LatestFrame(2)
    for item in range(5):
        await channel.send(item)
    assert [await channel.receive(), await channel.receive()] == [3, 4]
    assert channel.statistics().dropped == 3


@pytest.mark.parametrize("capacity", [1, 4])
async def test_lossless_makes_its_sender_wait(capacity: int) -> None:
    channel: Lossless[int] = Lossless(capacity)
    for item in range(capacity):
        await channel.send(item)
    late = asyncio.create_task(channel.send(capacity))
    await asyncio.sleep(0.01)
    assert not late.done()
    assert await channel.receive() == 0
    await late
    assert channel.statistics().depth == capacity


async def test_lossless_loses_nothing_and_keeps_the_order_at_any_pace() -> None:
    random = Random(3)
    channel: Lossless[int] = Lossless(4)

    async def send() -> None:
        for item in range(300):
            await channel.send(item)
            if random.random() < 0.3:
                await asyncio.sleep(random.random() * 1e-3)
        channel.close()

    sender = asyncio.create_task(send())
    received = []
    async for item in channel:
        received.append(item)
        if random.random() < 0.3:
            await asyncio.sleep(random.random() * 1e-3)
    await sender
    assert received == list(range(300))
    now = channel.statistics()
    assert (now.sent, now.received, now.dropped) == (300, 300, 0)
    assert now.max_depth <= 4


async def test_latest_frame_never_goes_back_and_its_counts_add_up() -> None:
    random = Random(4)
    channel: LatestFrame[int] = LatestFrame()

    async def send() -> None:
        for item in range(300):
            await channel.send(item)
            await asyncio.sleep(random.random() * 1e-3)
        channel.close()

    sender = asyncio.create_task(send())
    received = []
    async for item in channel:
        received.append(item)
        await asyncio.sleep(random.random() * 3e-3)
    await sender
    assert all(earlier < later for earlier, later in pairwise(received))
    assert received[-1] == 299
    now = channel.statistics()
    assert now.sent == 300 == now.received + now.dropped
    assert now.dropped > 0


@pytest.mark.parametrize("channel_type", [LatestFrame, Lossless])
async def test_close_lets_what_was_sent_through_then_ends(channel_type: type) -> None:
    channel = channel_type(1)
    await channel.send("last")
    channel.close()
    channel.close()
    assert await channel.receive() == "last"
    with pytest.raises(EndOfStream):
        await channel.receive()
    with pytest.raises(RuntimeError, match="closed"):
        await channel.send("late")
    assert channel.statistics().sent == 1


async def test_close_wakes_a_waiting_receiver_and_a_waiting_sender() -> None:
    empty: LatestFrame[int] = LatestFrame()
    receiver = asyncio.create_task(empty.receive())
    full: Lossless[int] = Lossless(1)
    await full.send(0)
    sender = asyncio.create_task(full.send(1))
    await asyncio.sleep(0)
    empty.close()
    full.close()
    with pytest.raises(EndOfStream):
        await asyncio.wait_for(receiver, 1)
    with pytest.raises(RuntimeError, match="closed"):
        await asyncio.wait_for(sender, 1)


async def test_a_cancelled_receiver_takes_nothing_with_it() -> None:
    channel: Lossless[int] = Lossless(1)
    receiver = asyncio.create_task(channel.receive())
    await asyncio.sleep(0)
    await channel.send(7)  # wakes the receiver, which is cancelled before it runs
    receiver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiver
    assert await channel.receive() == 7


def test_capacity_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        Lossless(0)
