"""Batches in words: labels where they stand, padding left out."""

from __future__ import annotations

import numpy as np

from bloomery.tokenizer import Tokenizer
from bloomery.training.batch_view import view_batch
from bloomery.training.objective import Batch


def test_tokens_with_their_labels(material):
    tokenizer = Tokenizer.load(material.tokenizer.path)
    a, b = tokenizer.encode("w01")[:2]
    arrays = {
        "input_ids": np.array([[0, a, b], [0, a, 0]]),
        "attention_mask": np.array([[1, 1, 1], [1, 1, 0]]),
        "labels": np.array([[-100, b, -100], [-100, -100, -100]]),
    }
    first, second = view_batch(Batch(arrays=arrays, weight=1, items=5), tokenizer)
    cells = first.inputs["input_ids"]
    assert [cell.id for cell in cells] == [0, a, b]
    assert [cell.label for cell in cells] == ["", tokenizer.decode([b]), ""]
    assert cells[0].text == "<|endoftext|>"
    assert [cell.id for cell in second.inputs["input_ids"]] == [0, a]


def test_labels_of_whole_rows_tags_and_other_arrays(material):
    tokenizer = Tokenizer.load(material.tokenizer.path)
    whole = {"input_ids": np.array([[5, 6]]), "labels": np.array([1]), "pixel_values": np.ones((1, 3, 4, 4))}
    view = view_batch(Batch(arrays=whole, weight=1, items=1), tokenizer, names=["no", "yes"])[0]
    assert view.answer == "yes" and view.others == {"pixel_values": "3 x 4 x 4 numbers from 1 to 1"}
    number = view_batch(Batch(arrays={**whole, "labels": np.array([1.5])}, weight=1, items=1), tokenizer)[0]
    assert number.answer == "1.5"
    tags = {"input_ids": np.array([[5, 6]]), "labels": np.array([[-100, 0]])}
    cells = view_batch(Batch(arrays=tags, weight=1, items=1), tokenizer, names=["N", "V"])[0].inputs["input_ids"]
    assert [cell.label for cell in cells] == ["", "N"]


def test_sources_and_targets(material):
    tokenizer = Tokenizer.load(material.tokenizer.path)
    arrays = {
        "source_ids": np.array([[5, 6, 0]]),
        "source_mask": np.array([[1, 1, 0]]),
        "decoder_input_ids": np.array([[0, 7, 0]]),
        "labels": np.array([[7, 0, -100]]),
        "same": np.array([[True, False]]),
    }
    view = view_batch(Batch(arrays=arrays, weight=2, items=4), tokenizer)[0]
    assert [cell.id for cell in view.inputs["source_ids"]] == [5, 6]
    assert [cell.label for cell in view.inputs["decoder_input_ids"]] == [tokenizer.decode([7]), "<|endoftext|>"]
    assert view.others == {"same": "0"} and view.to_dict()["answer"] == ""
