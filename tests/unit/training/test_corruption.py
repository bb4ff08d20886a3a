"""Blanks, spans and middles: shares, round trips, and the length statistics of the published descriptions."""

from __future__ import annotations

import numpy as np
import pytest

from bloomery.core.errors import ConfigError
from bloomery.training.corruption import (
    MaskingConfig,
    MiddleConfig,
    MiddleTokens,
    SpanConfig,
    WordEdges,
    corrupt_spans,
    mask_tokens,
    move_middle,
)

IDS = np.arange(10, 10 + 4 * 50).reshape(4, 50)
SENTINELS = np.arange(900, 1000)


def _mask(config: MaskingConfig, ids: np.ndarray = IDS, seed: int = 0, edges: WordEdges | None = None):
    maskable = np.ones(ids.shape, dtype=bool)
    maskable[:, 0] = False
    rng = np.random.default_rng(seed)
    return mask_tokens(ids, maskable, rng, config, mask_id=5, random_ids=np.array([6, 7]), edges=edges)


def test_blanks_have_the_share_and_labels_their_tokens():
    seen, labels = _mask(MaskingConfig(share=0.3))
    blank = labels != -100
    assert (blank.sum(1) == round(0.3 * 49)).all() and not blank[:, 0].any()
    assert (labels[blank] == IDS[blank]).all() and (seen[blank] == 5).all() and (seen[~blank] == IDS[~blank]).all()
    assert not np.array_equal(labels, _mask(MaskingConfig(share=0.3), seed=1)[1])


def test_80_10_10():
    ids = np.full((200, 101), 42)
    seen, labels = _mask(MaskingConfig(share=0.5, replace="80/10/10"), ids)
    got = seen[labels != -100]
    counts = [(got == 5).mean(), np.isin(got, (6, 7)).mean(), (got == 42).mean()]
    # 10,000 blanks: three standard deviations of a share of .8 are .012.
    assert counts == pytest.approx([0.8, 0.1, 0.1], abs=0.012)


class _Words:
    """A vocabulary in which odd ids go on with the word before."""

    vocab_size = 300
    special_ids = frozenset({0})

    def token_text(self, index: int) -> str:
        return "##x" if index % 2 else "x"


def test_whole_words():
    edges = WordEdges(_Words())  # type: ignore[arg-type]
    _, labels = _mask(MaskingConfig(share=0.3, whole_words=True), edges=edges)
    blank = labels != -100
    # Ids count up from an even one: places (2, 3), (4, 5), ... are words, and place 0 is not maskable.
    assert np.array_equal(blank[:, 2::2], blank[:, 3::2])
    assert ((blank.sum(1) >= 15) & (blank.sum(1) <= 16)).all()


class _Bytes:
    """A few tokens as a byte-level vocabulary spells them."""

    texts = ("<s>", "Ġthe", "Ġcat", "s", ".", "Ċ", "No", "Ġ", "é", "10")
    vocab_size = len(texts)
    special_ids = frozenset({0})

    def token_text(self, index: int) -> str:
        return self.texts[index]


def test_words_of_a_byte_level_vocabulary():
    row = np.array([0, 1, 2, 3, 4, 5, 6, 8, 7, 9, 0, 3])
    # <s> | the | cat s | . | newline | No é | space | 10 | <s> | s
    assert WordEdges(_Bytes()).words(row).tolist() == [0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 9]  # type: ignore[arg-type]


def test_spans_give_the_text_back():
    rng = np.random.default_rng(0)
    for length in (2, 3, 7, 60, 512):
        ids = np.arange(100, 100 + length)
        source, target = corrupt_spans(ids, rng, SpanConfig(), sentinels=SENTINELS, end_id=1)
        assert source[-1] == 1 and target[-1] == 1
        spans: dict[int, list[int]] = {}
        for token in target[:-1].tolist():
            if token >= 900:
                spans[token] = []
            else:
                spans[list(spans)[-1]].append(token)
        assert spans.pop(max(spans)) == []  # the last sentinel closes the target
        restored = [t for token in source[:-1].tolist() for t in (spans[token] if token >= 900 else [token])]
        assert restored == ids.tolist()
        taken = sum(len(span) for span in spans.values())
        assert taken == min(max(round(0.15 * length), 1), length - 1)
        assert len(spans) == max(1, round(taken / 3)) and all(spans.values())
    # T5: 568 raw tokens with 15% in spans of 3 are 512 source and 114 target tokens (Raffel et al., input length 512).
    source, target = corrupt_spans(np.arange(100, 668), rng, SpanConfig(), sentinels=SENTINELS, end_id=1)
    assert (len(source), len(target)) == (512, 115)  # their code's 114 leaves the closing sentinel out


def test_spans_need_two_tokens():
    with pytest.raises(ConfigError, match="too few"):
        corrupt_spans(np.array([7]), np.random.default_rng(0), SpanConfig(), sentinels=SENTINELS, end_id=1)


def test_middles_give_the_text_back_in_both_orders():
    rng, tokens = np.random.default_rng(0), MiddleTokens(1, 2, 3)
    ids = np.arange(10, 40)
    kinds = {"as it was": 0, "prefix first": 0, "suffix first": 0}
    for _ in range(400):
        moved, was = move_middle(ids, rng, MiddleConfig(), tokens)
        row = moved.tolist()
        if not was:
            kinds["as it was"] += 1
            assert row == ids.tolist()
        elif row[1] == 3:
            kinds["suffix first"] += 1
            at = row.index(2)
            assert row[0] == 1 and row[at + 1 :] + row[2:at] == ids.tolist()
        else:
            kinds["prefix first"] += 1
            suffix, middle = row.index(3), row.index(2)
            assert row[0] == 1 and row[1:suffix] + row[middle + 1 :] + row[suffix + 1 : middle] == ids.tolist()
    # 400 draws at .5, .25, .25: four standard deviations are 40 and 35.
    assert abs(kinds["as it was"] - 200) < 40 and abs(kinds["prefix first"] - 100) < 35


@pytest.mark.parametrize(
    "make", [lambda: MaskingConfig(share=0), lambda: SpanConfig(mean_length=0.5), lambda: MiddleConfig(rate=1.5)]
)
def test_configs_are_checked(make):
    with pytest.raises(ConfigError):
        make()
