"""Hub datasets: the splits that Hugging Face's own library finds in the same folders."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from datasets.data_files import get_data_patterns, resolve_pattern

from bloomery.core.errors import ConfigError
from bloomery.core.workspace import Workspace
from bloomery.corpus import CurateConfig, curate, read_documents
from bloomery.corpus.hub_datasets import dataset_files

LAYOUTS = {
    "sharded": [
        "data/train-00000-of-00002.parquet",
        "data/train-00001-of-00002.parquet",
        "data/test-00000-of-00001.parquet",
    ],
    "folders": ["train/a.csv", "train/b.csv", "validation/a.csv"],
    "files": ["my_train_file.jsonl", "my_dev_file.jsonl", "test.jsonl"],
    "flat": ["one.csv", "two.csv"],
    "keywords": ["data/training.csv", "data/valid.csv", "data/eval.csv"],
}


def _make(root: Path, names: list[str]) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")


def _splits(source: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for file in dataset_files(source):
        found.setdefault(file.metadata["split"], []).append(file.path.name)
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_splits_are_those_of_the_library(tmp_path: Path, layout: str):
    _make(tmp_path, LAYOUTS[layout])
    root = str(tmp_path)
    expected: dict[str, set[str]] = {}
    for split, patterns in get_data_patterns(root).items():
        for pattern in patterns:
            with suppress(FileNotFoundError):  # of several spellings, one is there
                expected.setdefault(str(split), set()).update(
                    Path(name).name for name in resolve_pattern(pattern, root)
                )
    expected_names = {split: sorted(names) for split, names in expected.items()}
    assert _splits(f"hf:{tmp_path}") == expected_names


README = """---
license: mit
configs:
- config_name: small
  default: true
  data_files:
  - split: train
    path: small/*.jsonl
  - split: test
    path: ["more/a.jsonl", "more/b.jsonl"]
- config_name: all
  data_files: "**/*.jsonl"
---
# A dataset
"""


def test_readme_names_configurations(tmp_path: Path):
    _make(tmp_path, ["small/x.jsonl", "more/a.jsonl", "more/b.jsonl"])
    (tmp_path / "README.md").write_text(README)
    assert _splits(f"hf:{tmp_path}") == {"train": ["x.jsonl"], "test": ["a.jsonl", "b.jsonl"]}
    assert _splits(f"hf:{tmp_path}#all") == {"train": ["a.jsonl", "b.jsonl", "x.jsonl"]}
    with pytest.raises(ConfigError, match="no configuration") as caught:
        list(dataset_files(f"hf:{tmp_path}#smal"))
    assert "small" in caught.value.hint


@pytest.mark.parametrize("path", ["https://a.org/x.csv", "/etc/passwd", "../x.csv"])
def test_what_is_not_in_the_folder_is_refused(tmp_path: Path, path: str):
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n- config_name: a\n  data_files: {path}\n---\n")
    with pytest.raises(ConfigError, match="not in the folder"):
        list(dataset_files(f"hf:{tmp_path}"))


@pytest.mark.parametrize("front", ["configs:\n  - [", "configs: 3", "configs:\n- config_name: a\n  data_files: 3"])
def test_odd_front_matter_is_one_clear_line(tmp_path: Path, front: str):
    (tmp_path / "README.md").write_text(f"---\n{front}\n---\n")
    with pytest.raises(ConfigError) as caught:
        list(dataset_files(f"hf:{tmp_path}"))
    assert "\n" not in caught.value.one_line()


def test_its_splits_are_kept_when_asked(tmp_path: Path, workspace: Workspace):
    for split, count in (("train", 30), ("validation", 5), ("test", 4)):
        lines = "".join(f'{{"text": "{split} {n}"}}\n' for n in range(count))
        (tmp_path / f"{split}.jsonl").write_text(lines)
    corpus = curate(f"hf:{tmp_path}", config=CurateConfig(split="source"), workspace=workspace)
    assert corpus.metrics["documents"] == {"train": 30, "validation": 5, "test": 4}
    assert all(d.text.startswith("test ") for d in read_documents(corpus, "test"))
