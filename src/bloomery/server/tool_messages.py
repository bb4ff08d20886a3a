"""Messages of a conversation in which tools were called, from OpenAI's form to that of chat templates.

OpenAI writes a call's arguments as the text of JSON; templates want the JSON itself. This module does not know
templates.
"""

from __future__ import annotations

import json
import secrets
import string
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from bloomery.core.errors import RequestError
from bloomery.engine.constraint_spec import MAX_TOOLS

_ALPHABET = string.ascii_letters + string.digits
Text = Annotated[str, StringConstraints(strict=True)]


class CalledFunction(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Text
    arguments: Text


class CallBody(BaseModel):
    """One call of an assistant's message. `index` is what streams have; clients may send it back."""

    model_config = ConfigDict(extra="forbid")

    id: Text
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None

    def plain(self, where: str) -> dict[str, Any]:
        """As a chat template takes it. RequestError for arguments that are no JSON object."""
        try:
            arguments = json.loads(self.function.arguments or "{}")
        except (ValueError, RecursionError):
            arguments = None
        if not isinstance(arguments, dict):
            where = f"{where}.function.arguments"
            raise RequestError(f"{where} should be the text of a JSON object", param=where, code="invalid_value")
        return {"id": self.id, "type": "function", "function": {"name": self.function.name, "arguments": arguments}}


Calls = Annotated[list[CallBody], Field(max_length=MAX_TOOLS)]


def new_call_id(characters: int) -> str:
    """`call_` and random letters and digits; only as many of them where a template insists on their number."""
    text = "".join(secrets.choice(_ALPHABET) for _ in range(characters))
    return text if characters < 16 else f"call_{text}"
