"""WaitingRoom: bounded, in order, cancelled when nobody listens; threads' errors come out."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from bloomery.core.errors import RequestError
from bloomery.server.waiting import DeadlinePassed, ShuttingDown, WaitingRoom


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


def order_of(*arrivals: tuple[str, int]) -> list[tuple[str, int]]:
    """(tenant, priority) of one after the other, all of whom wait for the one place while another has it."""
    order: list[tuple[str, int]] = []

    async def one(room: WaitingRoom, tenant: str, priority: int) -> None:
        def make():
            order.append((tenant, priority))
            yield 0

        job = room.enter(tenant=tenant, priority=priority)
        async for _ in room.stream(job, make):
            pass
        job.leave()

    async def main() -> None:
        room = WaitingRoom(max_running=1, max_waiting=99)
        first = room.stream(room.enter(), lambda: iter([1, 2]))
        await anext(first)
        waiting = [asyncio.create_task(one(room, *arrival)) for arrival in arrivals]
        await asyncio.sleep(0)
        await first.aclose()
        await asyncio.gather(*waiting)
        assert room.running == 0
        room.close()

    asyncio.run(main())
    return order


def test_tenants_take_turns_and_then_priority_and_then_arrival_count():
    many = [("many", 5), ("many", 0), ("many", 5), ("many", 0)]
    assert order_of(*many, ("few", 9), ("few", 1)) == [
        ("many", 0), ("few", 1), ("many", 0), ("few", 9), ("many", 5), ("many", 5),
    ]  # fmt: skip


def test_nobody_fills_the_room_for_others():
    async def main() -> None:
        room = WaitingRoom(max_running=1, max_waiting=10, max_waiting_of_one=2)
        jobs = [room.enter(tenant="many") for _ in range(3)]
        with pytest.raises(RequestError) as caught:
            room.enter(tenant="many")
        assert caught.value.status == 429 and "of this key" in caught.value.message
        room.enter(tenant="few")
        jobs[0].leave()
        room.enter(tenant="many")
        room.close()

    asyncio.run(main())


def test_a_turn_that_does_not_come_in_time_and_one_that_is_not_wanted_any_more():
    async def main() -> None:
        room = WaitingRoom(max_running=1, max_waiting=9)
        first = room.stream(room.enter(), lambda: iter([1, 2]))
        await anext(first)
        late = room.enter(seconds=0.02)
        with pytest.raises(DeadlinePassed) as caught:
            await anext(room.stream(late, lambda: iter([1])))
        assert (caught.value.status, caught.value.code) == (504, "deadline_exceeded")
        gone = asyncio.create_task(anext(room.stream(room.enter(), lambda: iter([1]))))
        await asyncio.sleep(0.01)
        gone.cancel()
        after = asyncio.create_task(anext(room.stream(room.enter(), lambda: iter([7]))))
        await asyncio.sleep(0.01)
        await first.aclose()
        assert await after == 7
        room.close()

    asyncio.run(main())


def test_a_turn_that_comes_in_the_moment_of_leaving_goes_to_the_next():
    async def main() -> None:
        room = WaitingRoom(max_running=1, max_waiting=9)
        first = room.stream(room.enter(), lambda: iter([1, 2]))
        await anext(first)
        leaving = asyncio.create_task(anext(room.stream(room.enter(), lambda: iter([1]))))
        staying = asyncio.create_task(anext(room.stream(room.enter(), lambda: iter([7]))))
        await asyncio.sleep(0.01)
        await first.aclose()  # the turn is given to `leaving`, which has not run since
        leaving.cancel()
        assert await asyncio.wait_for(staying, 5) == 7
        room.close()

    asyncio.run(main())


def test_when_the_room_is_closed_who_waits_is_told_at_once_and_who_runs_ends():
    """Who waits for a turn, who has just been given one, who has one and no thread yet, and who comes later."""

    async def main() -> None:
        room = WaitingRoom(max_running=2, max_waiting=9)
        gate, ended = threading.Event(), threading.Event()
        jobs = [room.enter() for _ in range(6)]

        def work():
            yield 1
            gate.wait(10)
            assert jobs[0].cancel.is_set() and jobs[0].cut_off
            ended.set()

        running = room.stream(jobs[0], work)
        await anext(running)
        room._threads.submit(gate.wait, 10)  # no thread is free for the next, which has a turn
        without = asyncio.create_task(anext(room.stream(jobs[1], lambda: iter([2]))))
        waiting = [asyncio.create_task(anext(room.stream(job, lambda: iter([3])))) for job in jobs[2:5]]
        await asyncio.sleep(0.01)
        assert (room.running, room.waiting) == (2, 4)
        await running.aclose()  # its turn is given to the first who waits, who has not run since
        room.close()
        for task in (without, *waiting, asyncio.create_task(anext(room.stream(jobs[5], lambda: iter([4]))))):
            with pytest.raises(ShuttingDown) as caught:
                await asyncio.wait_for(task, 5)
            assert (caught.value.status, caught.value.code) == (503, "shutting_down")
        gate.set()
        assert await asyncio.to_thread(ended.wait, 5)
        for job in jobs:
            job.leave()
        assert room.running == room.waiting == 0

    asyncio.run(main())
