"""One way to open every published form, and one line for what is none."""

from __future__ import annotations

import base64
import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bloomery.core.artifact import Artifact
from bloomery.core.errors import BloomeryError, DataError
from bloomery.core.workspace import Workspace
from bloomery.tokenizer.forms import as_tiktoken
from bloomery.tokenizer.opening import named_apart, open_tokenizer
from bloomery.tokenizer.tokenizer import Tokenizer

TEXT = "Wake me up at nine, naïve 東京"


def test_folders_files_and_artifacts_are_the_same_tokenizer(
    ours: Path, tmp_path: Path, fake_artifact: Callable[[str, Path], Artifact]
):
    made = fake_artifact("tokenizer", ours)
    workspace = Workspace(tmp_path / "home")
    shutil.move(made.path, workspace.artifacts / made.name)
    packed = tmp_path / "mine.json.gz"
    packed.write_bytes(gzip.compress((ours / "tokenizer.json").read_bytes()))
    opened = [open_tokenizer(one, workspace) for one in (ours, ours / "tokenizer.json", packed, made.name)]
    assert len({one.digest for one in opened}) == 1
    assert len({tuple(one.tokenizer.encode(TEXT)) for one in opened}) == 1
    assert [one.name for one in opened] == [ours.name, ours.name, "mine", made.name]
    assert [one.artifact for one in opened] == ["", "", "", made.id]
    assert list(named_apart(opened)) == [ours.name, f"{ours.name} (2)", "mine", made.name]


def test_published_files_are_told_apart_by_what_is_in_them(shared_data: Path, tmp_path: Path):
    import sentencepiece
    from tokenizers import BertWordPieceTokenizer

    folder = shared_data / "tokenizers"
    shutil.copy(folder / "spm_test_model.model", tmp_path / "any.name")
    pieces = open_tokenizer(tmp_path / "any.name").tokenizer
    library = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spm_test_model.model"))
    assert pieces.encode(TEXT) == library.encode(TEXT)
    words = open_tokenizer(folder / "bert-base-uncased_vocab.txt")
    shutil.copy(folder / "bert-base-uncased_vocab.txt", tmp_path / "vocab.txt")
    bert = BertWordPieceTokenizer(str(tmp_path / "vocab.txt"), lowercase=True)
    assert words.tokenizer.encode(TEXT) == bert.encode(TEXT, add_special_tokens=False).ids
    assert open_tokenizer(tmp_path / "vocab.txt").name == tmp_path.name


def test_our_own_rank_file_is_read_with_what_stands_beside_it(ours: Path, tmp_path: Path, multilingual: list[str]):
    import tiktoken

    folder = Tokenizer.load(ours)
    ranks, beside = as_tiktoken(folder)
    path, side = tmp_path / "own.tiktoken", tmp_path / "own.tiktoken.json"
    path.write_bytes(ranks)
    side.write_bytes(beside)
    packed = tmp_path / "own.tiktoken.gz"
    packed.write_bytes(gzip.compress(ranks))
    said = json.loads(beside)
    lines = [line.split() for line in ranks.splitlines()]
    theirs = tiktoken.Encoding(
        "own",
        pat_str=said["pat_str"],
        mergeable_ranks={base64.b64decode(token): int(rank) for token, rank in lines},
        special_tokens=said["special_tokens"],
    )
    texts = [*multilingual[::9], TEXT, "  a  b\t\n\nc  ", ""]
    for one in (path, packed):
        again = open_tokenizer(one)
        assert again.name == "own" and again.tokenizer.vocab_size == folder.vocab_size == theirs.n_vocab
        assert again.tokenizer.encode_batch(texts) == folder.encode_batch(texts) == theirs.encode_ordinary_batch(texts)
    for damaged, found in (('{"pat_str": 1}', f"{side} is damaged"), (None, f"{path} holds")):
        side.unlink() if damaged is None else side.write_text(damaged)
        with pytest.raises(DataError) as error:
            open_tokenizer(path)
        assert error.value.message.startswith(found) and "\n" not in error.value.one_line()
    assert error.value.hint.startswith("own.tiktoken.json should name pat_str")


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n", b"hello there", b"{}", b"\n\xff\xff\xff", b'{"model": 1'])
def test_a_file_that_is_no_tokenizer_is_one_line(tmp_path: Path, content: bytes):
    path = tmp_path / "x.model"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        open_tokenizer(path)
    assert "\n" not in error.value.one_line() and "x.model" in error.value.message


def test_a_name_that_is_nothing_is_one_line(tmp_path: Path):
    for workspace in (None, Workspace(tmp_path / "home")):
        for name in ("nothing", "tokenizer-0123456789ab", "a\0b"):
            with pytest.raises(BloomeryError) as error:
                open_tokenizer(name, workspace)
            assert "tiktoken" in error.value.hint
