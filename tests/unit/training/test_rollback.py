"""Rollback: planted spikes and NaNs are gone past, killed and resumed as straight; hopeless runs stop with a remedy."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from bloomery.core.errors import TrainingError
from bloomery.core.workspace import Workspace
from bloomery.training import causal, checkpoint, loop, pretrain


def _train(material, home, **changes):
    config = replace(material.small, **{"steps": 60, "checkpoint_every_steps": 10, "validations": 0, **changes})
    workspace = Workspace(home)
    heard = []
    workspace.listeners = (heard.append,)
    made = pretrain(material.corpus, material.tokenizer, tokens=material.tokens, config=config, workspace=workspace)
    return made, [event for event in heard if event.kind in ("rollback", "note")]


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch):
    """Makes the loss of given batches, known by their data, `factor` times as large; NaN for NaN."""
    real, read = causal.CausalObjective.loss, causal.CausalObjective.next_batch

    def planted(numbers: set[int], factor: float) -> None:
        seen: dict[bytes, int] = {}

        def next_batch(self, rows):
            batch = read(self, rows)
            seen.setdefault(batch.arrays["input_ids"].tobytes(), len(seen) + 1)
            return batch

        def loss(self, arrays):
            value = real(self, arrays)
            return value * factor if seen.get(arrays["input_ids"].numpy().tobytes()) in numbers else value

        monkeypatch.setattr(causal.CausalObjective, "next_batch", next_batch)
        monkeypatch.setattr(causal.CausalObjective, "loss", loss)

    return planted


@pytest.mark.parametrize("factor", [math.nan, 50.0])
def test_a_planted_batch_is_gone_past(material, tmp_path, plant, factor):
    plant({37}, factor)
    made, said = _train(material, tmp_path)
    (entry,) = made.metrics["skipped"]
    # Batch 37 is step 37; the checkpoint of step 30 is 7 behind, more than the 5 that are asked for.
    assert (entry["step"], entry["back_to"], entry["batches"]) == (37, 30, 7)
    assert made.metrics["steps"] == 60 and math.isfinite(made.metrics["validation_bits_per_byte"])
    (note,) = [event.data["text"] for event in said if event.kind == "note" and "utilisation" not in event.data["text"]]
    assert note.startswith("step 37: loss") and note.endswith(
        "back to the checkpoint of step 30; 7 batches are skipped"
    )


def test_where_it_went_back_to_is_not_validated_again(material, tmp_path, plant):
    """Validations are of steps 10, 20, ..., which are those of the checkpoints, too."""
    plant({4, 37}, math.nan)
    made, _ = _train(material, tmp_path, validations=5)
    assert [entry["back_to"] for entry in made.metrics["skipped"]] == [3, 30]
    assert [step for step, _, _ in made.metrics["validation_curve"]] == [10, 20, 30, 40, 50, 60]


def test_two_planted_batches_killed_in_between_end_bit_equal(material, tmp_path, plant, monkeypatch):
    plant({33, 44, 45}, math.nan)
    straight, _ = _train(material, tmp_path / "a")
    entries = straight.metrics["skipped"]
    # From step 33 back to 20 (30 is too near); then batch 44 is step 31, with no anchor but that of step 30.
    assert tuple(entries[0][name] for name in ("step", "back_to", "batches")) == (33, 20, 13)
    assert len(entries) >= 2
    step, taken = loop.Loop._step, []

    def interrupted(self):
        step(self)
        taken.append(1)
        if len(taken) in (15, 36, 48, 60):
            self._interrupted.set()

    monkeypatch.setattr(loop.Loop, "_step", interrupted)
    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            _train(material, tmp_path / "b")
    resumed, _ = _train(material, tmp_path / "b")
    assert resumed.id == straight.id
    assert resumed.metrics["skipped"] == entries and resumed.metrics["loss_curve"] == straight.metrics["loss_curve"]


def test_before_the_first_checkpoint_the_batch_alone_is_skipped(material, tmp_path, plant):
    plant({4}, math.nan)
    made, said = _train(material, tmp_path)
    assert [(e["step"], e["back_to"], e["batches"]) for e in made.metrics["skipped"]] == [(4, 3, 1)]
    assert "this batch alone is skipped" in next(event.data["text"] for event in said if event.kind == "note")


def test_when_it_does_not_help_the_run_stops(material, tmp_path, plant):
    plant(set(range(25, 1000)), math.nan)
    with pytest.raises(TrainingError, match="after going back 5 times, the checkpoint of step") as caught:
        _train(material, tmp_path)
    assert "learning_rate_scale=0.5" in caught.value.hint
    found = checkpoint.latest(next(tmp_path.rglob("checkpoints")))
    assert found is not None and all(bool(tensor.isfinite().all()) for tensor in found.model.values())


def test_spikes_can_be_taken(material, tmp_path, plant):
    plant({37}, 50.0)
    assert _train(material, tmp_path, spikes="take")[0].metrics["skipped"] == []


def test_the_skipped_data_is_what_is_left_out(material, tmp_path, plant):
    """The same weights as of a run that never saw the batches between: the data order has a gap, nothing else."""
    plant({37}, math.nan)
    gone, _ = _train(material, tmp_path / "a")
    plant(set(), 1.0)
    read, count = causal.CausalObjective.next_batch, [0]

    def leaving_out(self, rows):
        count[0] += 1
        if count[0] == 32:  # the preflight reads one, which is taken back
            for _ in range(7):
                read(self, rows)
        return read(self, rows)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(causal.CausalObjective, "next_batch", leaving_out)
        never, _ = _train(material, tmp_path / "b")
    assert never.metrics["skipped"] == [] and never.id == gone.id


def test_killed_as_it_goes_back_it_still_has_the_best_weights(material, tmp_path, plant, monkeypatch):
    """The newest checkpoint is still that of before, and knows weights of a step that was taken back."""
    plant({37}, math.nan)
    kept = {"keep_best": True, "validations": 5, "checkpoint_every_steps": 12, "checkpoint_seconds": 0.0}
    save, bests = loop.Loop.save, []

    def killed(self, *, anchor=False):
        if anchor:
            states = list(checkpoint.states(self.checkpoints))
            bests.append(({s["progress"]["best"].get("step") for s in states}, {p.name for p in self.kept.iterdir()}))
            raise KeyboardInterrupt
        return save(self)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(loop.Loop, "save", killed)
        _train(material, tmp_path / "a", **kept)
    ((known, there),) = bests
    assert known - {None} and all(checkpoint.name_of(step) in there for step in known - {None})
    resumed, _ = _train(material, tmp_path / "a", **kept)
    straight, _ = _train(material, tmp_path / "b", **kept)
    assert resumed.id == straight.id
