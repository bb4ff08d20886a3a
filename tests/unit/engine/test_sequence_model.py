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
from bloomery.tokenizer import Tokenizer, TokenizerConfig, TokenizerPair
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


def test_what_it_cost(folder):
    from bloomery.core.quantity import Quantity

    class Meter:
        """Two joules at each reading."""

        spent = 0.0

        def read(self):
            self.spent += 2.0
            return Quantity.exact(self.spent, "counter")

        def close(self):
            self.closed = True

    loaded = bl.load(folder, device="cpu")
    model = SequenceModel(loaded.model, loaded.tokenizer, name="m", meter=Meter())  # type: ignore[union-attr,arg-type]
    loaded.close()
    for beams in (1, 3):
        found = model.translate(TEXTS, beams=beams, max_new_tokens=8, batch_size=2)
        for one in found:
            ids = [*one.token_ids, *([model.model.config.eos_token_id] if one.finish_reason == "stop" else [])]
            assert one.completion_tokens == one.timings.new_tokens == len(ids)
            assert one.timings.prefill_seconds > 0 and one.timings.decode_seconds > 0
            assert one.timings.tokens_per_second == pytest.approx(len(ids) / one.timings.decode_seconds)
            assert one.logprob < 0 and one.energy.central == one.prefill_energy.central + one.decode_energy.central
        # Two joules for each phase of each of two batches, whoever computes.
        assert sum(one.energy.central for one in found) == pytest.approx(8.0)
    model.close()


def test_logprob_is_what_the_model_says(folder):
    """The sum over the target's tokens, each given the true ones before it, by the training forward pass."""
    model = bl.load(folder, device="cpu")
    net, config = model.model, model.model.config
    for beams in (1, 3):
        one = model.translate(TEXTS[1], beams=beams, max_new_tokens=8)[0]
        source = torch.tensor([net.source_ids(model.tokenizer.encode(TEXTS[1]))])
        labels = [*one.token_ids, *([config.eos_token_id] if one.finish_reason == "stop" else [])]
        begun = torch.tensor([[net.start_token_id, *labels[:-1]]])
        with torch.no_grad():
            logits = net(source, begun, torch.ones_like(source)) if isinstance(net, Seq2Seq) else net(source, begun)
        logprobs = logits[0].log_softmax(-1)[range(len(labels)), labels]
        assert one.logprob == pytest.approx(float(logprobs.sum()), abs=1e-4)


def test_two_tokenizers(tmp_path):
    """A source vocabulary and a target vocabulary of different sizes, through a folder, an artifact and an export."""
    sources, targets = tmp_path / "s", tmp_path / "t"
    for place, size, texts in ((sources, 320, TEXTS), (targets, 290, ["das Haus am Fluß", "ein Hund läuft"])):
        place.mkdir()
        write_tokenizer(learn(texts * 5, TokenizerConfig(vocab_size=size)), place)
    pair = TokenizerPair(Tokenizer.load(sources), Tokenizer.load(targets))
    torch.manual_seed(0)
    net = NetConfig(family="lstm", hidden_size=32, num_hidden_layers=1)
    model = build("sequence", net, pair.source, context_length=32, target=pair.target).eval()
    assert isinstance(model, RecurrentSeq2Seq) and model.config.source_vocab_size == pair.source.vocab_size
    assert model.config.target_vocab_size == pair.target.vocab_size < pair.source.vocab_size
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.5)
    folder = tmp_path / "model"
    save_model(model, folder)
    pair.save(folder)
    made = import_model(folder, workspace=tmp_path / "home")
    said: list[str] = []
    out = export_model(made, tmp_path / "out", workspace=tmp_path / "home", note=said.append)
    assert len(said) == 1 and "only bloomery" in said[0]
    answers = []
    for place in (folder, made, out):
        loaded = bl.load(place, device="cpu")
        assert isinstance(loaded, SequenceModel)
        assert loaded.target_tokenizer.vocab_size == pair.target.vocab_size
        assert loaded.tokenizer.vocab_size == pair.source.vocab_size
        answers.append(loaded.translate(TEXTS, max_new_tokens=6))
    assert answers[0] == answers[1] == answers[2]
    assert all(one.text == pair.target.decode(one.token_ids) for one in answers[0])
    # Nothing of it goes missing: another target's tokenizer is another model.
    (folder / "target" / "tokenizer_config.json").write_text("{}")
    assert import_model(folder, workspace=tmp_path / "home").id != made.id
    with pytest.raises(ConfigError, match="one tokenizer"):
        build("sequence", NetConfig(family="t5"), pair.source, context_length=32, target=pair.target)


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


def test_it_is_looked_into_as_it_is_served(folder):
    """The glass box reads the tokens that `translate` reads, and begins a target as it does."""
    from bloomery.engine import open_glass_box

    model, box = bl.load(folder, device="cpu"), open_glass_box(folder, device="cpu")
    view = box.attention(TEXTS[1], target=TEXTS[0], cross=True)
    read = model.model.source_ids(model.tokenizer.encode(TEXTS[1]))
    assert [key.token_id for key in view.keys] == read
    assert sum(key.weight for key in view.keys) == pytest.approx(1.0, abs=1e-5)


def test_calls_at_the_same_time_share_steps(folder):
    """Greedy and beams, of any lengths: the same texts, and fewer steps than each needs alone."""
    from concurrent.futures import ThreadPoolExecutor

    model = bl.load(folder, device="cpu")
    asked = [(text, beams) for text in TEXTS for beams in (1, 3)]
    alone = [model.translate(text, beams=beams, max_new_tokens=12)[0] for text, beams in asked]
    steps = model.stats()[1].steps
    with ThreadPoolExecutor(len(asked)) as pool:
        found = list(pool.map(lambda one: model.translate(one[0], beams=one[1], max_new_tokens=12)[0], asked))
    assert [one.token_ids for one in found] == [one.token_ids for one in alone]
    assert [one.logprob for one in found] == pytest.approx([one.logprob for one in alone], abs=1e-3)
    encoding, decoding = model.stats()
    assert encoding.asked == 2 * len(asked) and decoding.most > 1
    assert decoding.steps - steps < steps
    assert all(one.timings.prefill_seconds > 0 and one.timings.decode_seconds > 0 for one in found)
