"""Sandbox: a chat template's Jinja, with the functions that Hugging Face gives it, bounded in time and size.

Templates come with downloaded models, so they are code from strangers: they run in Jinja's immutable sandbox, loops
and macros look at a clock, and what could make a huge string at one stroke is refused.

This module does not know messages or tokens.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from types import BuiltinMethodType
from typing import Any

import jinja2
from jinja2 import meta, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

_MAX_SECONDS = 2.0
_MAX_CHARACTERS = 16 * 1024 * 1024
_MAX_REPEAT = 1 << 16
_CLOCK = "_bloomery_clock"
BEGIN, END = "_bloomery_begin", "_bloomery_end"
"""Variables that a template writes where what it marks as the assistant's begins and ends."""
_PADDING = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs", "format_map"})
_WIDE_PERCENT = re.compile(r"%[-+ #0]*(?:\d*\.)?(?:\d{4,}|\*)")
_WIDE_BRACES = re.compile(r"\{[^{}]*:[^{}]*\d{4,}|\{[^{}]+\{")


class RefusedError(Exception):
    """A template cannot be compiled, or it stopped with an error; one line."""


class TemplateSandbox:
    """A compiled template. `constants` are all strings in its code, `compared` those that it looks for in values,
    `names` the variables that it expects to be given.

    `exact`: white space stays as it stands in the source, and a name that is not there is an error; chat templates
    expect neither. `filters` are further ones, by name.
    """

    def __init__(
        self, source: str, *, exact: bool = False, filters: Mapping[str, Callable[..., Any]] | None = None
    ) -> None:
        environment = _Environment(
            trim_blocks=not exact,
            lstrip_blocks=not exact,
            keep_trailing_newline=exact,
            undefined=jinja2.StrictUndefined if exact else jinja2.Undefined,
            extensions=["jinja2.ext.loopcontrols", _Generation],
        )
        environment.filters |= {"tojson": _tojson, **(filters or {})}
        for name in ("center", "format", "wordwrap", "pprint", "filesizeformat", "xmlattr", "random"):
            environment.filters.pop(name, None)
        environment.globals.pop("lipsum", None)
        environment.globals.pop("cycler", None)
        environment.globals.pop("joiner", None)
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        environment.globals |= {_CLOCK: lambda: None, BEGIN: "", END: ""}
        try:
            tree = environment.parse(source)
            self.constants = frozenset(_strings(tree, (nodes.Template,)))
            self.compared = frozenset(_strings(tree, (nodes.Compare, nodes.Call, nodes.Filter, nodes.Test)))
            self.names = frozenset(meta.find_undeclared_variables(tree) - environment.globals.keys())
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise RefusedError(_one_line(error)) from error
        except RecursionError as error:
            raise RefusedError("it is nested too deeply") from error

    def render(self, **variables: Any) -> str:
        """The text; RefusedError if the template raises, takes longer than two seconds or writes too much."""
        deadline = time.monotonic() + _MAX_SECONDS

        def clock() -> None:
            if time.monotonic() > deadline:
                raise RefusedError(f"it takes longer than {_MAX_SECONDS:g} seconds")

        pieces: list[str] = []
        size = 0
        try:
            for piece in self._template.generate(**variables, **{_CLOCK: clock}):
                clock()
                size += len(piece)
                if size > _MAX_CHARACTERS:
                    raise RefusedError(f"it writes more than {_MAX_CHARACTERS:,} characters")
                pieces.append(piece)
        except RefusedError:
            raise
        except RecursionError as error:
            raise RefusedError("it calls itself without end") from error
        except Exception as error:  # a template's code may raise anything
            raise RefusedError(_one_line(error)) from error
        return "".join(pieces)


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(["*", "**", "%"])

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for block in tree.find_all((nodes.For, nodes.Macro, nodes.CallBlock)):
            tick = nodes.ExprStmt(nodes.Call(nodes.Name(_CLOCK, "load"), [], [], None, None))
            block.body.insert(0, tick.set_lineno(block.lineno).set_environment(self))
        return tree

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**":
            raise RefusedError("it uses powers")
        if operator == "*" and not (_is_number(left) and _is_number(right)):
            factor, value = (left, right) if _is_number(left) else (right, left)
            if not _is_number(factor) or factor * len(value) > _MAX_REPEAT:
                raise RefusedError("it repeats a text too often")
        if operator == "%" and isinstance(left, str) and _WIDE_PERCENT.search(left):
            raise RefusedError("it formats too wide a field")
        return super().call_binop(context, operator, left, right)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, str) and attr in _PADDING:
            return False
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Any:
        text = value.__self__ if isinstance(value, BuiltinMethodType) and value.__name__ == "format" else None
        if isinstance(text, str) and _WIDE_BRACES.search(text):
            raise RefusedError("it formats too wide a field")
        return super().wrap_str_format(value)


class _Generation(Extension):
    """`{% generation %}` marks the assistant's text for training masks; what `BEGIN` and `END` are is written around
    it, usually nothing."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own interface

    def parse(self, parser: Parser) -> list[nodes.Node]:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        before, after = (nodes.Output([nodes.Name(name, "load")]).set_lineno(line) for name in (BEGIN, END))
        return [before, *body, after]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def _strings(tree: nodes.Node, kinds: tuple[type[nodes.Node], ...]) -> set[str]:
    roots = [tree] if nodes.Template in kinds else list(tree.find_all(kinds))
    return {const.value for root in roots for const in root.find_all(nodes.Const) if isinstance(const.value, str)}


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """Jinja's own escapes HTML; chat templates expect plain JSON."""
    if indent is not None and not 0 <= int(indent) <= 16:
        raise RefusedError("it indents JSON too far")
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: object) -> None:
    raise RefusedError(" ".join(str(message).split())[:500])


def _one_line(error: Exception) -> str:
    return " ".join(f"{error}".split())[:500] or type(error).__name__
