"""Labels by their probability, their names, and what may be asked."""

from __future__ import annotations

import math

import pytest
import torch

from bloomery.core.errors import RequestError
from bloomery.engine.labelling import best_labels, checked_top, label_texts, text_to_label


def test_the_best_of_three():
    logits = torch.tensor([0.0, math.log(2), math.log(5)])  # shares of 1/8, 2/8 and 5/8
    found = best_labels(logits, ["a", "b", "c"], 2)
    assert [(one.id, one.text) for one in found] == [(2, "c"), (1, "b")]
    assert [math.exp(one.logprob) for one in found] == pytest.approx([5 / 8, 2 / 8])
    assert len(best_labels(logits, ["a", "b", "c"], 9)) == 3


def test_names():
    assert label_texts({"1": "iron"}, 2) == ["LABEL_0", "iron"]
    assert label_texts(None, 1) == ["LABEL_0"]


def test_mistakes():
    for top in (0, True, 1.5, "a"):
        with pytest.raises(RequestError, match="top"):
            checked_top(top)
    assert text_to_label(" ore ") == " ore "
    for text in ("", " \t\n", None):
        with pytest.raises(RequestError):
            text_to_label(text)
