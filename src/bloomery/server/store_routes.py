"""The routes of the request store, for keys with the right: "inspect" sees its own tenant's requests, "admin" all.

    GET  /v1/requests                  ?text= &model= &since= &until= &after= &limit=
    GET  /v1/requests/{id}             with prompts and answers, where they are kept
    POST /v1/requests/{id}/feedback    {"score": -1 to 1, "comment": "..."}

This module does not know how requests are kept.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from bloomery.core.errors import RequestError
from bloomery.server.schemas import Real, Text
from bloomery.server.store import RequestStore
from bloomery.server.tenant import ADMIN, INSPECT, Tenant

ROUTE = "/v1/requests"
ONE = ROUTE + "/{request}"
FEEDBACK = ONE + "/feedback"
_MAX_COMMENT = 10_000


class RequestsQuery(BaseModel):
    """What is looked for; times are seconds since 1970."""

    model_config = ConfigDict(extra="forbid")

    text: Annotated[str, Field(max_length=500)] = ""
    model: Annotated[str, Field(max_length=500)] = ""
    since: Annotated[float | None, Field(allow_inf_nan=False)] = None
    until: Annotated[float | None, Field(allow_inf_nan=False)] = None
    after: Annotated[str, Field(max_length=100)] = ""
    limit: Annotated[int, Field(ge=1, le=100)] = 20


Asked = Annotated[RequestsQuery, Query()]


class FeedbackBody(BaseModel):
    """From -1 (bad) to 1 (good), and why."""

    model_config = ConfigDict(extra="forbid")

    score: Annotated[Real, Field(ge=-1, le=1)]
    comment: Annotated[Text, Field(max_length=_MAX_COMMENT)] = ""


def list_requests(store: RequestStore | None, tenant: Tenant, asked: RequestsQuery) -> dict[str, Any]:
    """A page, newest first, in OpenAI's form of a list."""
    found = _open(store).find(tenant=_whose(tenant), **asked.model_dump(exclude={"limit"}), limit=asked.limit + 1)
    page = found[: asked.limit]
    return {
        "object": "list",
        "data": [{"object": "request", **row} for row in page],
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(found) > asked.limit,
    }


def one_request(store: RequestStore | None, tenant: Tenant, request: str) -> dict[str, Any]:
    return {"object": "request", **_open(store).get(request, tenant=_whose(tenant))}


def add_feedback(store: RequestStore | None, tenant: Tenant, request: str, body: FeedbackBody) -> dict[str, Any]:
    """Note it, and tell the request as it stands now."""
    whose, kept = _whose(tenant), _open(store)
    kept.add_feedback(request, score=body.score, comment=body.comment, by=tenant.name, tenant=whose)
    return one_request(store, tenant, request)


def _whose(tenant: Tenant) -> str | None:
    """Whose requests a tenant sees; None: everybody's. RequestError 403 for nobody's."""
    if ADMIN in tenant.rights:
        return None
    tenant.require(INSPECT)
    return tenant.name


def _open(store: RequestStore | None) -> RequestStore:
    if store is None:
        hint = "bloomery serve --set serve.store=metadata"
        raise RequestError("this server keeps no requests", hint=hint, code="store_off", status=404)
    return store
