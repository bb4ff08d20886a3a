"""What a language costs: against tiktoken and sentencepiece themselves, NumPy, SciPy, and counts made by hand."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import tiktoken
from scipy import stats
from tiktoken_ext import openai_public

from bloomery.tokenizer.opening import open_tokenizer
from bloomery.tokenizer.token_costs import (
    LanguageText,
    TokenKinds,
    measure_language,
    premium_of,
    unknown_id,
    words_of,
)
from bloomery.tokenizer.tokenizer import Tokenizer

TEXTS = ["wake me up at nine", "don't (ever) stop the música, 7 times", "réveille-moi à neuf heures", "ठीक है", "x"]


def _text(texts: list[str], language: str = "xx") -> LanguageText:
    places = np.arange(len(texts))
    return LanguageText(language, texts, places, places)


@pytest.fixture(scope="module")
def r50k(published: Callable[[str], bytes], tmp_path_factory: pytest.TempPathFactory):
    data = published("r50k_base.tiktoken.xz")
    path = tmp_path_factory.mktemp("r50k") / "r50k_base.tiktoken"
    path.write_bytes(data)
    ranks = {base64.b64decode(line.split()[0]): int(line.split()[1]) for line in data.splitlines()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openai_public, "load_tiktoken_bpe", lambda *_, **__: ranks)
        library = tiktoken.Encoding(**openai_public.r50k_base())
    return open_tokenizer(path).tokenizer, library


def test_counts_are_tiktokens(r50k: tuple[Tokenizer, tiktoken.Encoding], multilingual: list[str]):
    tokenizer, library = r50k
    texts = multilingual[::7]
    encoded = library.encode_ordinary_batch(texts)
    counts = np.array([len(ids) for ids in encoded])
    cost, tokens = measure_language(_text(texts), TokenKinds(tokenizer), None)
    assert tokens.tolist() == counts.tolist()
    assert (cost.tokens, cost.sentences, cost.max_tokens) == (counts.sum(), len(texts), counts.max())
    assert (cost.median_tokens, cost.mean_tokens) == (np.median(counts), pytest.approx(counts.mean()))
    # Nearest rank, by its definition: the least count that 90% do not exceed.
    assert (counts <= cost.p90_tokens).mean() >= 0.9 > (counts < cost.p90_tokens).mean()
    assert cost.tokens_per_byte == counts.sum() / sum(len(text.encode()) for text in texts)
    assert cost.tokens_per_character == counts.sum() / sum(map(len, texts))
    # Parts of characters: tokens whose bytes are no UTF-8 by themselves.
    parts = 0
    for index in (index for ids in encoded for index in ids):
        data = library.decode_single_token_bytes(index)
        parts += data.decode("utf-8", "ignore").encode() != data
    assert cost.byte_share == parts / counts.sum() and cost.unknown_share == 0
    assert cost.round_trip_failures == 0 and cost.first_failure is None
    whole = {character for character in set("".join(texts)) if len(library.encode_ordinary(character)) == 1}
    seen = Counter(c for text in texts for c in text if not c.isspace())
    assert cost.single_token_characters == pytest.approx(sum(seen[c] for c in whole) / seen.total())


def test_words_are_counted_as_they_stand(r50k: tuple[Tokenizer, tiktoken.Encoding]):
    tokenizer, library = r50k
    assert list(words_of("don't (ever) stop -- 7 times, ok?")) == [
        (False, "don't"),
        (False, "ever"),
        (True, "stop"),
        (True, "times"),
        (True, "ok"),
    ]
    texts = ["the furnace smelts iron", "the unbelievable furnaces"]
    cost, _ = measure_language(_text(texts), TokenKinds(tokenizer), None)
    words = ["the", " furnace", " smelts", " iron", "the", " unbelievable", " furnaces"]
    lengths = [len(library.encode_ordinary(word)) for word in words]
    assert (cost.words, cost.single_token_words) == (7, lengths.count(1) / 7)
    assert cost.tokens_per_word == pytest.approx(sum(lengths) / 7)
    # Every token of these texts belongs to one word, so that fertility is tokens over words.
    assert sum(lengths) == cost.tokens
    thai, _ = measure_language(_text(["ปลุกฉันตอนเก้าโมง"]), TokenKinds(tokenizer), None)
    assert (thai.script, thai.words, thai.single_token_words, thai.tokens_per_word) == ("Thai", None, None, None)


def test_unknowns_and_losses_are_sentencepieces(shared_data: Path, multilingual: list[str]):
    path = shared_data / "tokenizers" / "spm_test_model.model"
    library = sentencepiece.SentencePieceProcessor(model_file=str(path))
    tokenizer = open_tokenizer(path).tokenizer
    texts = multilingual[::23]
    cost, tokens = measure_language(_text(texts), TokenKinds(tokenizer), None)
    encoded = library.encode(texts)
    assert tokens.tolist() == [len(ids) for ids in encoded]
    unknown = sum(ids.count(library.unk_id()) for ids in encoded)
    assert unknown_id(tokenizer) == library.unk_id() and unknown > 0
    assert cost.unknown_share == unknown / cost.tokens and cost.byte_share == 0
    # It loses what is unknown, and folds what NFKC folds.
    lost = [any(i == library.unk_id() for i in ids) for ids in encoded]
    assert sum(lost) <= cost.round_trip_failures
    assert cost.failures_beyond_normalisation >= 0.9 * sum(lost)
    assert cost.first_failure is not None and cost.first_failure["sentence"] != cost.first_failure["came_back"]


def test_case_and_accents_are_losses_of_normalisation_only(shared_data: Path):
    tokenizer = open_tokenizer(shared_data / "tokenizers" / "bert-base-uncased_vocab.txt").tokenizer
    texts = ["Wake me up", "El Niño", "stop", "ok \U00013000"]  # the last: a hieroglyph, which BERT does not know
    cost, _ = measure_language(_text(texts), TokenKinds(tokenizer), None)
    assert (cost.round_trip_failures, cost.failures_beyond_normalisation) == (3, 1)
    assert cost.first_failure == {"sentence": texts[3], "came_back": tokenizer.decode(tokenizer.encode(texts[3]))}
    assert cost.byte_share is None and cost.unknown_share == 1 / cost.tokens


def test_byte_fallback_is_counted(llama2: Path):
    kinds = TokenKinds(Tokenizer.load(llama2))
    cost, _ = measure_language(_text(["漢"]), kinds, None)  # three bytes, and the space in front
    assert cost.byte_share == 3 / cost.tokens and cost.unknown_share == 0
    assert cost.single_token_characters == 0.0


def test_the_premium_is_a_ratio_of_sums_with_its_interval():
    """Against SciPy's bootstrap of the same ratio (percentiles of 4,000 resamples of whole sentences)."""
    rng = np.random.default_rng(0)
    reference = rng.poisson(8, 1500) + 1
    tokens = rng.poisson(3.2 * reference) + 1
    found = premium_of(tokens, reference)
    assert found["premium"] == tokens.sum() / reference.sum() and found["aligned"] == 1500
    assert found["median_premium"] == np.median(tokens / reference)

    def ratio(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
        return a.sum(axis) / b.sum(axis)

    boot = stats.bootstrap(
        (tokens, reference), ratio, paired=True, n_resamples=4000, method="percentile", rng=1
    ).confidence_interval
    width = boot.high - boot.low
    # The ends of a percentile interval of 4,000 resamples wander by about a twentieth of its width.
    assert found["premium_low"] == pytest.approx(boot.low, abs=0.07 * width)
    assert found["premium_high"] == pytest.approx(boot.high, abs=0.07 * width)
    assert premium_of(tokens[:0], reference[:0])["premium"] is None
    assert premium_of(tokens[:1], reference[:1])["premium_low"] is None
