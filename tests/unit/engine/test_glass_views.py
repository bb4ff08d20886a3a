"""Views: plain data all the way down."""

from __future__ import annotations

import dataclasses
import json

import pytest

from bloomery.engine.glass_views import Guess, LensLayer, LensView, TokenAt


def test_to_dict_is_json():
    token = TokenAt(index=0, token_id=7, text=" a")
    layer = LensLayer(
        layer=-1,
        entropy=0.5,
        answer_rank=1,
        answer_logprob=-0.1,
        guesses=(Guess(token_id=7, text=" a", logprob=-0.1),),
    )
    view = LensView(model="m", tokens=(token,), position=token, layers=(layer,))
    found = json.loads(json.dumps(view.to_dict()))
    assert found["position"] == {"index": 0, "token_id": 7, "text": " a"}
    assert found["layers"][0]["guesses"] == [{"token_id": 7, "text": " a", "logprob": -0.1}]
    with pytest.raises(dataclasses.FrozenInstanceError):
        view.model = "other"  # type: ignore[misc]
