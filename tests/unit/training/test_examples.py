"""Examples from documents: fields that are missing, labels and tags that do not fit, texts that are too long."""

from __future__ import annotations

import json

import pytest

from bloomery.core.artifact import Artifact
from bloomery.core.errors import ConfigError, DataError
from bloomery.corpus import CurateConfig, curate
from bloomery.tokenizer import Tokenizer
from bloomery.training.examples import (
    documents_with,
    label_names,
    labelled_texts,
    number_of,
    sorted_labels,
    tag_names,
    tagged_texts,
    text_pairs,
)


@pytest.fixture(scope="module")
def tokenizer(material) -> Tokenizer:
    return Tokenizer.load(material.tokenizer.path)


def _corpus(folder, rows: list[dict], **options) -> Artifact:
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps({"text": f"w01 w02 w0{n}", **row}) + "\n" for n, row in enumerate(rows)))
    fields = tuple({key for row in rows for key in row} - {"text"})
    config = CurateConfig(
        sources=(str(path),), metadata_fields=fields, validation_fraction=0, test_fraction=0, cut_characters=0
    )
    return curate(config=config, workspace=folder / "home")


def test_pairs_leave_out_what_is_empty_or_too_long(tmp_path, tokenizer):
    corpus = _corpus(tmp_path, [{"target": "w05"}, {"target": "  "}, {"target": "w07 " * 99}, {"target": " w09 "}])
    pairs, left_out = text_pairs(corpus, "train", tokenizer, target_field="target", max_length=50)
    assert len(pairs) == 2 and left_out == 2
    assert tokenizer.decode(pairs[1].target) == "w09" and tokenizer.decode(pairs[1].source).startswith("w01 w02")


def test_labels_are_sorted_numbers_by_value(tmp_path, tokenizer):
    corpus = _corpus(tmp_path, [{"label": value} for value in ("10", 2, "yes", -1, "2")])
    names = label_names(corpus, "label")
    assert names == ["-1", "2", "10", "yes"]
    made = labelled_texts(corpus, "train", tokenizer, field="label", names=names, max_length=20)
    assert [one.label for one in made] == [2, 1, 3, 0, 1]
    assert made[0].input_ids[0] == tokenizer.bos_id
    with pytest.raises(ConfigError, match="which training has not"):
        labelled_texts(corpus, "train", tokenizer, field="label", names=names[:2], max_length=20)


def test_values(tmp_path, tokenizer):
    corpus = _corpus(tmp_path, [{"value": 1.5}, {"value": "2"}])
    made = labelled_texts(corpus, "train", tokenizer, field="value", names=None, max_length=20)
    assert [one.label for one in made] == [1.5, 2.0]
    for value in ("nan", "inf", "two"):
        with pytest.raises(DataError, match="is no number"):
            number_of(value, "it")


def test_labels_that_only_look_like_numbers():
    assert sorted_labels({"10", "9", "--5", "²", "x"}, "label") == ["9", "10", "--5", "x", "²"]


def test_tags_stand_at_the_first_token_of_a_word(tmp_path, tokenizer):
    corpus = _corpus(tmp_path, [{"tags": ["A", "B", "A"]}])
    assert tag_names(corpus, "tags") == ["A", "B"]
    made = tagged_texts(corpus, "train", tokenizer, field="tags", names=["A", "B"], max_length=100)[0]
    assert len(made.input_ids) == len(made.label)
    assert [label for label in made.label if label >= 0] == [0, 1, 0]
    assert tokenizer.decode(made.input_ids) == "w01 w02 w00"
    short = tagged_texts(corpus, "train", tokenizer, field="tags", names=["A", "B"], max_length=3)[0]
    assert len(short.input_ids) == len(short.label) == 3


@pytest.mark.parametrize(
    ("row", "message"),
    [({"tags": ["A"]}, "3 words, 1 tags"), ({"tags": ["A", "C", "A"]}, "unknown tag 'C'")],
)
def test_tags_that_do_not_fit(tmp_path, tokenizer, row, message):
    corpus = _corpus(tmp_path, [row])
    with pytest.raises(DataError, match=message):
        tagged_texts(corpus, "train", tokenizer, field="tags", names=["A", "B"], max_length=100)


def test_mistakes_name_the_field(tmp_path, tokenizer):
    corpus = _corpus(tmp_path, [{"label": "a"}, {"label": ["b"]}])
    with pytest.raises(DataError, match='no field "nothing"; it has: label, line') as caught:
        documents_with(corpus, "train", "nothing")
    assert "metadata_fields" in caught.value.hint
    with pytest.raises(DataError, match="is no label"):
        label_names(corpus, "label")
    with pytest.raises(DataError, match="is not a text"):
        text_pairs(corpus, "train", tokenizer, target_field="label", max_length=9)
    one = _corpus(tmp_path, [{"label": "a"}, {"label": "a"}])
    with pytest.raises(DataError, match="1 distinct labels"):
        label_names(one, "label")
