"""Teacher: texts go on after their last whole line, costs add up, candidates are the model's own."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from bloomery.adapt.distillation.teacher import ask_once, check_tokens, cost_of, write_texts
from bloomery.adapt.preference.encoded import Completion
from bloomery.adapt.starting import Start
from bloomery.core.errors import DataError
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs
from bloomery.core.workspace import Workspace
from bloomery.engine import load_language_model
from bloomery.tokenizer import Tokenizer

HOW = {"max_new_tokens": 6, "temperature": 1.0, "samples": 2, "seed": 3}


def test_texts_that_were_cut_off_are_written_again_and_the_same(make_model, tmp_path):
    model = load_language_model(make_model().path)
    prompts = [f"Say {n}" for n in range(20)]
    write_texts(model, prompts, tmp_path / "whole.jsonl", **HOW)
    whole = (tmp_path / "whole.jsonl").read_text()
    rows = [json.loads(line) for line in whole.splitlines()]
    assert [row["prompt"] for row in rows[::2]] == prompts and len(rows) == 40
    assert rows[0]["completion"] != rows[1]["completion"]  # two samples of one prompt
    lines = whole.splitlines(keepends=True)
    (tmp_path / "cut.jsonl").write_text("".join(lines[:23]) + lines[23][:15])
    write_texts(model, prompts, tmp_path / "cut.jsonl", **HOW)
    again = [json.loads(line) for line in (tmp_path / "cut.jsonl").read_text().splitlines()]
    assert [row["completion"] for row in again] == [row["completion"] for row in rows]
    model.close()


def test_costs_add_up_and_unknown_stays_unknown():
    row = {"prompt_tokens": 5, "completion_tokens": 3, "seconds": 0.5, "energy_joules": {"method": "unknown"}}
    row["energy_joules"] = {"low": None, "central": None, "high": None, "method": "unknown"}
    cost = cost_of([row, row])
    assert (cost.texts, cost.prompt_tokens, cost.completion_tokens, cost.seconds) == (2, 10, 6, 1.0)
    assert cost.to_dict()["energy_joules"]["central"] is None


def test_candidates_are_the_teacher_s_likeliest_tokens_and_kept(make_model, tmp_path):
    start = Start.of(make_model())
    texts = [Completion((7, 8), (9, 10, 11)), Completion((5,), (6,))]
    with Run(Workspace(tmp_path), StageInputs(stage="adapt", config={})) as run:
        first, second = ask_once(start.decoder, texts, 5, run, temperature=1.0, pad_id=0)
        with torch.no_grad():
            said = start.decoder(torch.tensor([[7, 8, 9, 10]]))[0, 1:].log_softmax(-1)
        assert first.ids is not None and first.logprobs is not None and second.ids is not None
        assert np.array_equal(first.ids, said.topk(5).indices.numpy()) and second.ids.shape == (1, 5)
        assert np.allclose(first.logprobs, said.topk(5).values.numpy(), atol=1e-5)
        again = ask_once(start.decoder, texts, 5, run, temperature=1.0, pad_id=0)[0]
        assert again.ids is not None and np.array_equal(again.ids, first.ids)
        with pytest.raises(DataError, match="other data"):
            ask_once(start.decoder, texts[1:], 5, run, temperature=1.0, pad_id=0)


def test_other_tokens_are_refused(make_model):
    tokenizer = Tokenizer.load(make_model().path)
    check_tokens(tokenizer, tokenizer)

    class Other:
        vocab_size = tokenizer.vocab_size

        def token_text(self, index):
            return tokenizer.token_text(index) + "x"

    with pytest.raises(DataError, match="other tokens"):
        check_tokens(tokenizer, Other())  # type: ignore[arg-type]
