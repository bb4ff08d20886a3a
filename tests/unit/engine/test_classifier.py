"""Labels of texts and images by small classifiers and decoders with a head, loaded from their folders."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import bloomery as bl
from bloomery.core.errors import ConfigError, DataError, RequestError
from bloomery.engine import Classifier, load_language_model
from bloomery.tokenizer import Tokenizer, TokenizerConfig
from bloomery.tokenizer.train import learn, write_tokenizer
from bloomery.training.building import NetConfig, build
from bloomery.training.picture_building import build_seeing, processor
from bloomery.training.publishing import save_model


def _folder(place, family: str, objective: str = "classes", num_labels: int = 3):
    write_tokenizer(learn(["some words"] * 5, TokenizerConfig(vocab_size=300)), place)
    torch.manual_seed(0)
    net = NetConfig(family=family, hidden_size=32, num_hidden_layers=1)
    model = build(objective, net, Tokenizer.load(place), context_length=16, num_labels=num_labels).eval()
    save_model(model, place)
    if objective == "classes":
        (place / "labels.json").write_text(json.dumps(["x", "y", "z"]))
    return place, model


@pytest.mark.parametrize("family", ["mean", "conv", "qwen3"])
def test_texts(tmp_path, family):
    place, model = _folder(tmp_path, family)
    loaded = bl.load(place, device="cpu")
    assert isinstance(loaded, Classifier)
    found = loaded.classify("some more words")
    ids = torch.tensor([loaded.reader.encode_with_special("some more words")[0]])  # type: ignore[union-attr]
    with torch.no_grad():
        expected = model(ids)[0].log_softmax(-1)
    assert {one.text: one.logprob for one in found} == pytest.approx(
        {name: float(value) for name, value in zip("xyz", expected, strict=True)}, abs=1e-5
    )
    assert [one.logprob for one in found] == sorted((one.logprob for one in found), reverse=True)
    assert len(loaded.classify("words " * 99, top=1)) == 1
    with pytest.raises(ConfigError, match="classifier"):
        load_language_model(place)
    with pytest.raises(RequestError, match="top"):
        loaded.classify("x", top=0)
    for text, said in ((3, "a text is a string, not int"), (["a"], "a text is a string, not list"), ("  ", "empty")):
        with pytest.raises(RequestError, match=said):
            loaded.classify(text)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match=r"a classifier of texts: it has no value"):
        loaded.value("x")
    (place / "labels.json").write_text("{}")
    with pytest.raises(DataError, match="list of names"):
        bl.load(place, device="cpu")


def test_images(tmp_path):
    pytest.importorskip("PIL")
    model = build_seeing("classes", NetConfig(family="conv", image_size=16), None, context_length=8, num_labels=2)
    save_model(model, tmp_path)
    processor(16).to_folder(tmp_path)
    loaded = bl.load(tmp_path, device="cpu")
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    assert {one.text for one in loaded.classify(picture)} == {"LABEL_0", "LABEL_1"}
    with pytest.raises(DataError):
        loaded.classify(b"no image")
    with pytest.raises(RequestError, match="one image at a time, not a list of 2"):
        loaded.classify([picture, picture])  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["mean", "conv", "qwen3"])
def test_numbers_of_texts(tmp_path, family):
    place, model = _folder(tmp_path, family, objective="values", num_labels=1)
    loaded = bl.load(place, device="cpu")
    assert isinstance(loaded, Classifier)
    ids = loaded.reader.encode_with_special("some more words")[0]  # type: ignore[union-attr]
    with torch.no_grad():
        assert loaded.value("some more words") == pytest.approx(model(torch.tensor([ids]))[0, 0].item(), abs=1e-5)
    with pytest.raises(RequestError, match=r"gives a text a number: it has no classify") as caught:
        loaded.classify("some more words")
    assert caught.value.hint == "it has value"


def test_a_decoders_number_is_the_references(tmp_path):
    from transformers import LlamaConfig, LlamaForSequenceClassification

    write_tokenizer(learn(["some words"] * 5, TokenizerConfig(vocab_size=300)), tmp_path)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    theirs = LlamaForSequenceClassification(LlamaConfig(**sizes, vocab_size=300, num_labels=1, pad_token_id=0)).eval()
    theirs.save_pretrained(tmp_path)
    loaded = bl.load(tmp_path, device="cpu")
    assert isinstance(loaded, Classifier)
    ids = loaded.reader.encode_with_special("some more words")[0]  # type: ignore[union-attr]
    with torch.no_grad():
        expected = theirs(input_ids=torch.tensor([ids])).logits.item()
    assert loaded.value("some more words") == pytest.approx(expected, abs=1e-5)


def test_numbers_of_images(tmp_path):
    pytest.importorskip("PIL")
    model = build_seeing("values", NetConfig(family="conv", image_size=16), None, context_length=8, num_labels=1).eval()
    save_model(model, tmp_path)
    processor(16).to_folder(tmp_path)
    loaded = bl.load(tmp_path, device="cpu")
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    with torch.no_grad():
        assert loaded.value(picture) == pytest.approx(model(processor(16)(picture))[0, 0].item(), abs=1e-5)
    with pytest.raises(RequestError, match=r"gives an image a number: it has no classify"):
        loaded.classify(picture)
