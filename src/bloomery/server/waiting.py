"""WaitingRoom: how many requests run, how many may wait, and the bridge from their threads to the event loop.

Generation is blocking work in a worker thread; its deltas come out as an asynchronous iterator. A client that
leaves sets the job's `cancel` event, and the work stops at its next step. Turns go to the tenants one after the other,
so that nobody's many requests keep another's few waiting. This module does not know what is generated.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import threading
import time
from asyncio import Future
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

from bloomery.core.errors import RequestError

T = TypeVar("T")
CANCELLED_STATUS = 499


class DeadlinePassed(RequestError):
    """504: the request's time was over before there was anything to tell. Trying again would end the same way."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"nothing was written within {seconds:g} seconds",
            hint="give it more: timeout_seconds",
            param="timeout_seconds",
            code="deadline_exceeded",
            status=504,
        )


class ShuttingDown(RequestError):
    """503: the server ends before the request does."""

    def __init__(self) -> None:
        super().__init__("the server is shutting down", code="shutting_down", status=503)


class Line:
    """Who waits for a turn: tenants one after the other; of one tenant's the most urgent, then the first that came."""

    def __init__(self) -> None:
        self._tenants: dict[str, list[tuple[int, int, Future[None]]]] = {}
        self._arrivals = itertools.count()

    def __len__(self) -> int:
        return sum(map(len, self._tenants.values()))

    def add(self, tenant: str, priority: int, turn: Future[None]) -> None:
        heapq.heappush(self._tenants.setdefault(tenant, []), (priority, next(self._arrivals), turn))

    def pop(self) -> Future[None]:
        """Whose turn it is; the tenant goes to the end. KeyError for nobody."""
        if not self._tenants:
            raise KeyError("nobody waits")
        tenant = next(iter(self._tenants))
        waiting = self._tenants.pop(tenant)
        turn = heapq.heappop(waiting)[2]
        if waiting:
            self._tenants[tenant] = waiting
        return turn

    def drop(self, tenant: str, turn: Future[None]) -> None:
        """It waits no longer."""
        left = [entry for entry in self._tenants.get(tenant, ()) if entry[2] is not turn]
        if left:
            heapq.heapify(left)
            self._tenants[tenant] = left
        else:
            self._tenants.pop(tenant, None)


