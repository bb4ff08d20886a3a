"""`bloomery chat`: a conversation at the terminal. This module does not know how an answer is made."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Annotated

from cyclopts import Parameter

from bloomery.cli.generate import AdapterName, ModelName, open_model
from bloomery.cli.options import Common
from bloomery.core.errors import ConfigError, RequestError


def chat(
    *,
    model: ModelName = "",
    adapter: AdapterName = None,
    system: Annotated[str, Parameter(help="A system message.")] = "",
    max_new_tokens: Annotated[int, Parameter(help="Tokens of an answer, at most.")] = 256,
    temperature: Annotated[float, Parameter(help="0 is greedy.")] = 0.7,
    common: Common | None = None,
) -> None:
    """Talk with a model. Ctrl-C ends an answer, Ctrl-D or an empty line with Ctrl-C the conversation."""
    common = common or Common()
    if common.json:
        raise ConfigError("chat is for people and has no --json", hint="bloomery generate --json, or bloomery serve")
    loaded = open_model(model, common.workspace(), adapter=adapter)
    first = [{"role": "system", "content": system}] if system else []
    messages = list(first)
    if not common.quiet:
        print(f"{loaded.name}; Ctrl-D leaves, /new begins anew", file=sys.stderr)
    with suppress(ImportError):
        import readline  # noqa: F401 gives input() history and editing
    while True:
        try:
            said = input("> " if sys.stdin.isatty() else "")
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if said.strip() == "/new":
            messages = list(first)
            continue
        if not said.strip():
            continue
        messages.append({"role": "user", "content": said})
        answer: list[str] = []
        try:
            for delta in loaded.stream(messages, max_new_tokens=max_new_tokens, temperature=temperature):
                print(delta.text, end="", flush=True)
                answer.append(delta.text)
        except KeyboardInterrupt:
            pass
        except RequestError as error:
            messages.pop()
            print(f"error: {error.one_line()}; /new begins anew", file=sys.stderr)
            continue
        print()
        messages.append({"role": "assistant", "content": "".join(answer)})
