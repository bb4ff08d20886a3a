"""Tasks: what models are asked, where the questions are, and what right answers are worth; a TOML file each."""

from bloomery.evaluate.tasks.asking import Subject, ask
from bloomery.evaluate.tasks.metrics import Figure, by_group, figures
from bloomery.evaluate.tasks.question import Question, limited, questions
from bloomery.evaluate.tasks.record import Record
from bloomery.evaluate.tasks.task import Task, built_in, find_task, read_task

__all__ = [
    "Figure",
    "Question",
    "Record",
    "Subject",
    "Task",
    "ask",
    "built_in",
    "by_group",
    "figures",
    "find_task",
    "limited",
    "questions",
    "read_task",
]
