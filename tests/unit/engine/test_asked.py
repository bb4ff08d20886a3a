"""What every loaded model says to a method that it does not have; other missing names, and errors inside properties."""

from __future__ import annotations

import copy

import pytest

from bloomery.core.errors import RequestError
from bloomery.engine import Classifier, ImageEncoder, ImageTextModel, LanguageModel, SequenceModel, TextEncoder
from bloomery.engine.asked import METHODS, Asked, one_text

KINDS = (LanguageModel, TextEncoder, ImageTextModel, ImageEncoder, SequenceModel, Classifier)


def test_another_kinds_method_is_refused_in_one_line(tiny: LanguageModel):
    for method in ("classify", "fill", "embed", "translate", "tag", "value"):
        with pytest.raises(RequestError, match=f"{tiny.name} is a language model: it has no {method}") as caught:
            getattr(tiny, method)("some text")
        assert caught.value.hint.startswith("it has generate, stream, samples")
        assert not hasattr(tiny, method) and getattr(tiny, method, None) is None
        assert hasattr(tiny.__class__, method) is False and method not in dir(tiny)


def test_every_method_is_some_models_and_every_model_has_one():
    for method in METHODS:
        assert any(hasattr(kind, method) for kind in KINDS), method
    for kind in KINDS:
        assert issubclass(kind, Asked) and any(hasattr(kind, method) for method in METHODS)


def test_a_real_attribute_error_stays_itself(tiny: LanguageModel):
    with pytest.raises(AttributeError, match="'LanguageModel' object has no attribute 'clasify'") as caught:
        tiny.clasify  # type: ignore[attr-defined]  # noqa: B018
    assert not isinstance(caught.value, RequestError)

    class Broken(Asked):
        name = "broken"

        @property
        def context_length(self) -> int:
            return self.nothing_of_this_name  # type: ignore[attr-defined]

    with pytest.raises(AttributeError, match="nothing_of_this_name"):
        _ = Broken().context_length
    assert copy.copy(tiny).name == tiny.name


def test_what_is_a_text():
    assert one_text("iron") == "iron"
    for wrong, said in ((3, "a text is a string, not int"), (["a"], "not list"), ("iron", "4 characters is too long")):
        with pytest.raises(RequestError, match=said):
            one_text(wrong, most=3)
