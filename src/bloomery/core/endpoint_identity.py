"""Endpoint identity: what answers of a server's model are kept under: its name, and what the server tells of it.

A server may have other weights behind the same name tomorrow. Most tell something that changes with them in /models:
when the model was made or loaded, whose it is, where it comes from, its sizes. What is different at every look (a
clock's time, permissions) tells nothing. This module does not know what is kept.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from bloomery.core.config import canonical_json, digest
from bloomery.core.endpoint import Endpoint
from bloomery.core.errors import BloomeryError

_NOTHING = ("id", "object", "permission")
_JUST_NOW_SECONDS = 120
"""A model that was "created" so recently may be as new at every look: some servers tell the time of day."""
_MOST_CHARACTERS = 20_000


@dataclass(frozen=True)
class EndpointIdentity:
    """`text` is what answers are kept under; `fields` what the server told beside the name, "" for nothing."""

    text: str
    name: str
    fields: str = ""
    problem: str = ""
    """Why the server could not be asked."""

    def told(self) -> str:
        """A line for people."""
        if self.fields:
            return f"answers of {self.name} are kept as long as the server tells the same of it ({self.fields})"
        why = f" ({self.problem})" if self.problem else ""
        return (
            f"the server tells no more of {self.name} than its name{why}: answers are kept under it, whatever model "
            "stands behind it, until --fresh"
        )


def identity_at(endpoint: Endpoint) -> EndpointIdentity:
    """Ask once, without patience; a server that does not answer, or not sensibly, leaves the name."""
    config = endpoint.config
    try:
        asking = replace(config, max_attempts=1, connect_seconds=min(5.0, config.connect_seconds), silence_seconds=10.0)
        with Endpoint(asking) as once:
            found, _ = once.get("/models")
    except BloomeryError as error:
        return EndpointIdentity(endpoint.name, endpoint.name, problem=error.message[:120])
    listed = found.get("data")
    rows = [one for one in listed if isinstance(one, Mapping)] if isinstance(listed, list) else []
    own = next((one for one in rows if one.get("id") == config.model), {})
    told = lasting(own, time.time())
    if not told:
        return EndpointIdentity(endpoint.name, endpoint.name)
    return EndpointIdentity(f"{endpoint.name} {digest(told)[:16]}", endpoint.name, ", ".join(sorted(told)))


def lasting(row: Mapping[str, Any], now: float) -> dict[str, Any]:
    """Of a model's entry what is the same at every look; {} for an entry that is too long to be one."""
    told = {key: value for key, value in row.items() if key not in _NOTHING and value not in (None, "", [], {})}
    created = told.get("created")
    if isinstance(created, (int, float)) and abs(now - created) < _JUST_NOW_SECONDS:
        del told["created"]
    try:
        return told if len(canonical_json(told)) <= _MOST_CHARACTERS else {}
    except (TypeError, ValueError, RecursionError):
        return {}
