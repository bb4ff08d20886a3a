"""Training a tokenizer: the same bytes every time, every byte encodable, the files complete."""

from __future__ import annotations

import json
import lzma
import subprocess
import sys
from pathlib import Path

import pytest

from bloomery.core.errors import ConfigError, DataError
from bloomery.tokenizer.tokenizer import Tokenizer
from bloomery.tokenizer.train import (
    MIN_VOCAB_SIZE,
    TokenizerConfig,
    learn,
    train_tokenizer,
    train_tokenizer_inputs,
    write_tokenizer,
)

_TRAIN_ELSEWHERE = """
import sys
from pathlib import Path
from bloomery.tokenizer.train import TokenizerConfig, learn, write_tokenizer
text = Path(sys.argv[1]).read_text(encoding="utf-8")
write_tokenizer(learn(text.splitlines(keepends=True), TokenizerConfig(vocab_size=1500)), Path(sys.argv[2]))
"""


def test_files_are_the_same_in_every_process(shared_data: Path, tmp_path: Path):
    """Other hash seeds and other numbers of threads give the same bytes."""
    with lzma.open(shared_data / "text" / "wagahaiwa_ja.txt.xz", "rt", encoding="utf-8") as stream:
        (tmp_path / "text").write_text(stream.read(400_000), encoding="utf-8")
    made = []
    for seed, threads in (("1", "1"), ("2", "4"), ("3", "2")):
        folder = tmp_path / seed
        folder.mkdir()
        command = [sys.executable, "-c", _TRAIN_ELSEWHERE, str(tmp_path / "text"), str(folder)]
        environment = {"PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": threads, "PATH": ""}
        subprocess.run(command, check=True, env=environment, timeout=120)
        made.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert made[0] == made[1] == made[2]
    assert set(made[0]) == {
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "chat_template.jinja",
    }


def test_the_smallest_vocabulary_is_bytes(tmp_path: Path):
    write_tokenizer(learn(["aaaa bbbb aaaa"], TokenizerConfig(vocab_size=MIN_VOCAB_SIZE)), tmp_path)
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.vocab_size == MIN_VOCAB_SIZE == 259
    text = "aaaa é\x00😀"
    assert len(tokenizer.encode(text)) == len(text.encode()) and tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(("digits", "expected"), [(3, ["123", "456", "7"]), (1, list("1234567"))])
def test_digits_are_grouped(tmp_path: Path, digits: int, expected: list[str]):
    backend = learn(["1234567 123 456 " * 50], TokenizerConfig(vocab_size=400, digits=digits))
    assert backend.encode("1234567", add_special_tokens=False).tokens == expected


def test_compression_is_that_of_a_learned_vocabulary(shared_data: Path, tmp_path: Path):
    """4,096 ids on Shakespeare: GPT-2's 50,257 reach 3.3 bytes a token on it (338,025 tokens, nanoGPT's count)."""
    with lzma.open(shared_data / "text" / "tinyshakespeare.txt.xz", "rt", encoding="utf-8") as stream:
        text = stream.read()
    write_tokenizer(learn([text], TokenizerConfig()), tmp_path)
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.vocab_size == 4096
    assert 3.3 < len(text.encode()) / len(tokenizer.encode(text)) < 4.5


def test_saved_config_says_what_transformers_needs(ours: Path):
    config = json.loads((ours / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast" and config["clean_up_tokenization_spaces"] is False
    assert config["chat_template"] == (ours / "chat_template.jinja").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "bad", [{"vocab_size": 258}, {"min_frequency": 0}, {"digits": 0}, {"sample_bytes": 0}, {"max_token_bytes": 0}]
)
def test_config_out_of_range(bad: dict[str, int]):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        TokenizerConfig(**bad)


def test_the_stage(workspace, fake_corpus):
    corpus = fake_corpus({"train": ["Once upon a time.\n" * 50, "", "ok"], "validation": ["zzzzzzz " * 99]})
    config = TokenizerConfig(vocab_size=300)
    made = train_tokenizer(corpus, config=config, workspace=workspace)
    assert made.kind == "tokenizer" and made.parents == (corpus.id,)
    assert made.metrics["vocab_size"] <= 300 and made.metrics["sample_bytes"] == 902
    tokenizer = Tokenizer.load(made.path)
    assert len(tokenizer.encode(" upon")) == 1 and len(tokenizer.encode("zzzz")) == 4  # validation is not learned from
    assert train_tokenizer(corpus, config=config, workspace=workspace).id == made.id
    assert len(workspace.ledger.runs(stage="train_tokenizer")) == 1
    again = train_tokenizer(corpus, config=config, workspace=workspace, fresh=True)
    assert again.id == made.id and len(workspace.ledger.runs(stage="train_tokenizer")) == 2


def test_the_sample_is_bounded(workspace, fake_corpus):
    corpus = fake_corpus({"train": ["abc def\n" * 20_000, "never seen"]})
    made = train_tokenizer(corpus, config=TokenizerConfig(vocab_size=270, sample_bytes=1000), workspace=workspace)
    assert 1000 <= made.metrics["sample_bytes"] < 70_000 and made.metrics["sample_documents"] == 1


def test_a_corpus_without_text(workspace, fake_corpus):
    with pytest.raises(DataError, match="no text"):
        train_tokenizer(fake_corpus({"train": [""]}), workspace=workspace)


def test_inputs_depend_on_corpus_and_config(fake_corpus):
    one, other = fake_corpus({"train": ["a"]}), fake_corpus({"train": ["b"]})
    keys = {
        train_tokenizer_inputs(one).key,
        train_tokenizer_inputs(other).key,
        train_tokenizer_inputs(one, config=TokenizerConfig(vocab_size=300)).key,
    }
    assert len(keys) == 3
