"""Texts for texts: in any order and batch the same, greedy and beams as transformers, loaded, exported, refused."""

from __future__ import annotations

import json

import pytest
import torch

import bloomery as bl
from bloomery.core.errors import BloomeryError, ConfigError, RequestError
from bloomery.engine import SequenceModel, export_model, import_model, load_language_model
from bloomery.models.recurrent import RecurrentSeq2Seq
from bloomery.models.seq2seq import Seq2Seq
from bloomery.tokenizer import Tokenizer, TokenizerConfig
from bloomery.tokenizer.train import learn, write_tokenizer
from bloomery.training.building import NetConfig, build
from bloomery.training.publishing import save_model

TEXTS = ["the cat", "a dog runs over the hill", "house", "the small house on the hill by the river"]


@pytest.fixture(scope="module", params=["t5", "gru"])
def folder(request, tmp_path_factory):
    place = tmp_path_factory.mktemp(request.param)
    write_tokenizer(learn(TEXTS * 5, TokenizerConfig(vocab_size=300)), place)
    torch.manual_seed(0)
    net = NetConfig(family=request.param, hidden_size=32, num_hidden_layers=1)
    model = build("sequence", net, Tokenizer.load(place), context_length=32).eval()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, 0.0, 0.5)
    save_model(model, place)
    return place


def test_order_and_batches_do_not_matter(folder):
    model = bl.load(folder, device="cpu")
    assert isinstance(model, SequenceModel) and isinstance(model.model, (Seq2Seq, RecurrentSeq2Seq))
    for beams in (1, 3):
        whole = model.translate(TEXTS, beams=beams, max_new_tokens=8)
        single = [model.translate(text, beams=beams, max_new_tokens=8)[0] for text in TEXTS]
        assert [one.token_ids for one in whole] == [one.token_ids for one in single]
        assert [one.logprob for one in whole] == pytest.approx([one.logprob for one in single], abs=1e-3)
        assert all(one.finish_reason in ("stop", "length") and one.source_tokens for one in whole)
    greedy, beam = (model.translate(TEXTS[1], beams=n, max_new_tokens=8, length_penalty=0.0)[0] for n in (1, 8))
    assert beam.logprob >= greedy.logprob - 1e-5


def test_the_same_text_as_transformers(folder):
    if json.loads((folder / "config.json").read_text())["model_type"] != "t5":
        pytest.skip("transformers has no recurrent nets")
    from transformers import AutoTokenizer, T5ForConditionalGeneration

    theirs = T5ForConditionalGeneration.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = bl.load(folder, device="cpu")
    for text in TEXTS:
        ids = [*tokenizer(text, add_special_tokens=False).input_ids, theirs.config.eos_token_id]
        for beams in (1, 4):
            made = theirs.generate(
                torch.tensor([ids]), max_new_tokens=8, num_beams=beams, do_sample=False, length_penalty=1.0
            )[0]
            expected = tokenizer.decode(made, skip_special_tokens=True)
            assert model.translate(text, beams=beams, max_new_tokens=8)[0].text == expected


def test_in_and_out(folder, tmp_path):
    made = import_model(folder, workspace=tmp_path / "home")
    assert made.kind == "seq2seq" and made.metrics["vocab_size"] > 0
    out = export_model(made, tmp_path / "out", workspace=tmp_path / "home")
    want = bl.load(folder, device="cpu").translate(TEXTS, max_new_tokens=6)
    assert bl.load(out, device="cpu").translate(TEXTS, max_new_tokens=6) == want
    with pytest.raises(ConfigError, match="texts for texts"):
        load_language_model(out)


@pytest.mark.parametrize(
    ("texts", "options"),
    [("x", {"beams": 0}), ("x", {"max_new_tokens": 0}), ([3], {}), ("word " * 5000, {}), ("x", {"batch_size": True})],
)
def test_mistakes(folder, texts, options):
    with pytest.raises(RequestError):
        bl.load(folder, device="cpu").translate(texts, **options)


def test_an_empty_text(folder):
    model = bl.load(folder, device="cpu")
    try:
        assert model.translate("", max_new_tokens=4)[0].source_tokens == 1
    except BloomeryError as error:
        assert "empty" in error.message
