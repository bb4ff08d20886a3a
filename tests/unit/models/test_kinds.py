"""The table of kinds: every kind is found by its config.json and by its class, and none twice."""

from __future__ import annotations

import pytest

from bloomery.core.errors import ConfigError
from bloomery.models.classifiers import CLASSIFIER_TYPES
from bloomery.models.families import FAMILIES
from bloomery.models.kinds import KINDS, kind_of, kind_of_model
from bloomery.models.recurrent import RecurrentConfig, RecurrentSeq2Seq


@pytest.mark.parametrize(
    ("values", "name"),
    [
        *(({"model_type": family}, "decoder") for family in FAMILIES),
        *(({"model_type": kind}, f"{'image' if 'image' in kind else 'text'}-classifier") for kind in CLASSIFIER_TYPES),
        ({"model_type": "bert", "architectures": ["BertForSequenceClassification"]}, "encoder"),
        ({"model_type": "qwen3", "architectures": ["Qwen3ForSequenceClassification"]}, "decoder-classifier"),
        ({"model_type": "qwen3", "architectures": [3]}, "decoder"),
        ({"model_type": "clip"}, "image-text"),
        ({"model_type": "vit"}, "image-encoder"),
        ({"model_type": "t5"}, "seq2seq"),
        ({"model_type": "bloomery_recurrent"}, "recurrent"),
        ({"model_type": "llava"}, "vision-language"),
        ({}, "decoder"),
    ],
)
def test_by_config(values, name):
    assert kind_of(values).name == name


def test_by_model():
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    classes = [one for kind in KINDS for one in kind.classes]
    assert len(set(classes)) == len(classes)
    net = RecurrentSeq2Seq(RecurrentConfig(source_vocab_size=9, target_vocab_size=9, embedding_size=4, hidden_size=4))
    assert kind_of_model(net).name == "recurrent"


def test_what_is_no_decoder_either_is_told_all_that_there_is(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bret"}')
    with pytest.raises(ConfigError, match="unsupported model_type 'bret'") as caught:
        kind_of({"model_type": "bret"}).load(tmp_path)
    assert caught.value.hint == 'did you mean "bert"?'
    (tmp_path / "config.json").write_text('{"model_type": "xyz9"}')
    with pytest.raises(ConfigError) as caught:
        kind_of({}).load(tmp_path)
    assert {"bert", "t5", "vit", "clip", "llava", "qwen3"} <= set(caught.value.hint.removeprefix("known: ").split(", "))
