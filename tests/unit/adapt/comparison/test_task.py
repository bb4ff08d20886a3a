"""Task files: strict, with what they override, and paths beside the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from bloomery.adapt.comparison.task import ARMS, BudgetConfig, ModelConfig, SplitConfig, TaskConfig, read_task
from bloomery.core.errors import ConfigError


def write(folder: Path, text: str) -> Path:
    path = folder / "task.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_paths_are_beside_the_file_and_one_model_is_a_table_or_a_list(tmp_path):
    (tmp_path / "model").mkdir()
    path = write(tmp_path, 'samples = "x.jsonl"\n[model]\nname = "model"\n[split]\ntest = 0.4\n')
    config = read_task(path).config
    assert config.samples == str(tmp_path / "x.jsonl") and config.model[0].name == str(tmp_path / "model")
    assert config.split.test == 0.4 and config.model[0].called == "model"
    path = write(tmp_path, 'samples = "x.jsonl"\n[[model]]\nname = "model-0123"\n')
    assert read_task(path).config.model[0].name == "model-0123"


def test_overrides(tmp_path):
    path = write(tmp_path, 'samples = "x.jsonl"\n[[model]]\nname = "a"\nconcurrency = 3\n')
    config = read_task(path, ["model=b", "budget.tokens=9", "seed=4", 'arms=["rag"]', "model.concurrency=2"]).config
    assert config.model[0].name == "b" and config.model[0].concurrency == 2
    assert config.budget.tokens == 9 and config.seed == 4 and config.arms == ("rag",)
    assert Path(read_task(path, ["samples=y.jsonl"]).config.samples) == Path.cwd() / "y.jsonl"
    for override in ("seed", "samples.x=1"):
        with pytest.raises(ConfigError):
            read_task(path, [override])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('sample = "x"', 'unknown key "sample"'),
        ('samples = "x"\n[budgett]\n', "budgett"),
        ('samples = "x"\narms = ["zero-shots"]', "zero-shots"),
        ('samples = "x"\narms = ["rag", "rag"]', "twice"),
        ('samples = "x"\nchoices = ["a", "b"]\nchoices_column = "c"', "give one"),
        ('samples = "x"\n[[model]]\nname = "a"\n[[model]]\nname = "a"\n', "one name"),
        ('samples = "x"\nalpha = 0.7', "alpha"),
    ],
)
def test_mistakes_are_named(tmp_path, text, said):
    with pytest.raises(ConfigError) as caught:
        read_task(write(tmp_path, text))
    assert said in caught.value.one_line()


def test_values_out_of_range():
    for made in (
        lambda: SplitConfig(dev=0.6, test=0.5),
        lambda: SplitConfig(max_dev=-1),
        lambda: BudgetConfig(processor_seconds=None),
        lambda: BudgetConfig(tokens=0),
        lambda: ModelConfig(name=""),
        lambda: ModelConfig(name="a", input_price=1.0),
        lambda: ModelConfig(name="a", key_variable="K"),
        lambda: ModelConfig(name="a", concurrency=0),
        lambda: TaskConfig(samples="x", label_price=-1.0),
        lambda: TaskConfig(samples="x", requests=0),
    ):
        with pytest.raises(ConfigError):
            made()
    assert len(set(ARMS)) == len(ARMS)


def test_every_recipe_of_a_comparison_is_read():
    found = sorted((Path(__file__).resolve().parents[4] / "recipes").glob("compare_*.toml"))
    assert len(found) >= 3
    for path in found:
        assert read_task(path).config.samples
