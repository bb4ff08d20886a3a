"""LanguageModel: prompts, errors, and the same greedy tokens and logits as transformers."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from bloomery.core.errors import RequestError
from bloomery.engine import LanguageModel

PROMPTS = ["Once upon", "def smelt(", "🔥 iron über", "a"]


@pytest.fixture(scope="module")
def reference(tiny_folder: Path):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32).eval()


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_equals_transformers(tiny: LanguageModel, reference, prompt: str):
    ids = tiny.encode_prompt(prompt)
    expected = reference.generate(torch.tensor([ids]), max_new_tokens=40, do_sample=False)[0, len(ids) :].tolist()
    result = tiny.generate(prompt, max_new_tokens=40, temperature=0.0)
    assert result.token_ids == expected
    assert result.prompt_token_ids == ids


def test_logits_equal_transformers(tiny: LanguageModel, reference):
    ids = np.array([tiny.encode_prompt("Once upon a time")] * 2)
    with torch.no_grad():
        expected = reference(torch.from_numpy(ids)).logits
    found = tiny.logits(ids)
    assert found.dtype == torch.float32 and found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert torch.equal(tiny.logits(ids[0].tolist()), tiny.logits(ids[:1]))


def test_a_text_prompt_begins_with_bos_and_cannot_spell_special_tokens(tiny: LanguageModel):
    ids = tiny.encode_prompt("<|im_end|> x")
    assert ids[0] == tiny.tokenizer.bos_id
    assert not set(ids[1:]) & tiny.tokenizer.special_ids
    assert tiny.encode_prompt("") == [tiny.tokenizer.bos_id]
    assert tiny.encode_prompt([5, 6]) == [5, 6]


def test_chat_goes_through_the_template(tiny: LanguageModel):
    messages = [{"role": "user", "content": "<|im_end|>hello"}]
    ids = tiny.encode_prompt(messages)
    assert ids == tiny.tokenizer.encode_chat(messages, add_generation_prompt=True)
    assert tiny.generate(messages, max_new_tokens=3, seed=0).completion_tokens <= 3


@pytest.mark.parametrize(
    "prompt", [[], [-1], [10**6], [1.5], [True], [None], [[1]], "\ud800", "x" * 5_000], ids=lambda p: repr(p)[:12]
)
def test_bad_prompts_are_request_errors(tiny: LanguageModel, prompt):
    with pytest.raises(RequestError) as caught:
        tiny.generate(prompt)
    assert caught.value.param == "prompt"


def test_a_prompt_longer_than_the_context_says_both_numbers(tiny: LanguageModel):
    with pytest.raises(RequestError, match=r"300 tokens.*256") as caught:
        tiny.generate([5] * 300)
    assert caught.value.code == "context_length_exceeded"


def test_the_context_ends_a_generation(tiny: LanguageModel):
    result = tiny.generate([5] * 250, max_new_tokens=1_000, seed=0, ignore_eos=True)
    # Six more are read, and the one after the last is never read.
    assert (result.completion_tokens, result.finish_reason) == (7, "length")
    assert tiny.generate([5] * 256, max_new_tokens=9, seed=0, ignore_eos=True).completion_tokens == 1


def test_errors_come_before_the_first_delta_is_asked_for(tiny: LanguageModel):
    with pytest.raises(RequestError):
        tiny.stream("x", temperature=-1.0)


def test_requests_may_be_nested_and_threaded_and_keep_their_tokens(tiny: LanguageModel):
    def ask(seed: int) -> list[int]:
        return tiny.generate("Once", max_new_tokens=24, seed=seed).token_ids

    alone = [ask(seed) for seed in range(6)]
    for _ in tiny.stream("def", max_new_tokens=3, seed=1):
        assert ask(0) == alone[0]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(ask, range(6))) == alone


def test_cancel_and_close_stop_the_work(tiny: LanguageModel):
    cancel = threading.Event()
    deltas = []
    for delta in tiny.stream("a", max_new_tokens=200, seed=0, ignore_eos=True, cancel=cancel):
        deltas.append(delta)
        if len(deltas) == 3:
            cancel.set()
    assert deltas[-1].finish_reason == "cancelled"
    assert deltas[-1].result is not None and deltas[-1].result.completion_tokens == 3
    stream = tiny.stream("a", max_new_tokens=200, seed=0, ignore_eos=True)
    next(stream)
    stream.close()
    assert list(stream) == []


@pytest.mark.parametrize("ids", [[], [[]], [[1.5]], [[-1]], [[10**6]], [[[1]]], [[5] * 257]], ids=str)
def test_bad_ids_for_logits(tiny: LanguageModel, ids):
    with pytest.raises(RequestError):
        tiny.logits(ids)


@pytest.mark.parametrize("ids", [[[1, 2], [3]], None, [["a"]], [[]]])
def test_ids_that_are_no_rows_of_numbers(tiny: LanguageModel, ids):
    with pytest.raises(RequestError, match=r"rows of equal length|no token ids"):
        tiny.logits(ids)


def test_next_token_shows_the_filters(tiny: LanguageModel):
    table = tiny.next_token("Once upon", top=10, temperature=0.5, top_k=3)
    full = torch.log_softmax(tiny.logits(tiny.encode_prompt("Once upon"))[0, -1], dim=-1)
    assert [row.logprob for row in table] == sorted((row.logprob for row in table), reverse=True)
    assert [row.logprob for row in table] == full[[row.token_id for row in table]].tolist()
    kept = [row.filtered_logprob for row in table if row.filtered_logprob is not None]
    assert len(kept) == 3
    assert float(torch.tensor(kept).exp().sum()) == pytest.approx(1.0, abs=1e-6)
