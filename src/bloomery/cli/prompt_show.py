"""`bloomery prompt show`: what a model is asked, message by message and token by token. Nothing is asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from bloomery.cli.options import Common, print_json, shown
from bloomery.cli.prompt_options import AskingOptions, ModelName, PromptName, find_prompt, opened_model
from bloomery.core.errors import ConfigError

if TYPE_CHECKING:
    from bloomery.adapt.prompts import PromptTemplate
    from bloomery.core.workspace import Workspace
    from bloomery.evaluate.sample import Sample


def show(
    prompt: PromptName = "",
    *,
    samples: Annotated[Path | None, Parameter(help="Samples that the prompt is filled with: JSONL or CSV.")] = None,
    sample: Annotated[str, Parameter(help="Which one, by its id [default: the first].")] = "",
    model: ModelName = "",
    asking: AskingOptions | None = None,
    common: Common | None = None,
) -> None:
    """Print a prompt, or with --samples the messages of one sample; with --model its exact tokens."""
    common, asking = common or Common(), asking or AskingOptions()
    if not prompt:
        _list(common)
        return
    workspace = common.workspace()
    template = find_prompt(prompt, workspace)
    told: dict[str, Any] = {"prompt": template.identity, "hash": template.content_hash}
    if samples is None:
        if model or sample:
            raise ConfigError("which samples?", hint="--samples FILE")
        told["toml"] = template.to_toml()
    else:
        told |= _filled(template, samples, sample, asking)
        if model:
            told["tokens"] = _tokens(told["messages"], model, workspace, asking)
    if common.json:
        print_json(told)
        return
    print(told["prompt"])
    if "toml" in told:
        print(shown(told["toml"]), end="")
        return
    for one in told["messages"]:
        print(f"[{one['role']}]\n{shown(one['content'])}")
    if "tokens" in told:
        print(f"{len(told['tokens']):,} tokens: {' '.join(shown(repr(one['text'])) for one in told['tokens'])}")


def _list(common: Common) -> None:
    from bloomery.adapt.prompts import library_prompts, read_prompt

    found = [read_prompt(name) for name in library_prompts()]
    if common.json:
        print_json([{"prompt": one.identity, "description": one.description} for one in found])
        return
    for one in found:
        print(f"{one.name:<12}{one.description}")


def _filled(template: PromptTemplate, path: Path, sample: str, asking: AskingOptions) -> dict[str, Any]:
    from bloomery.adapt.prompts.examples import chooser
    from bloomery.adapt.prompts.sample_file import read_sample_file

    parts = read_sample_file(path)
    every: list[Sample] = [one for part in parts.values() for one in part]
    found = next((one for one in every if not sample or one.id == sample), None)
    if found is None:
        raise ConfigError(f"{path} has no sample {sample!r:.60}" if sample else f"{path} has no samples")
    examples = chooser(template, parts["train"] or parts[""]).choose(found)
    if asking.chat and asking.how != "likelihood":
        messages = template.messages(found, examples, **_stage(template))
    else:
        messages = [{"role": "user", "content": template.text(found, examples, **_stage(template))}]
    return {"sample": found.id, "messages": [dict(one) for one in messages]}


def _stage(template: PromptTemplate) -> dict[str, Any]:
    """The first thing that a prompt of parts asks."""
    return {"stage": "split", "parts": (), "part": ""} if "stage" in template.user else {}


def _tokens(
    messages: list[dict[str, Any]], model: str, workspace: Workspace, asking: AskingOptions
) -> list[dict[str, Any]]:
    """As our engine reads them, chat template and all."""
    from bloomery.engine.chat_model import EngineChat

    with opened_model(model, workspace, asking) as opened:
        chat = opened.subject.chat
        if not isinstance(chat, EngineChat):
            raise ConfigError("a server does not tell its tokens", hint="--model FOLDER, with the same tokenizer")
        asked = messages if asking.chat and asking.how != "likelihood" else str(messages[0]["content"])
        data = [(one, chat.model.tokenizer.token_bytes(one) or b"") for one in chat.model.encode_prompt(asked)]
        return [{"id": one, "text": text.decode("utf-8", "replace")} for one, text in data]
