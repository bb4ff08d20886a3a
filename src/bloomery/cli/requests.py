"""`bloomery requests`: what the server was asked and answered, where it keeps requests; and what people thought of it.

This module does not know how requests are kept (`server.store`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter, validators

from bloomery.cli.options import Common, print_json, shown
from bloomery.core.errors import ConfigError
from bloomery.core.quantity import Quantity

if TYPE_CHECKING:
    from bloomery.server.store import RequestStore

app = App(name="requests", help="What the server was asked, where it keeps requests.", help_format="plaintext")
_HINT = "bloomery serve --set serve.store=metadata keeps them, store=content prompts and answers too"
_PAGE = 100
Limit = Annotated[int, Parameter(help="Newest requests to list.", validator=validators.Number(gte=1, lt=2**31))]
Model = Annotated[str, Parameter(help="Of this model only.")]
Key = Annotated[str, Parameter(help="Of the key of this name only.")]
Since = Annotated[str, Parameter(help="From this day or moment on: 2026-05-31, 2026-05-31T12:00, seconds since 1970.")]
Until = Annotated[str, Parameter(help="Before this day or moment.")]
Id = Annotated[str, Parameter(help="A request's id, as in the answer.")]


@app.default
def list_requests(
    *,
    model: Model = "",
    key: Key = "",
    since: Since = "",
    until: Until = "",
    limit: Limit = 30,
    common: Common | None = None,
) -> None:
    """List requests, newest first."""
    _list(common or Common(), "", model, key, since, until, limit)


@app.command
def search(
    text: Annotated[str, Parameter(help="What stands in a prompt or an answer.")],
    *,
    model: Model = "",
    key: Key = "",
    since: Since = "",
    until: Until = "",
    limit: Limit = 30,
    common: Common | None = None,
) -> None:
    """List requests whose prompt or answer holds a text; only where content is kept."""
    if not text:
        raise ConfigError("there is no text to search for", hint="bloomery requests lists all")
    _list(common or Common(), text, model, key, since, until, limit)


@app.command
def show(request: Id, *, common: Common | None = None) -> None:
    """One request in full, with its prompts and answers, where they are kept, and its feedback."""
    common = common or Common()
    with _opened(common) as store:
        found = store.get(request)
    if common.json:
        print_json(found)
        return
    for name, value in found.items():
        if name in ("prompts", "answers"):
            for one in value or [{"text": "not kept"}]:
                print(f"--- {name[:-1]}\n{shown(one['text'])}")
        elif name == "feedback":
            for one in value:
                comment = shown(one["comment"])
                print(f"--- feedback of {one['tenant'] or 'nobody'}: {one['score']:+g} {comment}".rstrip())
        elif name == "time":
            print(f"{name:20} {_when(value)}")
        else:
            print(f"{name:20} {Quantity.from_dict(value).text('J') if name == 'energy_joules' else value}")


@app.command
def feedback(
    request: Id,
    *,
    score: Annotated[float, Parameter(help="From -1 (bad) to 1 (good).", validator=validators.Number(gte=-1, lte=1))],
    comment: Annotated[str, Parameter(help="Why.")] = "",
    common: Common | None = None,
) -> None:
    """Say what an answer is worth."""
    common = common or Common()
    with _opened(common) as store:
        store.add_feedback(request, score=score, comment=comment, by="cli")
        found = store.get(request)
    if common.json:
        print_json(found["feedback"])
    else:
        print(f"{found['id']}: {found['num_feedback']} judgements, mean {found['mean_score']:+.2f}")


@app.command
def export(
    *,
    text: Annotated[str, Parameter(help="Only what holds this text.")] = "",
    model: Model = "",
    key: Key = "",
    since: Since = "",
    until: Until = "",
    judged: Annotated[bool, Parameter(negative=(), help="Only what has feedback.")] = False,
    common: Common | None = None,
) -> None:
    """Write requests in full to stdout, newest first, one JSON object a line."""
    with _opened(common or Common()) as store:
        for row in _all(store, text, model, key, since, until):
            if not judged or row["num_feedback"]:
                print_json(store.get(row["id"]))


def _list(common: Common, text: str, model: str, key: str, since: str, until: str, limit: int) -> None:
    with _opened(common) as store:
        rows = list(islice(_all(store, text, model, key, since, until), limit))
    if common.json:
        print_json(rows)
        return
    if not rows:
        print("no such request is kept")
    for row in rows:
        judged = "" if row["mean_score"] is None else f"  {row['mean_score']:+.2f}"
        tokens = f"{row['prompt_tokens']:6} + {row['completion_tokens']:5} tokens"
        which = f"{row['id']}  {row['model']}  {row['tenant']}{judged}"
        print(f"{_when(row['time'])}  {row['status']}  {tokens}  {row['seconds']:7.2f} s  {which}")


def _all(store: RequestStore, text: str, model: str, key: str, since: str, until: str) -> Iterator[dict[str, Any]]:
    """Page by page."""
    wanted: dict[str, Any] = {"text": text, "model": model, "tenant": key or None}
    wanted |= {"since": _moment(since), "until": _moment(until)}
    after = ""
    while page := store.find(**wanted, after=after, limit=_PAGE):
        yield from page
        after = page[-1]["id"]


@contextmanager
def _opened(common: Common) -> Iterator[RequestStore]:
    from bloomery.server.store import FILE, RequestStore

    root = common.workspace().root
    if not (root / FILE).is_file():
        raise ConfigError(f"no requests are kept in {root}", hint=_HINT)
    store = RequestStore(root / FILE)
    try:
        yield store
    finally:
        store.close()


def _moment(text: str) -> float | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise ConfigError(f"{text!r:.80} is no day or moment", hint="2026-05-31, or 2026-05-31T12:00") from None


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
