"""Where texts are cut, and windows of long ones: as lm-evaluation-harness does both."""

from __future__ import annotations

import itertools

import pytest

from bloomery.core.errors import RequestError
from bloomery.core.likelihood import Likelihood, Pair, moved, pair_ids, together, windows
from bloomery.core.messages import Usage
from bloomery.core.quantity import Quantity


@pytest.mark.parametrize("length", [1, 2, 5, 7])
@pytest.mark.parametrize("count", [1, 2, 6, 7, 8, 15, 21])
def test_windows_are_those_of_lm_eval(length: int, count: int):
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

    ids = list(range(100, 100 + count))
    theirs = list(map(make_disjoint_window, get_rolling_token_windows(ids, 1, length, 1)))
    ours = [(part[: len(part) - scored], part[len(part) - scored :]) for part, scored in windows(ids, 1, length)]
    assert ours == theirs
    assert [one for _, scored in ours for one in scored] == ids
    assert list(windows([], 1, 5)) == []


def words(text: str, *, add_bos: bool = False) -> list[int]:
    """A tokenizer in which " a" is another token than "a": each text up to a space is one."""
    starts = [0, *(place for place, c in enumerate(text) if c == " " and place), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(starts)] if text else []
    return ([1] if add_bos else []) + [sum(map(ord, piece)) + 10 for piece in pieces]


@pytest.mark.parametrize("pair", [Pair("a b", " c d"), Pair("a b ", "c"), Pair("a \n ", " x"), Pair("ab", "c")])
@pytest.mark.parametrize("bos", [False, True])
def test_pairs_are_cut_as_lm_eval_cuts_them(pair: Pair, bos: bool):
    from lm_eval.api.model import TemplateLM

    class Theirs(TemplateLM):
        def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs) -> list[int]:
            return words(string, add_bos=bos)

        eot_token_id = _loglikelihood_tokens = loglikelihood_rolling = generate_until = None  # type: ignore[assignment]

    before, after = Theirs()._encode_pair(*pair)
    ids, count = pair_ids(words, pair, 1, adds_bos=bos)
    if after:
        assert (ids[: len(ids) - count], ids[len(ids) - count :]) == (before, after)
    else:  # the continuation became part of the context's last token, which is then scored
        assert count == 1


def test_texts_without_a_context():
    assert pair_ids(words, Pair("", "a b"), 1, adds_bos=True) == ([1, *words("a b")], 2)
    assert pair_ids(words, Pair("  ", "a"), 1) == ([1, *words("  a")], len(words("  a")))
    assert pair_ids(lambda text, **_: [1, 2, 3], Pair("", "x"), 1) == ([1, 2, 3], 2)  # begins with it itself
    assert moved(Pair("a \n", "b")) == Pair("a", " \nb")
    with pytest.raises(RequestError):
        pair_ids(words, Pair("a", ""), 1)


def test_windows_together():
    def one(nats: float, greedy: bool) -> Likelihood:
        usage = Usage(prompt_tokens=3, completion_tokens=0, energy_joules=Quantity.exact(2.0, "counter"))
        return Likelihood(nats=nats, tokens=2, greedy=greedy, usage=usage, seconds=0.5)

    whole = together([one(-1.0, True), one(-2.0, False)])
    assert (whole.nats, whole.tokens, whole.greedy, whole.seconds) == (-3.0, 4, False, 1.0)
    assert whole.usage.prompt_tokens == 6 and whole.usage.energy_joules.central == 4.0
    assert together([]).nats == 0.0
