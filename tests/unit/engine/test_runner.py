"""Runner: rows of logits for what a plan says, and the runs of memory behind a table."""

from __future__ import annotations

import pytest
import torch

from bloomery.engine import LanguageModel
from bloomery.engine.blocks import BlockPool
from bloomery.engine.runner import Runner
from bloomery.engine.sequence import SequenceState
from bloomery.models.native.library import library
from bloomery.models.native.native_decoder import NativeDecoder
from bloomery.models.paged import PagedMemory


def sequence_of(tiny: LanguageModel, ids: list[int], pool: BlockPool, **options) -> SequenceState:
    request = tiny.request(ids, [{"max_new_tokens": 8, **options}])
    one = SequenceState(request, request.generations[0], list(ids))
    pool.grow(one.table, len(ids) + 4)
    return one


@torch.inference_mode()
def test_parts_steps_and_guesses_give_the_logits_of_the_whole(tiny: LanguageModel):
    pool = BlockPool(40, 3)
    runner = Runner(tiny.decoder, PagedMemory(tiny.config, 120), 3)
    first = sequence_of(tiny, [5, 6, 7, 8, 9, 10, 11], pool)
    second = sequence_of(tiny, [20, 21, 22], pool)
    assert runner.prefill(first, 4) is None
    first.read = 4
    last = runner.prefill(first, 3)
    assert last is not None and last.shape == (1, tiny.config.vocab_size)
    torch.testing.assert_close(last, tiny.logits(first.ids)[0, -1:], rtol=0, atol=1e-5)
    first.read = 7
    runner.prefill(second, 3)
    second.read = 3
    first.ids.append(30)
    second.ids.append(31)
    first.draft = [40, 41]
    (one, _), (two, _) = runner.decode([first, second])
    torch.testing.assert_close(one, tiny.logits([*first.ids, 40, 41])[0, -3:], rtol=0, atol=1e-5)
    torch.testing.assert_close(two, tiny.logits(second.ids)[0, -1:], rtol=0, atol=1e-5)


@torch.inference_mode()
def test_a_scored_prompt_gives_all_rows_and_copies_carry_over(tiny: LanguageModel):
    pool = BlockPool(40, 4)
    runner = Runner(tiny.decoder, PagedMemory(tiny.config, 160), 4)
    one = sequence_of(tiny, [5, 6, 7, 8, 9], pool, prompt_logprobs=0)
    rows = runner.prefill(one, 5)
    assert rows is not None
    torch.testing.assert_close(rows, tiny.logits(one.ids)[0], rtol=0, atol=1e-5)
    one.read = 5
    fork = SequenceState(one.request, one.generation, list(one.ids), table=pool.fork(one.table), read=5)
    for each in (one, fork):
        each.ids.append(50)
    copy = pool.writable(fork.table, 1)
    assert copy is not None
    runner.copy([copy])
    (first, _), (second, _) = runner.decode([one, fork])
    assert torch.equal(first, second)


@torch.inference_mode()
def test_prompts_by_native_code_are_pytorchs_and_scored_whole(tiny: LanguageModel):
    if library().calls is None:
        pytest.skip(library().text)
    pool, memory = BlockPool(40, 3), PagedMemory(tiny.config, 120)
    native = NativeDecoder(tiny.decoder)
    for prompts, text in ((True, [5, 6, 7, 8, 9, 10, 11]), (False, [5, 6, 7, 8, 9, 10, 12])):
        runner = Runner(tiny.decoder, memory, 3, native=native, native_prompts=prompts)
        one, scored = sequence_of(tiny, text, pool), sequence_of(tiny, text, pool, prompt_logprobs=0)
        assert runner.prefill(one, 4) is None
        one.read = 4
        last, rows = runner.prefill(one, 3), runner.prefill(scored, 7)
        assert last is not None and last.shape == (1, tiny.config.vocab_size) and rows is not None
        torch.testing.assert_close(rows, tiny.logits(text)[0], rtol=0, atol=1e-5)
        assert torch.equal(last[0], rows[-1]) if prompts else torch.allclose(last[0], rows[-1], atol=1e-5)
        assert runner.fill(text[:2], (one.table, 0)) is None
