"""Answers: questions to documents, answered with citations that are checked, by models that read strangers' text."""

from bloomery.retrieve.answers.answer import Answer as Answer
from bloomery.retrieve.answers.answer import AnswerConfig as AnswerConfig
from bloomery.retrieve.answers.answer import AnswerDelta as AnswerDelta
from bloomery.retrieve.answers.answer import Answering as Answering
from bloomery.retrieve.answers.asking import ask as ask
from bloomery.retrieve.answers.asking import opened_answering as opened_answering
from bloomery.retrieve.answers.citation import Citation as Citation
from bloomery.retrieve.answers.citation import Statement as Statement
from bloomery.retrieve.answers.gate import Gate as Gate
from bloomery.retrieve.answers.passages import Passage as Passage
from bloomery.retrieve.answers.passages import PassageConfig as PassageConfig
