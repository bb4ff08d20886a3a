"""Visit: one HTTP request from outside: who asks, what it used, and what must happen when it is over.

It is over when its answer has been sent and the work behind it has ended, whichever comes later: a client that
leaves does not free its place while its tokens are still being made. This module does not know routes or keys.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection

from bloomery.core.quantity import Quantity
from bloomery.server.tenant import Tenant

log = logging.getLogger("bloomery.server")
SCOPE_KEY = "bloomery.visit"


@dataclass(kw_only=True)
class Visit:
    """Thread-safe. `tenant` is who asks; the rest is filled in on the way and never holds any content."""

    tenant: Tenant = field(default_factory=Tenant)
    route: str = ""
    model: str = ""
    status: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    energy: Quantity | None = None
    """Joules; None: no model was asked."""
    private: bool = False
    """The client asked, with `store: false`, that its content is not kept."""
    began: float = field(default_factory=time.time)
    _started: float = field(default_factory=time.perf_counter, init=False)
    _reserved: int = field(default=0, init=False)
    _place: Callable[[], None] | None = field(default=None, init=False)
    _writing: Callable[[], None] | None = field(default=None, init=False)
    _at_work: list[Callable[[], bool]] = field(default_factory=list, init=False)
    _holders: int = field(default=1, init=False)
    _endings: list[Callable[[], None]] = field(default_factory=list, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._started

    def spend(self, *, prompt: int = 0, completion: int = 0) -> None:
        """Note tokens as they are used, and take them from the tenant's allowance."""
        with self._lock:
            self.prompt_tokens += prompt
            self.completion_tokens += completion
            set_aside = min(self._reserved, prompt + completion)
            self._reserved -= set_aside
        self.tenant.allowance.spend_tokens(prompt + completion - set_aside)

    def reserve(self, *, prompt: int, new: int = 0) -> None:
        """Set aside tokens of the tenant's allowance, from which `spend` takes first; see `reserve_tokens`."""
        taken = self.tenant.allowance.reserve_tokens(prompt, new)
        with self._lock:
            self._reserved += taken

    def settle(self) -> None:
        """No more tokens will be used: what is left of those set aside is given back."""
        with self._lock:
            left, self._reserved = self._reserved, 0
        self.tenant.allowance.return_tokens(left)

    def forfeit(self) -> None:
        """What was used is not known: what was set aside is spent."""
        with self._lock:
            self._reserved = 0

    def hold_place(self, give_back: Callable[[], None]) -> None:
        """The visit has one of its tenant's places; `give_back` is called once, by `answered` or at the end."""
        self._place = give_back

    def works_while(self, working: Callable[[], bool]) -> None:
        """As long as `working()` the place stays taken."""
        self._at_work.append(working)

    @property
    def at_work(self) -> bool:
        """Whether a thread is busy for it."""
        return any(working() for working in self._at_work)

    def answered(self) -> None:
        """The answer is about to be whole: whoever reads its end may ask again at once, and the server may be killed:
        the place is free and the visit written down before. Does nothing while there is work behind it."""
        if not self.at_work:
            self._give_place_back()
            self._write_down()

    def _give_place_back(self) -> None:
        with self._lock:
            place, self._place = self._place, None
        if place is not None:
            place()

    def spend_energy(self, joules: Quantity) -> None:
        with self._lock:
            self.energy = joules if self.energy is None else self.energy + joules

    def hold(self) -> Callable[[], None]:
        """The visit goes on until what this returns is called too (once; later calls do nothing)."""
        with self._lock:
            self._holders += 1
        released = threading.Event()

        def release() -> None:
            if not released.is_set():
                released.set()
                self.end()

        return release

    def write_down(self, writing: Callable[[], None]) -> None:
        """`writing` is called once, by `answered` or at the end."""
        self._writing = writing

    def _write_down(self) -> None:
        with self._lock:
            writing, self._writing = self._writing, None
        if writing is not None:
            _carefully(writing)

    def on_end(self, ending: Callable[[], None]) -> None:
        """`ending` is called once, when the visit is over; in whichever thread ends it."""
        self._endings.append(ending)

    def end(self) -> None:
        """One holder is done; the last one ends the visit."""
        with self._lock:
            self._holders -= 1
            endings = self._endings if self._holders == 0 else []
            over = self._holders == 0
            if endings:
                self._endings = []
        if over:
            self._give_place_back()
            self.settle()
            self._write_down()
        for ending in reversed(endings):
            _carefully(ending)


def _carefully(ending: Callable[[], None]) -> None:
    try:
        ending()
    except Exception:  # whatever one does, the others must happen too
        log.exception("the end of a request failed")


def visit_of(connection: HTTPConnection) -> Visit:
    """The visit that `guard` has put on a request's scope."""
    return connection.scope[SCOPE_KEY]
