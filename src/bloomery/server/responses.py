"""POST /v1/responses: OpenAI's Responses, of text and of calls of functions.

A request brings its whole conversation, or names the response that it goes on from, where the server keeps content (see
`store`). This module does not know how requests wait or run, nor the events of a stream (see `response_events`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bloomery.core.errors import RequestError
from bloomery.engine import LanguageModel
from bloomery.engine.constraint_spec import MAX_TOOLS
from bloomery.engine.language_model import SamplingOptions
from bloomery.server.chat import illustrated_prompt
from bloomery.server.completions import sampling_options, try_constraint
from bloomery.server.pictures import MAX_IMAGES
from bloomery.server.response_items import InputItem, item_image_urls, item_messages
from bloomery.server.schemas import Flag, Logprobs, SamplingFields, Text, Whole, refuse_unsupported
from bloomery.server.structure import Structure, StructureFields, relabelled, structure_of
from bloomery.tokenizer import ToolStyle

ROUTE = "/v1/responses"
ONE = ROUTE + "/{response}"
MAX_ITEMS = 10_000
LOGPROBS = "message.output_text.logprobs"
# Values of parameters that are not supported which ask for nothing.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "background": (False,),
    "background_options": (),
    "context_management": ([],),
    "conversation": (),
    "image": (),
    "max_tool_calls": (),
    "moderation": (),
    "prompt": (),
    "prompt_cache_options": ({},),
    "reasoning": ({}, {"effort": "none"}, {"effort": None, "summary": None}),
    "service_tier": ("auto", "default"),
    "truncation": ("disabled",),
}


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow", protected_namespaces=())


class FunctionTool(_Open):
    """A function that may be called, as this route writes it."""

    type: Text
    name: Text | None = None
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: Flag | None = None


class TextFormat(_Open):
    type: Text
    name: Text | None = None
    description: Text | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: Flag | None = None


class TextConfig(_Open):
    format: TextFormat | None = None


class StreamOptions(_Open):
    include_obfuscation: Literal[False] | None = None


class ResponsesBody(SamplingFields, _Open):
    """See the module; the sampling parameters that OpenAI does not have are those of the other routes."""

    model: Text
    input: Text | Annotated[list[InputItem], Field(min_length=1, max_length=MAX_ITEMS)]
    instructions: Text | None = None
    previous_response_id: Annotated[Text, Field(max_length=100)] | None = None
    store: Flag | None = None
    include: Annotated[list[Text], Field(max_length=16)] | None = None
    max_output_tokens: Annotated[Whole, Field(ge=1, le=2**31 - 1)] | None = None
    top_logprobs: Logprobs | None = None
    text: TextConfig | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Text | dict[str, Any] | None = None
    parallel_tool_calls: Flag | None = None
    stream: Flag | None = None
    stream_options: StreamOptions | None = None

    @property
    def wants_logprobs(self) -> bool:
        return LOGPROBS in (self.include or ())

    def items(self) -> list[InputItem]:
        """What this request adds to the conversation."""
        return [InputItem(role="user", content=self.input)] if isinstance(self.input, str) else self.input

    def refuse_unsupported(self) -> None:
        """RequestError for the first parameter that asks for something this route does not do."""
        extra = {name: value for name, value in (self.model_extra or {}).items() if not _asks_nothing(name, value)}
        refuse_unsupported(extra, type(self).model_fields, _NEUTRAL)
        if self.text is not None:
            refuse_unsupported(self.text.model_extra or {}, TextConfig.model_fields, {"verbosity": ("medium",)})
        for place, name in enumerate(self.include or ()):
            if name != LOGPROBS:
                where = f"include.{place}"
                raise RequestError(f"{where}: {name!r:.80} is not supported", param=where, code="unsupported_parameter")
        if self.top_logprobs and not self.wants_logprobs:
            raise RequestError(
                "top_logprobs needs the logprobs to be included",
                hint=f'include: ["{LOGPROBS}"]',
                param="top_logprobs",
                code="invalid_value",
            )
        if self.stream_options is not None and not self.stream:
            raise RequestError("stream_options needs stream: true", param="stream_options", code="invalid_value")


def _asks_nothing(name: str, value: Any) -> bool:
    """An empty object or list, or an object of nothing but nulls, of a parameter that OpenAI has."""
    if name not in _NEUTRAL:
        return False
    return value in ([], {}) or (isinstance(value, dict) and all(inner is None for inner in value.values()))


@dataclass(frozen=True, kw_only=True)
class ResponseRequest:
    """A body as the engine takes it: the prompt's token ids, its images and options; the functions that may be called
    and how the model calls them; all items of the conversation so far, as JSON."""

    ids: list[int]
    images: list[Any]
    options: SamplingOptions
    style: ToolStyle | None = None
    names: frozenset[str] = frozenset()
    items: list[dict[str, Any]] = field(default_factory=list)


def read_response(
    model: LanguageModel, body: ResponsesBody, *, default_tokens: int, earlier: Sequence[Mapping[str, Any]] = ()
) -> ResponseRequest:
    """Everything that can be wrong with a body is a RequestError here, before anything is generated. `earlier` are the
    items of the response that it goes on from. May take a while: texts of megabytes, pictures and grammars are read."""
    template = model.tokenizer.chat_template
    style = None if template is None else template.tool_style
    fields = _structure_fields(body)
    structure = _structure(model, fields, style)
    options = response_options(body, default_tokens=default_tokens)
    if structure.constraint is not None:
        options["constraint"] = structure.constraint
    items = [*(InputItem.model_validate(item) for item in earlier), *body.items()]
    messages = item_messages(items, first=len(earlier))
    if style is None and any(message["role"] == "tool" or message.get("tool_calls") for message in messages):
        raise RequestError("this model's chat template knows no tools", param="input", code="unsupported_parameter")
    if body.instructions:  # those of an earlier response are not carried over
        messages.insert(0, {"role": "system", "content": body.instructions})
    urls = item_image_urls(items, first=len(earlier))
    if len(urls) > MAX_IMAGES:
        raise RequestError(f"{len(urls)} images are more than {MAX_IMAGES}", param="input", code="invalid_value")
    tools = [tool.plain() for tool in fields.wanted_tools] or None
    if urls:
        ids, images = illustrated_prompt(model, messages, urls, tools)
    else:
        ids, images = model.encode_prompt(messages, tools=tools), []
    told = [item.model_dump(exclude_none=True, by_alias=True) for item in items]
    return ResponseRequest(ids=ids, images=images, options=options, style=style, names=structure.names, items=told)


def response_options(body: ResponsesBody, *, default_tokens: int) -> SamplingOptions:
    """What the engine is asked."""
    options = sampling_options(body)
    options["max_new_tokens"] = default_tokens if body.max_output_tokens is None else body.max_output_tokens
    options["logprobs"] = (body.top_logprobs or 0) if body.wants_logprobs else None
    return options


def _structure(model: LanguageModel, fields: StructureFields, style: ToolStyle | None) -> Structure:
    try:
        structure = structure_of(fields, style)
        if structure.constraint is not None:
            try_constraint(model, structure)
        return structure
    except RequestError as error:
        # The names of the chat route's fields, as this one has them.
        param = (error.param or "").removesuffix(".function")
        raise relabelled(error, "text.format" if param.startswith("response_format") else param) from error


def _structure_fields(body: ResponsesBody) -> StructureFields:
    """The fields of the chat route that ask for the same."""
    tools = [_chat_tool(tool, f"tools.{place}") for place, tool in enumerate(body.tools or [])]
    choice, allowed = _chat_choice(body.tool_choice)
    if allowed is not None:
        missing = sorted(allowed - {tool["function"]["name"] for tool in tools})
        if missing:
            raise RequestError(f"no tool is called {missing[0]!r:.80}", param="tool_choice", code="invalid_value")
        tools = [tool for tool in tools if tool["function"]["name"] in allowed]
    form = None if body.text is None or body.text.format is None else _chat_format(body.text.format)
    return StructureFields.model_validate(
        {
            "tools": tools or None,
            "tool_choice": choice,
            "parallel_tool_calls": body.parallel_tool_calls,
            "response_format": form,
        }
    )


def _chat_tool(tool: FunctionTool, where: str) -> dict[str, Any]:
    if tool.type != "function":
        raise RequestError(
            f"{where}: tools of type {tool.type!r:.40} are not supported, functions are",
            param=f"{where}.type",
            code="unsupported_parameter",
        )
    if tool.name is None:
        message = f"{where} should have a name"
        raise RequestError(message, param=f"{where}.name", code="missing_required_parameter")
    refuse_unsupported(_within(where, tool.model_extra), (), {})
    function = tool.model_dump(include={"name", "description", "parameters", "strict"}, exclude_none=True)
    return {"type": "function", "function": function}


def _within(where: str, extra: Mapping[str, Any] | None) -> dict[str, Any]:
    return {f"{where}.{name}": value for name, value in (extra or {}).items()}


def _chat_choice(choice: str | dict[str, Any] | None) -> tuple[Any, frozenset[str] | None]:
    """The chat route's choice, and the names of the tools that alone are allowed (None: all)."""
    match choice:
        case None | "none" | "auto" | "required":
            return choice, None
        case {"type": "function", "name": str(name), **rest} if not rest:
            return {"type": "function", "function": {"name": name}}, None
        case {"type": "allowed_tools", "mode": "auto" | "required" as mode, "tools": [_, *_] as tools, **rest} if (
            not rest
        ):
            functions = [one for one in tools if isinstance(one, dict) and one.get("type") == "function"]
            names = frozenset(name for one in functions if isinstance(name := one.get("name"), str))
            if len(functions) == len(tools) and names:
                return mode, names
    raise RequestError(
        "tool_choice should be none, auto, required, a function or allowed_tools of functions",
        hint='{"type": "function", "name": ...}',
        param="tool_choice",
        code="invalid_value",
    )


def _chat_format(form: TextFormat) -> dict[str, Any]:
    if form.type not in ("text", "json_object", "json_schema"):
        message = f"text.format: {form.type!r:.40} is not supported"
        raise RequestError(message, param="text.format.type", code="unsupported_parameter")
    refuse_unsupported(_within("text.format", form.model_extra), (), {})
    named = form.model_dump(include={"name", "description", "schema_", "strict"}, exclude_none=True, by_alias=True)
    if form.type == "json_schema" and form.schema_ is None:
        message = "text.format should have a schema"
        raise RequestError(message, param="text.format.schema", code="missing_required_parameter")
    return {"type": form.type, **({"json_schema": named} if named else {})}
