"""Recipe: the winner alone, as a task file from which it is built again without the other arms and without the test.

This module does not know arms.
"""

from __future__ import annotations

from typing import Any

from bloomery.adapt.comparison.entries import Entry
from bloomery.adapt.comparison.task import TaskConfig
from bloomery.adapt.comparison.tuning import Frozen
from bloomery.adapt.prompts.template import toml_of
from bloomery.core.config import digest, to_dict

_HEAD = """\
# {name}, the recommended arm of the comparison "{task}", alone.
#   bloomery compare THIS_FILE --rebuild             tune it again on train and dev; the test stays closed
#   bloomery compare THIS_FILE --ask "a question"    answer with it
"""


def settings_digest(frozen: Frozen) -> str:
    """64 hex digits over what was frozen; files of weights are not in it."""
    return digest(dict(frozen.settings))


def winner_recipe(config: TaskConfig, entry: Entry, frozen: Frozen) -> str:
    """TOML that `read_task` reads."""
    told = to_dict(config)
    told["arms"] = [entry.arm.name]
    told["model"] = [one for one in told["model"] if entry.arm.asks and entry.model in (one["label"], _called(one))]
    told["frozen"] = settings_digest(frozen)
    text = toml_of(_known(told))
    return _HEAD.format(name=" ".join(entry.name.split()), task=" ".join(config.name.split())) + text


def _called(model: dict[str, Any]) -> str:
    from bloomery.adapt.comparison.task import ModelConfig

    return ModelConfig(**model).called


def _known(value: Any) -> Any:
    """Without what TOML cannot tell: None, and lists and texts of nothing."""
    if isinstance(value, dict):
        return {key: _known(one) for key, one in value.items() if one is not None and one != [] and one != ""}
    return [_known(one) for one in value] if isinstance(value, list) else value
