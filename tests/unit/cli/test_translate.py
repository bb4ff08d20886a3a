"""`bloomery translate`."""

from __future__ import annotations

import json

import pytest

from bloomery.cli.translate import latest_translator
from bloomery.core.errors import ArtifactError
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs
from bloomery.core.workspace import Workspace

SMALL = [
    *("--set", "tokenizer.vocab_size=320"),
    *("--set", "train.net.hidden_size=32"),
    *("--set", "train.net.num_hidden_layers=1"),
    *("--set", "train.net.family=gru"),
    *("--set", "train.fit.steps=3"),
    *("--set", "train.fit.batch_rows=8"),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("translate")
    rows = [{"text": f"number {n}", "target": f"{n} number"} for n in range(80)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_trained_then_asked(call, home):
    where = ("--home", str(home / "h"))
    fields = ("--set", 'curate.metadata_fields=["target"]', "--set", "curate.decontaminate_words=0")
    call("curate", str(home / "rows.jsonl"), *fields, *where)
    call("train", "--objective", "sequence", *SMALL, *where)
    found = json.loads(call("translate", "number 3", "number 4", "--max-new-tokens", "5", "--json", *where).out)
    assert len(found) == 2 and set(found[0]) >= {"text", "token_ids", "logprob", "score", "finish_reason"}
    assert all(one["timings"]["decode_seconds"] > 0 and one["energy_joules"] for one in found)
    entry = Workspace(home / "h").ledger.requests(limit=1)[0]
    assert entry["route"] == "translate" and entry["prompt_tokens"] == sum(one["source_tokens"] for one in found)
    seconds = sum(one["timings"]["prefill_seconds"] + one["timings"]["decode_seconds"] for one in found)
    assert entry["seconds"] == pytest.approx(seconds)
    answer = call("translate", "number 3", "--beams", "2", "--max-new-tokens", "5", *where)
    trained = Workspace(home / "h").latest("seq2seq")
    assert len(answer.out.split("\n")) >= 2 and f"{trained.name} [" in answer.err
    assert "beams" in call.mistake("translate", "x", "--beams", "0", *where)


def _published(workspace: Workspace, text: str, **metrics):
    with Run(workspace, StageInputs(stage="s", config={"text": text})) as run:
        folder = run.new_folder("model")
        (folder / "config.json").write_text(f'{{"is": "{text}"}}')
        return run.publish(folder, kind="seq2seq", metrics=metrics)


def test_which_model_is_asked_where_none_is_named(tmp_path):
    workspace = Workspace(tmp_path)
    _published(workspace, "spans", objective="spans")
    with pytest.raises(ArtifactError, match=r"no model in .* was trained on pairs"):
        latest_translator(workspace)
    imported = _published(workspace, "imported", source="org/t5")
    assert latest_translator(workspace).id == imported.id
    trained = [_published(workspace, f"trained{n}", objective="sequence") for n in range(2)]
    _published(workspace, "imported later", source="org/t5")
    _published(workspace, "spans later", objective="spans")
    assert latest_translator(workspace).id == trained[1].id


def test_another_kind_of_model(call, tiny):
    said = call.mistake("translate", "x", "--model", str(next((tiny.home / "artifacts").glob("model-*"))))
    assert "does not write texts for texts" in said
