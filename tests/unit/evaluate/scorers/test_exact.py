"""Exact: what counts as written alike."""

from __future__ import annotations

import pytest

from bloomery.evaluate.sample import Answered, Sample
from bloomery.evaluate.scorers import Exact


@pytest.mark.parametrize(
    "settings, text, right",
    [
        ({}, " paris\n", 1),
        ({}, "Paris.", 0),
        ({}, "Ｐａｒｉｓ", 1),
        ({"unicode": False}, "Ｐａｒｉｓ", 0),
        ({"ignore_case": False}, "paris", 0),
        ({"ignore_punctuation": True}, "«Paris»!", 1),
        ({"match": "first_line"}, "\nParis\nis the capital", 1),
        ({"match": "start"}, "Paris, of course", 1),
        ({"match": "start"}, "Parisian", 0),
        ({"match": "within"}, "It is Paris!", 1),
        ({"match": "within"}, "comparison", 0),
        ({"match": "within"}, "the City   of light", 1),
    ],
)
def test_alike(settings: dict, text: str, right: int):
    sample = Sample(id="s", input="?", targets=("Paris", "City of Light"))
    assert Exact(**settings).score(sample, Answered(sample_id="s", text=text)).value == right


def test_names_tell_settings():
    assert Exact().name == "exact" and Exact(match="within", ignore_case=False).name == "exact (within, case)"
