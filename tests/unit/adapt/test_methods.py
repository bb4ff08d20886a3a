"""Methods by name: what each takes, budgets, corpora of files; each runs from there as `bloomery adapt` calls it."""

from __future__ import annotations

import pytest

import bloomery.adapt
from bloomery.adapt.methods import METHODS, corpus_of, method_lines, run_method
from bloomery.adapt.preference.config import PreferenceConfig, PreferenceFitConfig
from bloomery.cli.chain import SCHEMA
from bloomery.core.errors import ConfigError, DataError
from bloomery.core.workspace import Workspace

PAIRS = [{"prompt": f"Say {n}", "chosen": "yes", "rejected": "no"} for n in range(12)]


def test_every_method_has_a_table_of_a_recipe():
    assert all(SCHEMA[one.table] is one.config for one in METHODS.values())


def test_a_method_by_its_name_and_its_lines(make_model, rows_file, tmp_path):
    config = PreferenceConfig(fit=PreferenceFitConfig(steps=2, batch_rows=4, device="cpu"))
    made = bloomery.adapt(make_model(), rows_file(PAIRS), method="orpo", config=config, workspace=tmp_path)  # type: ignore[operator]
    assert made.metrics["method"] == "orpo"
    lines = method_lines(made.metrics)
    assert lines[0].startswith("orpo: ") and any("reward margin" in line for line in lines)


def test_what_is_said_of_rewards_and_of_losses():
    metrics = {"method": "grpo", "trained_parameters": 1, "parameters": 2, "steps": 8, "training_seconds": 1.0}
    metrics |= {"learning_rate": 0.1, "reward_curve": [[n, n / 8] for n in range(8)]}
    assert "reward of answers drawn: 0.0625 in the first 2 draws, 0.8125 in the last of 8" in method_lines(metrics)
    metrics |= {"reward_curve": [], "loss_curve": [[1, 1, 2.0], [8, 8, 1.0]]}
    assert method_lines(metrics)[1:] == ["training loss: 2.0000 at first, 1.0000 at last"]


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("gpro", {}, "unknown method"),
        ("dpo", {"teacher": "x"}, "takes no teacher"),
        ("grpo", {"controls": ["x"]}, "takes no control"),
        ("distil", {}, "no teacher"),
        ("dpo", {"minutes": 1.0, "epochs": 1.0}, "both"),
    ],
)
def test_what_a_method_does_not_take(make_model, rows_file, tmp_path, method, options, said):
    with pytest.raises(ConfigError, match=said):
        run_method(method, make_model(), rows_file(PAIRS), workspace=tmp_path, **options)


def test_files_become_a_corpus_of_documents(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(f"Paragraph {n} says what it says." * 20 for n in range(60)))
    workspace = Workspace(tmp_path / "home")
    corpus = corpus_of([path], workspace)
    assert sum(corpus.metrics["documents"].values()) > 5
    assert corpus_of([corpus.id], workspace).id == corpus.id
    with pytest.raises(DataError, match="neither"):
        corpus_of([tmp_path / "none"], workspace)
