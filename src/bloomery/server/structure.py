"""What a request asks of the form of its answer: tools, response_format and vLLM's guided decoding.

pydantic reads the JSON; `constraint_of` makes one ConstraintSpec of it, or says by name what cannot be honoured. This
module does not know models, prompts or answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from bloomery.core.errors import RequestError
from bloomery.engine import ConstraintSpec, ToolChoice, ToolFunction
from bloomery.engine.constraint_spec import MAX_CHOICES, MAX_TOOLS, spec_of
from bloomery.tokenizer import ToolStyle

T = TypeVar("T")
Text = Annotated[str, StringConstraints(strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Choices = Annotated[list[Text], Field(min_length=1, max_length=MAX_CHOICES)]


_NAMED = "function:"
_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class FunctionBody(_Strict):
    name: Text
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: Flag | None = None


class ToolBody(_Strict):
    type: Literal["function"]
    function: FunctionBody

    def plain(self) -> dict[str, Any]:
        """As a chat template takes it."""
        function: dict[str, Any] = {"name": self.function.name}
        if self.function.description is not None:
            function["description"] = self.function.description
        return {"type": "function", "function": {**function, "parameters": self.function.parameters or _NO_PARAMETERS}}


def _choice(value: Any) -> str | None:
    if value is None or value in ("none", "auto", "required"):
        return value
    match value:
        case {"type": "function", "function": {"name": str(name), **others}, **rest} if not others and not rest:
            return _NAMED + name
    message = "should be none, auto, required or {'type': 'function', 'function': {'name': ...}}"
    raise PydanticCustomError("tool_choice", "{message}", {"message": message})


class SchemaBody(_Strict):
    """`strict` changes nothing: the schema is always kept to."""

    name: Text | None = None
    description: Text | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: Flag | None = None


class ResponseFormat(_Strict):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: SchemaBody | None = None


class StructuredOutputs(_Strict):
    """vLLM's extension: one of these."""

    json_: Annotated[dict[str, Any] | Text | None, Field(alias="json")] = None
    json_object: Flag | None = None
    regex: Text | None = None
    choice: Choices | None = None
    grammar: Text | None = None


class AnswerFields(BaseModel):
    """The fields of a body that shape an answer which calls nothing."""

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: dict[str, Any] | Text | None = None
    guided_regex: Text | None = None
    guided_choice: Choices | None = None
    guided_grammar: Text | None = None

    @property
    def asks(self) -> bool:
        """Whether anything is asked of the form of the answer."""
        return any(getattr(self, name) is not None for name in AnswerFields.model_fields)


