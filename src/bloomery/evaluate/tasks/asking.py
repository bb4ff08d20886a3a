"""Asking: a model is put all questions of a task, records come as they are ready.

What one question alone has to blame stands in its record; once more than so many have failed for another reason, or a
budget is spent, no more are asked, and what was under way is still told. This module does not know where models or
questions come from, nor where records go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace

from bloomery.core.asking import Asked, ask_all
from bloomery.core.budget import BudgetError
from bloomery.core.errors import BloomeryError, ConfigError, RequestError
from bloomery.core.likelihood import Likelihood, LikelihoodModel
from bloomery.core.messages import ChatModel, ChatOptions, Message
from bloomery.evaluate.sample import Answered, Scorer
from bloomery.evaluate.tasks.question import Question
from bloomery.evaluate.tasks.record import UNJUDGED, Record, of_answer, of_failure, of_likelihoods
from bloomery.evaluate.tasks.scoring import Judging
from bloomery.evaluate.tasks.task import Task

_QUESTIONS_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The model that is measured, in the ways in which it can be asked."""

    name: str
    likelihoods: LikelihoodModel | None = None
    chat: ChatModel | None = None
    """Goes on from a prompt, or answers one."""
    concurrency: int = 1
    """Free answers that are under way at once."""


def ask(
    task: Task,
    questions: Sequence[Question],
    subject: Subject,
    *,
    seed: int = 0,
    judge: Scorer | None = None,
    most_failed: int | None = None,
) -> Iterator[tuple[int, Record]]:
    """(place, record) of each question, as they are ready; `judge` is the scorer of a task that has one.

    ConfigError if the model cannot be asked in the task's way; RequestError where more than `most_failed` questions met
    what was not theirs to blame (None: any number may), or where every other would meet it too; BudgetError at a
    budget's end: each once what was under way has been told. A text whose likelihood fails ends it at once.
    """
    if not task.scored:
        most = len(questions) if most_failed is None else most_failed
        yield from _written(task, questions, subject, seed, judge, most)
        return
    model = subject.likelihoods
    if model is None:
        raise ConfigError(f"{task.name} needs likelihoods, which {subject.name} does not tell")
    if task.kind == "text":
        for place, found in model.rolling([one.sample.targets[0] for one in questions]):
            yield place, of_likelihoods(task, questions[place], [found])
        return
    for start in range(0, len(questions), _QUESTIONS_AT_ONCE):
        for place, record in _compared(task, questions[start : start + _QUESTIONS_AT_ONCE], model):
            yield start + place, record


def _compared(task: Task, questions: Sequence[Question], model: LikelihoodModel) -> Iterator[tuple[int, Record]]:
    owners = [(place, nth) for place, one in enumerate(questions) for nth in range(len(one.pairs))]
    pairs = [questions[place].pairs[nth] for place, nth in owners]
    found: list[dict[int, Likelihood]] = [{} for _ in questions]
    for number, likelihood in model.likelihoods(pairs):
        place, nth = owners[number]
        found[place][nth] = likelihood
        question = questions[place]
        if len(found[place]) == len(question.pairs):
            yield place, of_likelihoods(task, question, [found[place][n] for n in range(len(question.pairs))])


def _written(
    task: Task,
    questions: Sequence[Question],
    subject: Subject,
    seed: int,
    judge: Scorer | None,
    most_failed: int,
) -> Iterator[tuple[int, Record]]:
    if subject.chat is None:
        raise ConfigError(f"{task.name} needs free answers, which {subject.name} does not give")
    judging = Judging(task, judge=judge)
    ended: list[BloomeryError] = []
    failed, count = 0, 0

    def record(told: Asked[int]) -> tuple[int, Record]:
        return told.key, _record(judging, questions[told.key], told)

    answers = _answers(task, questions, subject, seed, ended)
    for place, one in map(record, answers) if judge is None else _beside(answers, record, subject.concurrency):
        count, failed = count + 1, failed + one.failed
        if failed > most_failed and not ended:
            said = f"{task.name}: {failed:,} of {count:,} questions failed, the last of them: {one.error}"
            ended.append(RequestError(said, code=one.error_code, status=502))
        yield place, one
    if ended:
        raise ended[0]


def _answers(
    task: Task, questions: Sequence[Question], subject: Subject, seed: int, ended: list[BloomeryError]
) -> Iterator[Asked[int]]:
    """Answers as they come, until there is a reason in `ended`; a spent budget is one."""
    options = ChatOptions(max_new_tokens=task.max_new_tokens, temperature=0.0, seed=seed, stop=task.stop)

    def waiting() -> Iterator[tuple[int, list[Message], ChatOptions]]:
        for place, one in enumerate(questions):
            if ended:  # what is under way is waited for: it was paid for
                return
            yield place, [{"role": "user", "content": one.prompt}], options

    assert subject.chat is not None
    for told in ask_all(subject.chat, waiting(), concurrency=subject.concurrency):
        if isinstance(told.error, BudgetError):
            ended.append(told.error)
        else:
            yield told


def _record(judging: Judging, question: Question, told: Asked[int]) -> Record:
    if told.answer is None:
        zero = dict.fromkeys(judging.metrics, 0.0)
        return of_failure(question, zero, told.error or RequestError("no answer"))
    answered = Answered(sample_id=question.sample.id, text=told.answer.text)
    scores, details = judging.scores(question.sample, answered)
    made = of_answer(question, told.answer, scores, details)
    unjudged = next((str(one["error"]) for one in details.values() if one.get("error")), "")
    return replace(made, error=f"the judge: {unjudged}", error_code=UNJUDGED) if unjudged else made


def _beside(
    answers: Iterator[Asked[int]], record: Callable[[Asked[int]], tuple[int, Record]], concurrency: int
) -> Iterator[tuple[int, Record]]:
    """Records as they are ready, made in threads: a judge is asked while others are still answered."""
    running: set[Future[tuple[int, Record]]] = set()
    with ThreadPoolExecutor(concurrency, thread_name_prefix="judge") as pool:
        for one in answers:
            running.add(pool.submit(record, one))
            ready = {future for future in running if future.done()}
            running -= ready
            yield from (future.result() for future in ready)
        yield from (future.result() for future in as_completed(running))
