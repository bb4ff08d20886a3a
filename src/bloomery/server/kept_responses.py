"""Responses that are kept: what a later request goes on from, and what GET and DELETE /v1/responses/{id} are told.

They are kept where the server keeps content, for the key that asked, unless the request says `store: false`. This
module does not know how.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bloomery.core.errors import RequestError
from bloomery.server.response_events import Keep
from bloomery.server.responses import ResponsesBody
from bloomery.server.store import RequestStore

_HINT = "bloomery serve --set serve.store=content"


def keeper(store: RequestStore | None, body: ResponsesBody) -> Keep | None:
    """What keeps the answer; None where it is not to be kept. RequestError for `store: true` where nothing is."""
    keeps = store is not None and store.keeps_content
    if body.store and not keeps:
        message = "store: true is not supported: this server keeps no content"
        raise RequestError(message, hint=_HINT, param="store", code="unsupported_parameter")
    return store.add_response if store is not None and keeps and body.store is not False else None


def earlier_items(store: RequestStore | None, body: ResponsesBody, tenant: str) -> Sequence[dict[str, Any]]:
    """The conversation that a body goes on from. RequestError for a response that is not kept, or another key's."""
    wanted = body.previous_response_id
    if wanted is None:
        return ()
    found = None if store is None else store.response(wanted, tenant=tenant)
    if found is None:
        raise RequestError(
            f"no response {wanted!r:.100} is kept",
            hint="" if store is not None and store.keeps_content else _HINT,
            param="previous_response_id",
            code="previous_response_not_found",
        )
    return found[1]


def kept_response(store: RequestStore | None, tenant: str, response: str) -> dict[str, Any]:
    """RequestError 404 if it is not kept, or another key's."""
    found = None if store is None else store.response(response, tenant=tenant)
    if found is None:
        raise _missing(response)
    return found[0]


def forget_response(store: RequestStore | None, tenant: str, response: str) -> dict[str, Any]:
    """OpenAI's answer to the deletion of a response. RequestError 404 as above."""
    if store is None or not store.forget_response(response, tenant=tenant):
        raise _missing(response)
    return {"id": response, "object": "response", "deleted": True}


def _missing(response: str) -> RequestError:
    return RequestError(f"no response {response!r:.100} is kept", param="response_id", code="not_found", status=404)
