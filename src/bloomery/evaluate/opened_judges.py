"""Opened judges: the models that judge tasks' answers, each opened once, kept and budgeted like what is measured.

This module does not know how judges are asked (see `judge`), nor records.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bloomery.core.answer_cache import AnswerCache
from bloomery.core.budget import Budget
from bloomery.core.errors import ConfigError
from bloomery.core.messages import ChatModel
from bloomery.core.workspace import Workspace
from bloomery.evaluate.judge import Judge
from bloomery.evaluate.subject import Opened, open_subject
from bloomery.evaluate.tasks import Task
from bloomery.evaluate.tasks.task_judge import TaskJudge


@dataclass(frozen=True, kw_only=True)
class OpenedJudge:
    """A task's judge, ready to be asked."""

    config: TaskJudge
    chat: ChatModel
    scorer: Judge


class OpenedJudges:
    """The judges of several tasks; close them when done."""

    def __init__(self, tasks: Iterable[Task], workspace: Workspace) -> None:
        """Errors are those of opening a model."""
        self._configs = {task.name: task.judge for task in tasks if task.judge is not None}
        self._opened: dict[str, Opened] = {}
        try:
            for config in self._configs.values():
                if config.model not in self._opened:
                    self._opened[config.model] = open_subject(config.model, workspace=workspace, chat=True)
        except BaseException:
            self.close()
            raise

    @property
    def identities(self) -> dict[str, str]:
        """By task, what its judge's answers are kept under."""
        return {name: self._opened[config.model].identity for name, config in self._configs.items()}

    @property
    def lasting(self) -> bool:
        """Whether all identities tell weights, as in `Opened`."""
        return all(one.lasting for one in self._opened.values())

    def kept(self, cache: AnswerCache, *, attempt: str, fresh: bool, budget: Budget | None) -> dict[str, OpenedJudge]:
        """By task. `attempt` names the run for judges whose identity does not tell weights. ConfigError for a model
        that cannot be asked."""
        made = {}
        for name, config in self._configs.items():
            opened = self._opened[config.model]
            identity = "" if opened.lasting else f"{opened.identity} {attempt}"
            chat = opened.kept(cache, identity=identity, fresh=fresh, budget=budget).chat
            if chat is None:
                raise ConfigError(f"{config.model!r:.80} gives no free answers, so it cannot judge")
            made[name] = OpenedJudge(config=config, chat=chat, scorer=Judge(chat, config))
        return made

    def close(self) -> None:
        for one in self._opened.values():
            one.close()
