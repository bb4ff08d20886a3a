"""Corpus to tokens over real floors: curate, train a tokenizer, tokenize, pack, and read with transformers."""

from __future__ import annotations

import lzma
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from bloomery.core.artifact import Artifact
from bloomery.core.errors import ArtifactError, DataError
from bloomery.corpus import curate, read_documents
from bloomery.tokenizer import (
    PackedRows,
    TokenizeConfig,
    Tokenizer,
    TokenizerConfig,
    TokenShards,
    evaluation_rows,
    tokenize,
    train_tokenizer,
)


@pytest.fixture
def made(shared_data: Path, tmp_path: Path, workspace) -> tuple[Artifact, Artifact, Artifact]:
    """Scenes of Shakespeare and Japanese paragraphs as documents; a tokenizer of 1,000 ids; their tokens."""
    documents = []
    for name in ("tinyshakespeare.txt.xz", "wagahaiwa_ja.txt.xz"):
        with lzma.open(shared_data / "text" / name, "rt", encoding="utf-8") as stream:
            text = stream.read(200_000)
        documents += [text[start : start + 700] for start in range(0, len(text), 700)]
    files = [tmp_path / f"{index:03}.txt" for index in range(len(documents))]
    for path, text in zip(files, documents, strict=True):
        path.write_text(text, encoding="utf-8")
    corpus = curate(files, workspace=workspace)
    tokenizer = train_tokenizer(corpus, config=TokenizerConfig(vocab_size=1000), workspace=workspace)
    tokens = tokenize(corpus, tokenizer, config=TokenizeConfig(context_length=128), workspace=workspace)
    return corpus, tokenizer, tokens


def test_from_documents_to_rows(made: tuple[Artifact, Artifact, Artifact]):
    corpus, tokenizer, tokens = made
    codec, reference = Tokenizer.load(tokenizer.path), AutoTokenizer.from_pretrained(tokenizer.path)
    for split in ("train", "validation", "test"):
        shards, texts = TokenShards(tokens, split), [document.text for document in read_documents(corpus, split)]
        assert shards.num_documents == len(texts) == corpus.metrics["documents"][split]
        assert shards.text_bytes == corpus.metrics["text_bytes"][split]
        for index, text in enumerate(texts):
            ids = shards.document(index).tolist()
            assert codec.decode(ids) == text
            assert ids == reference(text)["input_ids"]
        labels = np.concatenate([rows[1] for rows in evaluation_rows(shards, 128, 4)])
        assert int((labels != -100).sum()) == int(shards.num_labels().sum())
    packed = PackedRows(TokenShards(tokens, "train"), context_length=128, seed=0)
    input_ids, labels = packed.next_batch(8)
    assert (input_ids[:, 0] == codec.bos_id).all() and input_ids.shape == labels.shape == (8, 128)
    assert tokens.metrics["packing"]["padded_share"] < 0.05


def test_a_damaged_shard_is_named(made: tuple[Artifact, Artifact, Artifact]):
    """Opening the artifact notices a flipped bit; reading it without verification notices a truncated file."""
    tokens = made[2]
    shard = tokens.path / "train-00000.bin"
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    with pytest.raises(ArtifactError, match=r"train-00000\.bin is damaged"):
        Artifact.open(tokens.path)
    shard.write_bytes(data[:-1])
    with pytest.raises(DataError, match=r"train-00000\.bin .*truncated"):
        TokenShards(tokens, "train")