class StructureFields(AnswerFields):
    """The fields of a chat body that shape its answer."""

    tools: Annotated[list[ToolBody], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Annotated[str | None, BeforeValidator(_choice)] = None
    """"none", "auto", "required", or "function:" and a name."""
    parallel_tool_calls: Flag | None = None

    @property
    def wanted_tools(self) -> list[ToolBody]:
        """The tools that may be called: none where the choice is "none"."""
        return [] if self.tool_choice == "none" else (self.tools or [])

    @property
    def chosen_name(self) -> str | None:
        """The one function that has to be called, or None."""
        named = (self.tool_choice or "").startswith(_NAMED)
        return (self.tool_choice or "").removeprefix(_NAMED) if named else None

    def check_choice(self) -> None:
        """RequestError for a choice without tools, or of a tool that is not there."""
        if not self.tools and self.tool_choice not in (None, "none", "auto"):
            raise _refusal("tool_choice needs tools", "tool_choice")
        if self.chosen_name is not None and self.chosen_name not in {tool.function.name for tool in self.tools or []}:
            raise _refusal("no tool has the name that is chosen", "tool_choice")


@dataclass(frozen=True)
class Structure:
    """`constraint` is what the engine keeps to, `param` the parameter that asks for it; `names` are the functions that
    may be called."""

    constraint: ConstraintSpec | None
    param: str = ""
    names: frozenset[str] = frozenset()


def answer_structure(fields: AnswerFields) -> Structure:
    """The constraint of a request without tools. RequestError as of `structure_of`."""
    return Structure(*_answer(fields))


def structure_of(fields: StructureFields, style: ToolStyle | None) -> Structure:
    """The constraint of a request. `style` is how the model writes calls; None if it knows no tools.

    RequestError, with the parameter's name, for what contradicts itself, is malformed or cannot be enforced.
    """
    fields.check_choice()
    answer, param = _answer(fields)
    if not fields.wanted_tools:
        return Structure(answer, param)
    if style is None:
        raise _refusal("this model's chat template knows no tools", "tools", code="unsupported_parameter")
    if answer is not None and answer.kind not in ("json_schema", "json_object"):
        raise _refusal(f"tools go together with a JSON schema, not with a {answer.kind}", "tools")
    named = fields.chosen_name
    required = named is not None or fields.tool_choice == "required"
    functions = tuple(
        _named(f"tools.{place}.function", partial(_function, tool.function, enforced=required))
        for place, tool in enumerate(fields.wanted_tools)
        if named in (None, tool.function.name)
    )
    schema = None if answer is None else (answer.schema if answer.kind == "json_schema" else {"type": "object"})
    parallel = named is None and fields.parallel_tool_calls is not False
    make = partial(ToolChoice, style=style.name, required=required, parallel=parallel, answer=schema)
    choice = _named("tools", partial(make, functions=functions))
    return Structure(ConstraintSpec(kind="tools", tools=choice), "tools", frozenset(one.name for one in functions))


def _function(body: FunctionBody, *, enforced: bool) -> ToolFunction:
    parameters = _NO_PARAMETERS if body.parameters is None else body.parameters
    return ToolFunction(name=body.name, parameters=parameters, strict=enforced or bool(body.strict))


def _answer(fields: AnswerFields) -> tuple[ConstraintSpec | None, str]:
    """What an answer that calls nothing must be, and the parameter that says so; None if it may be anything."""
    found: dict[str, dict[str, Any]] = {}
    form = fields.response_format
    if form is not None and form.type == "json_schema":
        if form.json_schema is None or form.json_schema.schema_ is None:
            raise _refusal("response_format needs json_schema.schema", "response_format.json_schema")
        found["response_format"] = {"json_schema": form.json_schema.schema_}
    elif form is not None and form.json_schema is not None:
        raise _refusal(f"json_schema belongs to another type than {form.type}", "response_format.json_schema")
    elif form is not None and form.type == "json_object":
        found["response_format"] = {"json_object": True}
    guided = {"json_schema": fields.guided_json, "regex": fields.guided_regex, "choice": fields.guided_choice}
    guided["grammar"] = fields.guided_grammar
    found |= {f"guided_{name.removesuffix('_schema')}": {name: one} for name, one in guided.items() if one is not None}
    if (outputs := fields.structured_outputs) is not None:
        values = {"json_schema": outputs.json_, "regex": outputs.regex, "choice": outputs.choice}
        values |= {"grammar": outputs.grammar, "json_object": outputs.json_object or None}
        found |= {f"structured_outputs.{name}": {name: one} for name, one in values.items() if one is not None}
    if len(found) > 1:
        raise _refusal(f"{' and '.join(sorted(found))} exclude each other", sorted(found)[0])
    for param, one in found.items():
        return _named(param, partial(spec_of, one)), param
    return None, ""


def _named(param: str, make: Callable[[], T]) -> T:
    """What `make` gives; its errors name the request's parameter."""
    try:
        return make()
    except RequestError as error:
        raise relabelled(error, param) from error


def relabelled(error: RequestError, param: str) -> RequestError:
    """The same error, said of another parameter."""
    return RequestError(error.message, hint=error.hint, param=param, code=error.code, status=error.status)


def _refusal(message: str, param: str, code: str = "invalid_value") -> RequestError:
    return RequestError(message, param=param, code=code)
