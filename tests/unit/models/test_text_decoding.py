"""Greedy and beam search: one beam is greedy, as many as there are texts is exhaustive, and what transformers finds."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bloomery.core.errors import RequestError
from bloomery.models.recurrent import RecurrentConfig, RecurrentSeq2Seq
from bloomery.models.seq2seq import Seq2Seq, load_seq2seq
from bloomery.models.seq2seq_config import Seq2SeqConfig
from bloomery.models.text_decoding import MAX_LENGTH_PENALTY, Hypothesis, beam_search, greedy

BOS, EOS = 1, 2


def _recurrent(vocabulary: int, context: str = "additive") -> RecurrentSeq2Seq:
    torch.manual_seed(0)
    sizes = {"source_vocab_size": 12, "target_vocab_size": vocabulary, "embedding_size": 8, "hidden_size": 16}
    net = RecurrentSeq2Seq(RecurrentConfig(**sizes, context=context))
    with torch.no_grad():
        for parameter in net.parameters():  # opinions strong enough that the source and the past matter
            parameter.mul_(3.0)
    return net.eval()


def _transformer(vocabulary: int) -> Seq2Seq:
    torch.manual_seed(0)
    small = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 2}
    return Seq2Seq(Seq2SeqConfig(vocab_size=vocabulary, eos_token_id=EOS, **small)).eval()


def _source(rows: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    source = torch.randint(3, 5, (rows, 6), generator=generator)
    source[1:, 4:] = 0
    return source


def _start(net: Any, source: Tensor) -> Any:
    return net.start(source, (source != 0).long()) if isinstance(net, Seq2Seq) else net.encode(source)


def _every_text(net: Any, source: Tensor, vocabulary: int, depth: int, penalty: float) -> list[tuple[list[int], float]]:
    """All texts of one source with their scores, by the teacher-forced forward: nothing is searched."""
    others = [token for token in range(vocabulary) if token != EOS]
    texts = [[*words, EOS] for size in range(depth) for words in itertools.product(others, repeat=size)]
    texts += [list(words) for words in itertools.product(others, repeat=depth)]
    found = []
    for text in texts:
        target = torch.tensor([[BOS, *text[:-1]]])
        mask = (source != 0).long()
        logits = net(source, target, mask) if isinstance(net, Seq2Seq) else net(source, target)
        logprob = logits[0].log_softmax(-1).gather(1, torch.tensor(text)[:, None]).sum()
        ids = text[:-1] if text[-1] == EOS else text
        found.append((ids, float(logprob) / len(text) ** penalty))
    return sorted(found, key=lambda one: -one[1])


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("kind", ["additive", "state", "transformer"])
@torch.inference_mode()
def test_with_beams_for_every_text_it_is_exhaustive(kind: str, penalty: float):
    vocabulary, depth = 5, 3
    net = _transformer(vocabulary) if kind == "transformer" else _recurrent(vocabulary, kind)
    source = _source()
    first = torch.full((3,), BOS)
    options: dict[str, Any] = {"eos_token_id": EOS, "max_new_tokens": depth, "length_penalty": penalty}
    found = beam_search(net, _start(net, source), first, num_beams=vocabulary**depth, **options)
    for row, texts in enumerate(found):
        expected = _every_text(net, source[row : row + 1], vocabulary, depth, penalty)
        assert {tuple(text.token_ids) + (EOS,) * text.ended for text in texts} == {
            tuple(ids) + (EOS,) * (len(ids) < depth) for ids, _ in expected
        }
        got = [text.score for text in texts]
        assert got == sorted(got, reverse=True)
        # Step by step and all at once differ by rounding.
        torch.testing.assert_close(torch.tensor(got), torch.tensor([score for _, score in expected]), atol=1e-4, rtol=0)
        assert texts[0].token_ids == expected[0][0]


@pytest.mark.parametrize("kind", ["additive", "dot", "every_step", "state", "transformer"])
@torch.inference_mode()
def test_one_beam_is_greedy(kind: str):
    net = _transformer(7) if kind == "transformer" else _recurrent(7, kind)
    source, first = _source(8), torch.full((8,), BOS)
    options: dict[str, Any] = {"eos_token_id": EOS, "max_new_tokens": 9, "attention": True}
    one = [texts[0] for texts in beam_search(net, _start(net, source), first, num_beams=1, **options)]
    plain = greedy(net, _start(net, source), first, **options)
    for a, b in zip(one, plain, strict=True):
        assert (a.token_ids, a.ended) == (b.token_ids, b.ended)
        assert a.logprob == pytest.approx(b.logprob, abs=1e-5) and a.score == pytest.approx(b.score, abs=1e-5)
        assert (a.weights is None) == (b.weights is None)
        if a.weights is not None and b.weights is not None:
            torch.testing.assert_close(a.weights, b.weights)


@torch.inference_mode()
def test_a_text_in_a_batch_is_the_text_alone():
    net, source = _recurrent(9), _source(6)
    options: dict[str, Any] = {"eos_token_id": EOS, "max_new_tokens": 8, "num_beams": 3}
    together = beam_search(net, net.encode(source), torch.full((6,), BOS), **options)
    for row in range(6):
        alone = beam_search(net, net.encode(source[row : row + 1]), torch.full((1,), BOS), **options)[0]
        assert [text.token_ids for text in alone] == [text.token_ids for text in together[row]]


@torch.inference_mode()
def test_weights_and_scores_are_those_of_the_text():
    """Each hypothesis again, teacher forced: the same log probability, the same weights for each of its tokens."""
    net, source = _recurrent(9), _source()
    found = beam_search(
        net, net.encode(source), torch.full((3,), BOS), eos_token_id=EOS, max_new_tokens=6, num_beams=4, attention=True
    )
    for row, texts in enumerate(found):
        assert len(texts) == 4
        for text in texts:
            state, token, total, seen = net.encode(source[row : row + 1]), BOS, 0.0, []
            for following in [*text.token_ids, *([EOS] if text.ended else [])]:
                logits, state, weights = net.step(state, torch.tensor([token]))
                assert weights is not None
                total += float(logits.log_softmax(-1)[0, following])
                seen.append(weights[0])
                token = following
            assert text.logprob == pytest.approx(total, abs=1e-4)
            assert text.score == pytest.approx(total / len(seen), abs=1e-4)
            if text.token_ids:
                assert text.weights is not None
                width = seen[0].numel()
                torch.testing.assert_close(
                    text.weights[:, :width], torch.stack(seen[: len(text.token_ids)]), atol=1e-5, rtol=0
                )


@torch.inference_mode()
def test_more_beams_find_no_worse_a_text():
    """Not a theorem, but so here: what greedy search gives is far from the most probable text."""
    net, source = _recurrent(9), _source()
    best = []
    for beams in (1, 3, 81):
        options: dict[str, Any] = {"eos_token_id": EOS, "max_new_tokens": 4, "num_beams": beams}
        best.append(beam_search(net, net.encode(source), torch.full((3,), BOS), **options)[0][0].score)
    assert best[0] <= best[1] <= best[2] and best[0] < best[2]


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
def test_transformers_finds_the_same(penalty: float, tmp_path: Path):
    """The four best of four beams, of a T5 v1.1 with random weights, under which texts end at many lengths."""
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": 13, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    kind: dict[str, Any] = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
    theirs = T5ForConditionalGeneration(T5Config(**sizes, **kind, decoder_start_token_id=0)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.4)
    theirs.save_pretrained(tmp_path)
    ours = load_seq2seq(tmp_path)
    source = torch.randint(2, 13, (5, 7))
    out: Any = theirs.generate(
        input_ids=source,
        attention_mask=torch.ones_like(source),
        num_beams=4,
        num_return_sequences=4,
        max_new_tokens=10,
        length_penalty=penalty,
        do_sample=False,
        early_stopping=False,
        eos_token_id=EOS,
        output_scores=True,
        return_dict_in_generate=True,
    )
    options: dict[str, Any] = {"eos_token_id": EOS, "max_new_tokens": 10, "num_beams": 4, "length_penalty": penalty}
    found = beam_search(ours, ours.start(source), torch.zeros(5, dtype=torch.int64), **options)
    flat = [text for texts in found for text in texts]
    assert len({len(text.token_ids) for text in flat}) > 3
    for text, ids, score in zip(flat, out.sequences.tolist(), out.sequences_scores.tolist(), strict=True):
        expected = ids[1:]
        assert text.token_ids == (expected[: expected.index(EOS)] if EOS in expected else expected)
        assert text.score == pytest.approx(score, abs=1e-4)


class _Rows:
    def __init__(self, depth: int) -> None:
        self.depth = depth

    def select(self, rows: Tensor) -> _Rows:
        return self


class _AlwaysEnds:
    """Nothing but the end token is possible."""

    def step(self, state: _Rows, token_ids: Tensor) -> tuple[Tensor, _Rows, None]:
        logits = torch.full((len(token_ids), 4), -torch.inf)
        logits[:, EOS] = 0.0
        return logits, _Rows(state.depth + 1), None


def test_where_only_the_end_is_possible():
    first = torch.full((2,), BOS)
    empty = Hypothesis(token_ids=[], logprob=0.0, score=0.0, ended=True)
    options: dict[str, Any] = {"eos_token_id": EOS, "max_new_tokens": 5}
    assert beam_search(_AlwaysEnds(), _Rows(0), first, num_beams=3, **options) == [[empty], [empty]]
    assert greedy(_AlwaysEnds(), _Rows(0), first, **options) == [empty, empty]


def test_mistakes():
    model, first = _AlwaysEnds(), torch.full((2,), BOS)
    with pytest.raises(RequestError, match="max_new_tokens"):
        greedy(model, _Rows(0), first, eos_token_id=EOS, max_new_tokens=0)
    with pytest.raises(RequestError, match="num_beams"):
        beam_search(model, _Rows(0), first, eos_token_id=EOS, max_new_tokens=3, num_beams=0)
    with pytest.raises(RequestError, match="first"):
        beam_search(model, _Rows(0), first[None], eos_token_id=EOS, max_new_tokens=3)
    for penalty in (11.0, -100.0, float("nan")):
        with pytest.raises(RequestError, match="length_penalty"):
            beam_search(model, _Rows(0), first, eos_token_id=EOS, max_new_tokens=3, length_penalty=penalty)


class _NeverEnds:
    """Always the same token."""

    def step(self, state: _Rows, token_ids: Tensor) -> tuple[Tensor, _Rows, None]:
        logits = torch.zeros(len(token_ids), 4)
        logits[:, 3] = 9.0
        return logits, state, None


@pytest.mark.parametrize("penalty", [-MAX_LENGTH_PENALTY, MAX_LENGTH_PENALTY])
def test_the_strongest_penalties_are_numbers_for_long_texts(penalty: float):
    """`length ** penalty` and its inverse: of two thousand tokens to the power of a hundred they are not."""
    options: dict[str, Any] = {"eos_token_id": EOS, "max_new_tokens": 2000, "num_beams": 2, "length_penalty": penalty}
    ((best, _),) = beam_search(_NeverEnds(), _Rows(0), torch.full((1,), BOS), **options)
    assert len(best.token_ids) == 2000 and best.score == pytest.approx(best.logprob / 2000**penalty)
