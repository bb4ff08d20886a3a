"""The tokenize stage: every document in its shard, counted, special spellings kept as text."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from bloomery.core.artifact import Artifact
from bloomery.core.errors import ArtifactError, ConfigError
from bloomery.tokenizer.encode import TokenizeConfig, tokenize, tokenize_inputs
from bloomery.tokenizer.shards import ShardWriter, TokenShards
from bloomery.tokenizer.tokenizer import Tokenizer
from bloomery.tokenizer.train import TokenizerConfig, train_tokenizer

DOCUMENTS = {
    "train": ["Once upon a time 😀.\n" * 30, "", "<|endoftext|> is text here", "x"],
    "validation": ["Il était une fois."],
    "test": [],
}


@pytest.fixture
def made(workspace, fake_corpus) -> tuple[Artifact, Artifact]:
    corpus = fake_corpus(DOCUMENTS)
    return corpus, train_tokenizer(corpus, config=TokenizerConfig(vocab_size=300), workspace=workspace)


def test_documents_come_back(workspace, made):
    tokens = tokenize(*made, workspace=workspace)
    tokenizer = Tokenizer.load(made[1].path)
    assert tokens.kind == "tokens" and tokens.parents == (made[0].id, made[1].id)
    for split, texts in DOCUMENTS.items():
        shards = TokenShards(tokens, split)
        assert shards.num_documents == len(texts) == tokens.metrics["documents"][split]
        assert shards.text_bytes == sum(len(text.encode()) for text in texts) == tokens.metrics["text_bytes"][split]
        assert shards.num_tokens == tokens.metrics["tokens"][split]
        for index, text in enumerate(texts):
            ids = shards.document(index).tolist()
            assert ids[0] == tokenizer.bos_id and tokenizer.bos_id not in ids[1:]
            assert tokenizer.decode(ids) == text


def test_metrics_state_the_packing(workspace, made):
    packing = tokenize(*made, config=TokenizeConfig(context_length=32), workspace=workspace).metrics["packing"]
    assert packing["context_length"] == 32
    assert 0 <= packing["padded_share"] < 1 and 0 < packing["cropped_share"] < 1
    assert packing["labels"] + packing["padded"] == packing["positions"]


def test_it_is_reused(workspace, made):
    first = tokenize(*made, workspace=workspace)
    assert tokenize(*made, workspace=workspace).id == first.id
    assert len(workspace.ledger.runs(stage="tokenize")) == 1
    assert tokenize_inputs(*made).key != tokenize_inputs(*made, config=TokenizeConfig(context_length=64)).key


def test_a_tokenizer_with_an_end_of_its_own(workspace, made, fake_artifact, llama2: Path):
    """Llama 2's documents begin with <s> and end with </s>."""
    tokens = tokenize(made[0], fake_artifact("tokenizer", llama2), workspace=workspace)
    ids = TokenShards(tokens, "train").document(3).tolist()
    assert ids[0] == 1 and ids[-1] == 2 and 2 not in ids[1:-1]


def test_a_failure_publishes_nothing(workspace, made, monkeypatch: pytest.MonkeyPatch):
    """A full disk in the middle: one error, no artifact, no open file (warnings are errors here)."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    add = ShardWriter.add
    calls = iter([add, add, full])
    monkeypatch.setattr(ShardWriter, "add", lambda *args, **kwargs: next(calls)(*args, **kwargs))
    with pytest.raises(ArtifactError, match="No space left") as caught:
        tokenize(*made, workspace=workspace)
    assert "free some space" in caught.value.hint
    assert not list(workspace.artifacts.glob("tokens-*"))


def test_text_that_the_fast_engine_fails_on_is_noted(workspace, made, monkeypatch: pytest.MonkeyPatch):
    import tiktoken

    def panics(_: object, text: str) -> list[int]:
        raise type("PanicException", (BaseException,), {})("stack overflow")

    expected = tokenize(*made, workspace=workspace)
    monkeypatch.setattr(tiktoken.Encoding, "encode_ordinary", panics)
    events = []
    monkeypatch.setattr(workspace, "listeners", (events.append,))
    tokens = tokenize(*made, workspace=workspace, fresh=True)
    assert TokenShards(tokens, "train").document(0).tolist() == TokenShards(expected, "train").document(0).tolist()
    note, same = [event.data["text"] for event in events if event.kind == "note"]
    assert "was there already, to the bit" in same
    assert "failed on 5 pieces" in note and "stack overflow" in note


PROTEIN = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQ" * 9
DNA = "ATGAAAACCGCGTATATTGCGAAACAGCGTCAGATTAGCTTTGTGAAA" * 9


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [("codon", PROTEIN, True), ("codon", DNA.lower(), True), ("codon", DNA, False), ("residue", PROTEIN, False)],
)
def test_text_without_the_words_of_a_tokenizer_is_noted(
    workspace, fake_corpus, monkeypatch: pytest.MonkeyPatch, kind: Any, text: str, said: bool
):
    corpus = fake_corpus({"train": [text], "validation": [], "test": []})
    codec = train_tokenizer(corpus, config=TokenizerConfig(kind=kind), workspace=workspace)
    events = []
    monkeypatch.setattr(workspace, "listeners", (events.append,))
    tokenize(corpus, codec, workspace=workspace)
    notes = [event.data["text"] for event in events if event.kind == "note"]
    assert any("bytes a token" in note and "64 words (AAA, TTT)" in note for note in notes) is said


@pytest.mark.parametrize("bad", [{"context_length": 7}, {"shard_bytes": 1}])
def test_config_out_of_range(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        TokenizeConfig(**bad)
