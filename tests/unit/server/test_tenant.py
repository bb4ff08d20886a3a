"""Tenant: rights are asked for by name."""

from __future__ import annotations

import pytest

from bloomery.core.errors import RequestError
from bloomery.server.tenant import ADMIN, INSPECT, Tenant


def test_anonymous_may_look_and_not_load():
    Tenant().require(INSPECT)
    with pytest.raises(RequestError, match="admin") as caught:
        Tenant().require(ADMIN)
    assert (caught.value.status, caught.value.code) == (403, "permission_denied")
    Tenant(name="boss", rights=frozenset({ADMIN})).require(ADMIN)
