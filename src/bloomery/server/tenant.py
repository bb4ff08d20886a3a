"""Tenant: who asks, what they may do, and how much.

A tenant is the name of an API key. This module does not know secrets (see `keys`) or HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bloomery.core.errors import RequestError
from bloomery.server.allowance import Allowance

INSPECT, ADMIN = "inspect", "admin"
RIGHTS = (INSPECT, ADMIN)
ANONYMOUS = "anonymous"


@dataclass(frozen=True, kw_only=True)
class Tenant:
    """`name` parts the caches of tenants and stands in the ledger and the audit log. Without any key, whoever reaches
    the server is "anonymous", who may look inside but not load or unload models."""

    name: str = ANONYMOUS
    rights: frozenset[str] = frozenset({INSPECT})
    allowance: Allowance = field(default_factory=Allowance, compare=False)

    def require(self, right: str) -> None:
        """RequestError 403 without the right."""
        if right not in self.rights:
            raise RequestError(
                f"this needs a key with the right {right!r}",
                hint="a key is made with `bloomery keys`",
                code="permission_denied",
                status=403,
            )
