"""SequenceState: what is unread, when it decodes, when it is out of time."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

from bloomery.engine.blocks import HashChain
from bloomery.engine.sequence import Request, SequenceState


def sequence(ids: list[int], **request: Any) -> SequenceState:
    generation: Any = SimpleNamespace(params=SimpleNamespace(prompt_logprobs=request.pop("scores", None)))
    return SequenceState(Request(prompt_ids=ids, generations=[generation], **request), generation, list(ids))


def test_a_sequence_decodes_once_its_prompt_was_read():
    one = sequence([5])
    assert one.unread == 1 and not one.is_decoding  # a prompt of one token is read, too
    one.read = 1
    one.ids.append(6)
    assert one.unread == 1 and one.is_decoding
    one.read = 0  # put out of memory: prompt and new tokens are read again
    assert one.unread == 2 and not one.is_decoding


def test_hashes_grow_with_the_text_and_know_the_tenant():
    one = sequence(list(range(9)), tenant="t")
    assert one.hashes(4, 2) == HashChain("t", 4).of(list(range(9)), 2)
    one.ids += [1, 2, 3]
    assert one.hashes(4, 3)[:2] == HashChain("t", 4).of(list(range(9)), 2)


def test_deadlines_scores_and_families():
    assert not sequence([1]).expires
    assert sequence([1], deadline=time.perf_counter() - 1).expires
    assert not sequence([1], deadline=time.perf_counter() + 100).expires
    assert sequence([1], scores=0).request.scores_prompt and not sequence([1]).request.scores_prompt
    one, two = sequence([1]), sequence([1])
    one.siblings = [two]
    assert list(one.family()) == [one, two]
    assert one.number < two.number
