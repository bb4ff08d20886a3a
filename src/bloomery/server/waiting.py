"""WaitingRoom: how many requests run, how many may wait, and the bridge from their threads to the event loop.

Generation is blocking work in a worker thread; its deltas come out as an asynchronous iterator. A client that
leaves sets the job's `cancel` event, and the work stops at its next step. This module does not know what is
generated.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from bloomery.core.errors import RequestError

T = TypeVar("T")


class WaitingRoom:
    """Bounded: `max_running` at once, `max_waiting` behind them in the order of arrival."""

    def __init__(self, *, max_running: int, max_waiting: int) -> None:
        self._max_running = max_running
        self._max_present = max_running + max_waiting
        self._places = asyncio.Semaphore(max_running)
        self._threads = ThreadPoolExecutor(max_workers=max_running, thread_name_prefix="generate")
        self._jobs: set[Job] = set()
        self.running = 0

    @property
    def waiting(self) -> int:
        return len(self._jobs) - self.running

    def enter(self) -> Job:
        """A place for one request, to be left with `leave()`. RequestError 429 when there is none."""
        if len(self._jobs) >= self._max_present:
            raise RequestError(
                f"{len(self._jobs)} requests run or wait already",
                hint="try again in a moment",
                code="server_busy",
                status=429,
            )
        job = Job(self)
        self._jobs.add(job)
        return job

    def forget(self, job: Job) -> None:
        self._jobs.discard(job)

    async def stream(self, job: Job, make: Callable[[], Iterator[T]]) -> AsyncGenerator[T, None]:
        """Wait for the job's turn, then what `make()` yields, made in a worker thread.

        Closing this iterator early sets `cancel`; an exception of the thread is raised here.
        """
        async with self._places:
            job.queue_seconds = time.perf_counter() - job.entered
            self.running += 1
            try:
                async with contextlib.aclosing(self._from_thread(job, make)) as items:
                    async for item in items:
                        yield item
            finally:
                self.running -= 1

    async def _from_thread(self, job: Job, make: Callable[[], Iterator[T]]) -> AsyncGenerator[T, None]:
        loop = asyncio.get_running_loop()
        items: asyncio.Queue[T | _End] = asyncio.Queue()

        def put(item: T | _End) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the server is gone, nobody listens
                loop.call_soon_threadsafe(items.put_nowait, item)

        def work() -> None:
            try:
                for item in make():
                    put(item)
            except BaseException as error:
                put(_End(error))
            else:
                put(_End(None))
            finally:
                job.release()

        job.hold()
        future = self._threads.submit(work)
        future.add_done_callback(lambda f: job.release() if f.cancelled() else None)
        try:
            while not isinstance(item := await items.get(), _End):
                yield item
        except BaseException:
            job.cancel.set()
            raise
        if item.error is not None:
            raise item.error

    def close(self) -> None:
        """Cancel every job; their threads end at the next step."""
        for job in list(self._jobs):
            job.cancel.set()
        self._threads.shutdown(wait=False, cancel_futures=True)


class Job:
    """One request's place in the waiting room. `queue_seconds` is known once it runs."""

    def __init__(self, room: WaitingRoom) -> None:
        self.cancel = threading.Event()
        self.entered = time.perf_counter()
        self.queue_seconds = 0.0
        self._room = room
        self._left = False
        self._holders = 1
        self._endings: list[Callable[[], None]] = []
        self._lock = threading.Lock()

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
