"""The loop's own parts; the stage's tests and the kill test cover it as a whole."""

from __future__ import annotations

import errno
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bloomery.core.errors import ArtifactError
from bloomery.core.events import EventLog
from bloomery.core.workspace import Workspace
from bloomery.models.native.attention_training import is_here
from bloomery.training import checkpoint, pretrain
from bloomery.training.batches import BatchObjective
from bloomery.training.contrastive import ContrastiveObjective
from bloomery.training.labels import ClassificationObjective, RegressionObjective, TaggingObjective
from bloomery.training.loop import Loop, Progress, _random_state, _set_random_state
from bloomery.training.objective import HIGHER_IS_BETTER
from bloomery.training.relevance import RelevanceObjective
from bloomery.training.text_pairs import TextContrastiveObjective

pretrain_module = sys.modules["bloomery.training.pretrain"]
loop_module = sys.modules["bloomery.training.loop"]


def test_random_state_round_trip():
    device = torch.device("cpu")
    torch.manual_seed(5)
    state = _random_state(device)
    first = torch.rand(4)
    _set_random_state(state, device)
    assert torch.equal(torch.rand(4), first)


def test_progress_is_plain_data():
    progress = Progress(step=3, tokens=12, losses=[[1, 4, 2.5]])
    assert Progress(**vars(progress)) == progress


def test_which_way_every_headline_is_better():
    """`keep_best` would keep the worst weights of an objective whose headline is not listed as it should be."""
    better = {ClassificationObjective, TaggingObjective, TextContrastiveObjective}
    worse = {RegressionObjective, ContrastiveObjective, RelevanceObjective, BatchObjective}
    assert {one.headline for one in better} | {"r_squared", "reward", "macro_f1"} == HIGHER_IS_BETTER
    assert not {one.headline for one in worse} & HIGHER_IS_BETTER


def _full(after: int, number: int):
    """A writer of tensors whose disk is full from its call `after` + 1 on; the planner's trials are not counted."""
    real, calls = checkpoint.write_pieces, []

    def write(tensors, path):
        if "checkpoints" not in path.parts:
            return real(tensors, path)
        calls.append(path)
        if len(calls) > after:
            path.write_bytes(b"torn")
            raise OSError(number, os.strerror(number), str(path))
        real(tensors, path)

    return write


def test_a_full_disk_does_not_end_the_run(material, tmp_path, monkeypatch):
    """Room for the checkpoint of step 4 alone (two files): the run goes on, says so, and ends as it would have."""
    straight = _pretrained(material, tmp_path / "a", [])
    heard: list = []
    monkeypatch.setattr(checkpoint, "write_pieces", _full(2, errno.ENOSPC))
    assert _pretrained(material, tmp_path / "b", heard).id == straight.id
    notes = [event.data["text"] for event in heard if event.kind == "note" and "utilisation" not in event.data["text"]]
    assert notes == [
        f"no room for the checkpoint of step {step}; the checkpoint of step 4 is kept: free some space meanwhile"
        for step in (8, 12, 12)  # at the end it is tried once more
    ]


def test_the_last_checkpoint_takes_the_room_of_those_before(material, tmp_path, monkeypatch):
    """The run's end is kept even if there is room for two checkpoints alone, and the ones before have them."""
    real, sound = checkpoint.write_pieces, list[int]()

    def write(tensors, path):
        if "checkpoints" in path.parts:
            others = [one for one in path.parents[1].iterdir() if one != path.parent]
            if "00000012" in str(path) and len(others) > 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        real(tensors, path)

    def publish(*_, **__):
        found = checkpoint.latest(next(tmp_path.rglob("checkpoints")))
        sound.append(found.step if found is not None else 0)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint, "write_pieces", write)
    monkeypatch.setattr(pretrain_module, "save_pretrained", publish)
    with pytest.raises(ArtifactError, match="No space left"):
        _pretrained(material, tmp_path, [])
    assert sound == [12]
    monkeypatch.undo()
    assert _pretrained(material, tmp_path, []).metrics["resumed"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_in_which_nothing_can_be_noted_either(material, tmp_path, monkeypatch):
    """Events and metrics find no room from step 3 on: the run ends as it would have."""
    straight = _pretrained(material, tmp_path / "a", [], validations=2)
    append, heard = EventLog.append, list[object]()

    def full(self, event):
        if event.kind == "curve" and event.data["step"] == 3:
            self._stream.close()
            self._stream = Path("/dev/full").open("a")  # noqa: SIM115
        return append(self, event)

    monkeypatch.setattr(EventLog, "append", full)
    assert _pretrained(material, tmp_path / "b", heard, validations=2).id == straight.id
    notes = [event.data["text"] for event in heard if event.kind == "note"]  # type: ignore[attr-defined]
    assert sum("no room for what happens" in note for note in notes) == 1


def test_a_disk_that_cannot_be_written_ends_it_and_keeps_the_last_checkpoint(material, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "write_pieces", _full(2, errno.EROFS))
    with pytest.raises(ArtifactError, match="cannot write a checkpoint") as caught:
        _pretrained(material, tmp_path, [])
    assert "read-only" in caught.value.hint
    monkeypatch.undo()
    found = checkpoint.latest(next(tmp_path.rglob("checkpoints")))
    assert found is not None and found.step == 4
    assert [path.name for path in found.path.parent.iterdir()] == ["step-00000004"]


def test_the_curve_is_told_with_the_sum_of_all_losses(material, tmp_path):
    heard: list = []
    _pretrained(material, tmp_path, heard)
    points = [event.data for event in heard if event.kind == "curve"]
    assert [p["step"] for p in points] == list(range(1, 13)) and points[-1]["total"] == 12
    assert points[-1]["loss_sum"] == pytest.approx(sum(p["loss"] for p in points), rel=1e-12)


def test_weights_that_are_not_finite_are_not_written(material, tmp_path, monkeypatch):
    """A weight gone bad at step 5: no checkpoint has it, the next loss shows it, and the run goes back to step 4."""
    step, done, heard = Loop._step, [], list[object]()

    def spoiling(self):
        step(self)
        done.append(self.progress.step)
        if self.progress.step == 8 and 8 not in done[:-1]:
            with torch.no_grad():
                next(iter(self.optimizers.named.values())).fill_(float("nan"))

    monkeypatch.setattr(Loop, "_step", spoiling)
    made = _pretrained(material, tmp_path, heard)
    assert [(e["step"], e["back_to"]) for e in made.metrics["skipped"]] == [(9, 4)]


def _pretrained(material, home, heard, **changes):
    config = replace(material.small, **{"validations": 0, "checkpoint_every_steps": 4, **changes})
    workspace = Workspace(home, listeners=[heard.append])
    return pretrain(material.corpus, material.tokenizer, tokens=material.tokens, config=config, workspace=workspace)


def test_who_goes_on_with_another_attention_is_told(material, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "write_pieces", _full(2, errno.EROFS))
    with pytest.raises(ArtifactError):
        _pretrained(material, tmp_path, [])
    monkeypatch.undo()
    monkeypatch.setattr(loop_module, "is_here", lambda: not is_here())
    heard: list = []
    _pretrained(material, tmp_path, heard)
    said = [event.data["text"] for event in heard if event.kind == "note"]
    assert any(re.fullmatch(r"resumed with .* attention after .*: the last bits may differ", text) for text in said)
