"""Scorers: what an answer is worth: exact, by choice, number, words, structure, meaning, or by running it."""

from bloomery.evaluate.scorers.choice import Choice, find_choice
from bloomery.evaluate.scorers.code import Code
from bloomery.evaluate.scorers.exact import Exact
from bloomery.evaluate.scorers.numeric import Numeric
from bloomery.evaluate.scorers.overlap import Bleu, ChrF, Rouge
from bloomery.evaluate.scorers.pass_at_k import mean_pass_at_k, pass_at_k
from bloomery.evaluate.scorers.registry import CorpusScorer, add_scorer, make_scorer, scorer_names
from bloomery.evaluate.scorers.sandbox import Outcome, Sandbox
from bloomery.evaluate.scorers.similarity import Similarity
from bloomery.evaluate.scorers.squad import Squad, squad_exact, squad_f1
from bloomery.evaluate.scorers.structure import JsonSchema, Pattern, read_json

__all__ = [
    "Bleu",
    "Choice",
    "ChrF",
    "Code",
    "CorpusScorer",
    "Exact",
    "JsonSchema",
    "Numeric",
    "Outcome",
    "Pattern",
    "Rouge",
    "Sandbox",
    "Similarity",
    "Squad",
    "add_scorer",
    "find_choice",
    "make_scorer",
    "mean_pass_at_k",
    "pass_at_k",
    "read_json",
    "scorer_names",
    "squad_exact",
    "squad_f1",
]
