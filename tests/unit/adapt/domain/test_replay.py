"""Replay: the share is met exactly, the state takes up both streams."""

from __future__ import annotations

import json

import pytest

from bloomery.adapt.domain.replay import ReplayObjective
from bloomery.adapt.starting import Start
from bloomery.core.errors import ConfigError
from bloomery.corpus import CurateConfig, curate
from bloomery.tokenizer import PackedRows, TokenShards, tokenize


@pytest.fixture(scope="module")
def tokens(make_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("replay")
    made = []
    for name, word in (("domain", "iron"), ("general", "time")):
        text = "\n\n".join(f"{word} number {n} was there, and {word} it is." for n in range(120))
        (folder / f"{name}.txt").write_text(text)
        config = CurateConfig(sources=(str(folder / f"{name}.txt"),), cut_characters=200, decontaminate_words=0)
        corpus = curate(config=config, workspace=folder / "home")
        made.append(tokenize(corpus, make_model(), workspace=folder / "home"))
    return made


def _objective(make_model, tokens, replay: float) -> ReplayObjective:
    rows = [PackedRows(TokenShards(one, "train"), context_length=32, seed=0) for one in tokens]
    return ReplayObjective(
        Start.of(make_model()).decoder, rows[0], None, general=rows[1] if replay else None, replay=replay
    )


@pytest.mark.parametrize("replay", [0.0, 0.1, 0.3, 0.5])
def test_the_share_is_met_over_a_run(make_model, tokens, replay):
    objective = _objective(make_model, tokens, replay)
    for _ in range(20):
        assert objective.next_batch(4).rows == 4
    stats = objective.stats()
    assert stats["general_rows"] == round(80 * replay) and stats["domain_rows"] == 80 - stats["general_rows"]


def test_general_rows_are_general(make_model, tokens):
    objective = _objective(make_model, tokens, 0.5)
    tokenizer = Start.of(make_model()).tokenizer
    rows = [tokenizer.decode(row) for row in objective.next_batch(4).arrays["input_ids"]]
    assert all("iron" in row for row in rows[:2]) and all("time" in row for row in rows[2:])


def test_both_streams_go_on_from_a_state(make_model, tokens):
    first, second = _objective(make_model, tokens, 0.3), _objective(make_model, tokens, 0.3)
    for _ in range(3):
        first.next_batch(4)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for _ in range(3):
        ours, theirs = first.next_batch(4), second.next_batch(4)
        assert (ours.arrays["input_ids"] == theirs.arrays["input_ids"]).all()


def test_replay_needs_something_to_replay(make_model, tokens):
    rows = PackedRows(TokenShards(tokens[0], "train"), context_length=32, seed=0)
    with pytest.raises(ConfigError, match="general"):
        ReplayObjective(Start.of(make_model()).decoder, rows, None, general=None, replay=0.1)