class WaitingRoom:
    """Bounded: `max_running` at once and `max_waiting` behind them, of one tenant at most `max_waiting_of_one`."""

    def __init__(self, *, max_running: int, max_waiting: int, max_waiting_of_one: int | None = None) -> None:
        self._max_running = max_running
        self._max_present = max_running + max_waiting
        of_one = max_waiting if max_waiting_of_one is None else min(max_waiting, max_waiting_of_one)
        self._max_of_one = max_running + of_one
        self._line = Line()
        self._threads = ThreadPoolExecutor(max_workers=max_running, thread_name_prefix="generate")
        self._jobs: set[Job] = set()
        self._closed = False
        self._of_tenant: Counter[str] = Counter()
        self.running = 0

    @property
    def waiting(self) -> int:
        return len(self._jobs) - self.running

    def enter(self, *, tenant: str = "", priority: int = 0, seconds: float | None = None) -> Job:
        """A place for one request, to be left with `leave()`. Smaller `priority` is sooner, among those of the same
        tenant; `seconds` is how long it may take from now. RequestError 429 when there is no place."""
        busy = ""
        if len(self._jobs) >= self._max_present:
            busy = f"{len(self._jobs)} requests run or wait already"
        elif self._of_tenant[tenant] >= self._max_of_one:
            busy = f"{self._of_tenant[tenant]} requests of this key run or wait already"
        if busy:
            raise RequestError(busy, hint="try again in a moment", code="server_busy", status=429)
        job = Job(self, tenant=tenant, priority=priority, seconds=seconds)
        self._jobs.add(job)
        self._of_tenant[tenant] += 1
        return job

    def forget(self, job: Job) -> None:
        if job in self._jobs:
            self._jobs.discard(job)
            self._of_tenant[job.tenant] -= 1
            if not self._of_tenant[job.tenant]:
                del self._of_tenant[job.tenant]

    async def stream(self, job: Job, make: Callable[[], Iterator[T]]) -> AsyncGenerator[T, None]:
        """Wait for the job's turn, then what `make()` yields, made in a worker thread.

        Closing this iterator early sets `cancel`; an exception of the thread is raised here. DeadlinePassed if the
        job's time is over before its turn comes, ShuttingDown if the room is closed before.
        """
        async with self.turn(job), contextlib.aclosing(self._from_thread(job, make)) as items:
            async for item in items:
                yield item

    @asynccontextmanager
    async def turn(self, job: Job) -> AsyncGenerator[None, None]:
        """Inside, the job has its turn. DeadlinePassed as above."""
        await self._turn(job)
        job.queue_seconds = time.perf_counter() - job.entered
        try:
            yield
        finally:
            self._end_turn()

    async def _turn(self, job: Job) -> None:
        """Wait for it; `running` counts it from then on."""
        if self._closed:
            raise ShuttingDown
        if self.running < self._max_running and not len(self._line):
            self.running += 1
            return
        turn: Future[None] = asyncio.get_running_loop().create_future()
        self._line.add(job.tenant, job.priority, turn)
        try:
            async with asyncio.timeout(job.seconds_left):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._end_turn()  # it came, and at the same moment was not wanted any more
            else:
                self._line.drop(job.tenant, turn)
            if isinstance(error, TimeoutError):
                job.ended = True
                raise DeadlinePassed(job.seconds or 0.0) from None
            raise

    def _end_turn(self) -> None:
        self.running -= 1
        while self.running < self._max_running and len(self._line):
            turn = self._line.pop()
            if not turn.done():
                self.running += 1
                turn.set_result(None)

    async def _from_thread(self, job: Job, make: Callable[[], Iterator[T]]) -> AsyncGenerator[T, None]:
        if self._closed:
            raise ShuttingDown
        loop = asyncio.get_running_loop()
        items: asyncio.Queue[T | _End] = asyncio.Queue()

        def put(item: T | _End) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the server is gone, nobody listens
                loop.call_soon_threadsafe(items.put_nowait, item)

        def work() -> None:
            ended: _End | None = None
            try:
                for item in make():
                    put(item)
                ended = _End(None)
            except BaseException as error:
                ended = _End(error)
            finally:
                job.working = False  # before its end is told: who is told it may count on it
                put(ended or _End(None))
                job.release()

        def drop(future: Any) -> None:
            if future.cancelled():  # the room was closed before a thread was free
                put(_End(ShuttingDown()))
                job.dropped()

        job.hold()
        job.working = True
        self._threads.submit(work).add_done_callback(drop)
        try:
            while not isinstance(item := await items.get(), _End):
                yield item
        except BaseException:
            job.cancel.set()
            raise
        job.ended = True
        if item.error is not None:
            raise item.error

    def close(self) -> None:
        """Cancel every job; their threads end at the next step. Who waits still is told so at once."""
        self._closed = True
        for job in list(self._jobs):
            job.cut_off = True
            job.cancel.set()
        while len(self._line):
            turn = self._line.pop()
            if not turn.done():
                turn.set_exception(ShuttingDown())
        self._threads.shutdown(wait=False, cancel_futures=True)


class Job:
    """One request's place in the waiting room. `queue_seconds` is known once it runs; `working` says whether a thread
    works on it."""

    def __init__(self, room: WaitingRoom, *, tenant: str = "", priority: int = 0, seconds: float | None = None) -> None:
        self.cancel = threading.Event()
        self.tenant = tenant
        self.priority = priority
        self.seconds = seconds
        self.working = False
        self.ended = False
        """What was to be told of it came to its end."""
        self.cut_off = False
        """The server has ended it."""
        self.entered = time.perf_counter()
        self.queue_seconds = 0.0
        self._room = room
        self._left = False
        self._holders = 1
        self._endings: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    @property
    def cut_status(self) -> int:
        """The status of a request that was cancelled: 499 where the client left, 503 where the server ended."""
        return 503 if self.cut_off else CANCELLED_STATUS

    @property
    def deadline(self) -> float | None:
        """When, in `time.perf_counter()`'s seconds, its time is over."""
        return None if self.seconds is None else self.entered + self.seconds

    @property
    def seconds_left(self) -> float | None:
        """None: as long as it takes."""
        return None if self.deadline is None else max(0.0, self.deadline - time.perf_counter())

    def leave(self) -> None:
        """Give the place back; may be called twice."""
        self.cancel.set()
        self._room.forget(self)
        with self._lock:
            left, self._left = self._left, True
        if not left:
            self.release()

    def on_end(self, ending: Callable[[], None]) -> None:
        """`ending` is called once, when the place was given back and the job's thread is done with it."""
        self._endings.append(ending)

    def hold(self) -> None:
        """One more works on the job."""
        with self._lock:
            self._holders += 1

    def dropped(self) -> None:
        """The thread that was to work on it never began."""
        self.working = False
        self.release()

    def release(self) -> None:
        with self._lock:
            self._holders -= 1
            endings = self._endings if self._holders == 0 else []
        for ending in endings:
            ending()

    @contextmanager
    def leaving_on_error(self) -> Iterator[None]:
        """Inside, an exception gives the place back; else whoever answers does."""
        try:
            yield
        except BaseException:
            self.leave()
            raise


class _End:
    def __init__(self, error: BaseException | None) -> None:
        self.error = error
