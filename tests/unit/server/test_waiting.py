"""WaitingRoom: bounded, in order, cancelled when nobody listens; threads' errors come out."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from bloomery.core.errors import RequestError
from bloomery.server.waiting import WaitingRoom


def test_items_come_in_order_and_errors_come_out():
    def make():
        yield from (1, 2, 3)
        raise KeyError("inside")

    async def main() -> list[int]:
        room = WaitingRoom(max_running=1, max_waiting=0)
        stream = room.stream(room.enter(), make)
        items = [await anext(stream) for _ in range(3)]
        with pytest.raises(KeyError):
            await anext(stream)
        assert room.running == 0
        room.close()
        return items

    assert asyncio.run(main()) == [1, 2, 3]


def test_the_room_is_bounded_and_places_come_back():
    async def main() -> None:
        room = WaitingRoom(max_running=2, max_waiting=1)
        jobs = [room.enter() for _ in range(3)]
        with pytest.raises(RequestError) as caught:
            room.enter()
        assert (caught.value.status, caught.value.code) == (429, "server_busy")
        assert room.waiting == 3
        jobs[0].leave()
        jobs[0].leave()
        with pytest.raises(ZeroDivisionError), room.enter().leaving_on_error():
            raise ZeroDivisionError
        assert room.waiting == 2
        room.close()

    asyncio.run(main())


def test_first_come_first_served_and_the_wait_is_measured():
    order: list[int] = []

    async def one(room: WaitingRoom, number: int) -> float:
        def make():
            order.append(number)
            time.sleep(0.02)
            yield number

        job = room.enter()
        async for _ in room.stream(job, make):
            assert room.running == 1
        job.leave()
        return job.queue_seconds

    async def main() -> list[float]:
        room = WaitingRoom(max_running=1, max_waiting=9)
        waits = await asyncio.gather(*(one(room, number) for number in range(4)))
        room.close()
        return waits

    waits = asyncio.run(main())
    assert order == [0, 1, 2, 3]
    assert waits[3] > waits[1] > 0.01


def test_closing_early_sets_cancel_and_the_thread_ends():
    ended = threading.Event()

    async def main() -> None:
        room = WaitingRoom(max_running=1, max_waiting=0)
        job = room.enter()

        def make():
            while not job.cancel.wait(0.005):
                yield 0
            ended.set()

        stream = room.stream(job, make)
        assert await anext(stream) == 0
        await stream.aclose()
        assert job.cancel.is_set()
        assert await asyncio.to_thread(ended.wait, 5)
        room.close()

    asyncio.run(main())
