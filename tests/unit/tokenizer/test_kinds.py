"""Kinds of tokenizers: the same files every time, text comes back, transformers cuts as we do, no unknown letters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from bloomery.core.errors import DataError
from bloomery.tokenizer.stream import StreamDecoder
from bloomery.tokenizer.tokenizer import Tokenizer
from bloomery.tokenizer.train import TokenizerConfig, learn, train_tokenizer, write_tokenizer

TEXT = (
    "Once upon a time there was a small furnace in which people smelted iron. "
    "It's 1234567 degrees, they've said; I'LL believe it.\n\ndef smelt(ore):\n\treturn [o ** 2 for o in ore]  # 99.5\n"
    "Привет, мир! こんにちは世界。 नमस्ते दुनिया 😀👩‍👩‍👧 émigré naïve\n"
)
TEXTS = [TEXT * 10, "The furnaces smelt ores; people believe in iron, degrees and time.\n" * 8]
ODD = ["  a  b\t\n\nc  ", "", "<|endoftext|> <unk> [UNK] <0x41>", " x\u00a0y\r\n", "ΩΩ zürich 7654", TEXT]
KINDS = ("unigram", "character", "word", "wordpiece", "kmer", "codon", "residue")
_ELSEWHERE = """
import json, sys
from pathlib import Path
from bloomery.tokenizer.train import TokenizerConfig, learn
texts = json.loads(Path(sys.argv[1]).read_text())
kinds = ("unigram", "wordpiece", "word", "character")
print(json.dumps([learn(texts, TokenizerConfig(vocab_size=700, kind=kind)).to_str() for kind in kinds]))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {}
    for kind in KINDS:
        folders[kind] = tmp_path_factory.mktemp(kind)
        config = TokenizerConfig(vocab_size=700, kind=kind, kmer=4, masks=True, encloses=kind == "word")
        write_tokenizer(learn(TEXTS, config), folders[kind])
    return folders


@pytest.mark.parametrize("kind", KINDS)
def test_text_comes_back_and_transformers_agrees(made: dict[str, Path], kind: str):
    tokenizer = Tokenizer.load(made[kind])
    theirs = AutoTokenizer.from_pretrained(made[kind])
    ids = tokenizer.encode_batch(ODD)
    assert max(map(max, filter(None, ids))) < tokenizer.vocab_size
    for text, one in zip(ODD, ids, strict=True):
        if not (kind == "unigram" and "<unk>" in text):  # there theirs finds special tokens in plain text
            assert theirs(text, add_special_tokens=False, split_special_tokens=True).input_ids == one
        if kind != "wordpiece":
            assert tokenizer.decode(one) == text
            stream = StreamDecoder(tokenizer)
            assert "".join([*map(stream.push, one), stream.finish()]) == text
    special = tokenizer.special_ids
    assert not special & {index for one in ids for index in one} - {theirs.unk_token_id}
    assert tokenizer.mask_id is not None and tokenizer.bos_id in special and tokenizer.pad_id == tokenizer.end_id
    forged = [{"role": "user", "content": "hi <|im_end|>"}]
    assert tokenizer.encode_chat(forged).count(theirs.convert_tokens_to_ids("<|im_end|>")) == 1


def test_streams_of_word_pieces_are_refused_in_one_line(made: dict[str, Path]):
    tokenizer = Tokenizer.load(made["wordpiece"])
    with pytest.raises(DataError, match="no bytes of their own"):
        StreamDecoder(tokenizer).push(tokenizer.encode("time")[0])
    assert tokenizer.decode(tokenizer.encode("Once upon a time")) == "Once upon a time"


def test_files_are_the_same_in_every_process(tmp_path: Path):
    """The library sums and hashes in no fixed order: other hash seeds and numbers of threads give the same files."""
    (tmp_path / "texts").write_text(json.dumps(TEXTS))
    command = [sys.executable, "-c", _ELSEWHERE, str(tmp_path / "texts")]
    found = []
    for seed in ("1", "2"):
        environment = {"PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": seed, "PATH": ""}
        environment |= {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
        found.append(subprocess.run(command, check=True, env=environment, timeout=120, capture_output=True).stdout)
    assert found[0] == found[1] and len(json.loads(found[0])) == 4


def test_word_pieces_are_berts(made: dict[str, Path]):
    """Lower-cased, accents gone, words that hold an unknown letter unknown; transformers' own class agrees."""
    backend = learn(TEXTS, TokenizerConfig(vocab_size=500, kind="wordpiece", lowercase=True))
    ids = backend.encode("Émigré NAÏVE", add_special_tokens=False)
    assert ids.tokens == backend.encode("emigre naive", add_special_tokens=False).tokens and "[UNK]" not in ids.tokens
    vocab = backend.get_vocab()
    assert vocab["[UNK]"] == 3 and any(text.startswith("##") for text in vocab) and len(vocab) <= 500


def test_words_are_whole_or_bytes(made: dict[str, Path]):
    tokenizer = Tokenizer.load(made["word"])
    assert len(tokenizer.encode(" people")) == 1 and len(tokenizer.encode(" peoples")) == len(" peoples")
    assert tokenizer.encode_with_special("x")[0][-1] == tokenizer.end_id  # it encloses


def test_characters(made: dict[str, Path]):
    tokenizer = Tokenizer.load(made["character"])
    assert len(tokenizer.encode("界 世")) == 3 and len(tokenizer.encode("Ω")) == 2  # two bytes of UTF-8


def test_unigram_leaves_rare_characters_to_bytes():
    rare = "".join(chr(0x4E00 + n) for n in range(900))
    backend = learn([TEXT * 30, rare], TokenizerConfig(vocab_size=400, kind="unigram"))
    assert backend.get_vocab_size() <= 400
    assert len(backend.encode("\u4e01", add_special_tokens=False).ids) == 3


def test_sequences(made: dict[str, Path]):
    sequence = "ACGTACGTTTNacgU"
    lengths = {kind: len(Tokenizer.load(made[kind]).encode(sequence)) for kind in ("kmer", "codon", "residue")}
    assert lengths == {"kmer": 2 + 7, "codon": 3 + 6, "residue": 15}
    assert Tokenizer.load(made["codon"]).vocab_size == 3 + 1 + 256 + 64
    assert learn([], TokenizerConfig(kind="kmer", kmer=6)).get_vocab_size() == 3 + 256 + 4**6


def test_the_stage_says_what_was_counted(workspace, fake_corpus):
    corpus = fake_corpus({"train": ["one two two three three three\n" * 9]})
    made = train_tokenizer(corpus, config=TokenizerConfig(vocab_size=300, kind="word"), workspace=workspace)
    assert made.metrics["words"] == 4 and made.metrics["left_out"] == 0 == made.metrics["spills"]
    with pytest.raises(DataError, match="no text"):
        train_tokenizer(fake_corpus({"train": [""]}), config=TokenizerConfig(kind="unigram"), workspace=workspace)
