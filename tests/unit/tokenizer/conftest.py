"""Small tokenizers of both kinds, trained here once."""

from __future__ import annotations

import gzip
import json
import lzma
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from bloomery.core.artifact import Artifact, publish
from bloomery.core.quantity import Quantity
from bloomery.core.run import NoMeter
from bloomery.tokenizer.tokenizer import Tokenizer
from bloomery.tokenizer.train import TokenizerConfig, learn, write_tokenizer

TEXT = (
    "Once upon a time there was a small furnace in which people smelted iron. "
    "It's 1234567 degrees, they've said; I'LL believe it.\n\ndef smelt(ore):\n\treturn [o ** 2 for o in ore]  # 99.5\n"
    "Привет, мир! こんにちは世界。 नमस्ते दुनिया 😀👩‍👩‍👧 émigré naïve\n"
) * 20


@pytest.fixture(scope="session")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `train_tokenizer` writes it: byte-level BPE, 600 ids at most."""
    folder = tmp_path_factory.mktemp("ours")
    write_tokenizer(learn([TEXT], TokenizerConfig(vocab_size=600)), folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer(ours: Path) -> Tokenizer:
    return Tokenizer.load(ours)


@pytest.fixture(scope="session")
def llama2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the form of Llama 2's: SentencePiece-like BPE with byte fallback, `<s>` and `</s>`."""
    from tokenizers import SentencePieceBPETokenizer

    trained = SentencePieceBPETokenizer()
    trained.train_from_iterator([TEXT], vocab_size=500, show_progress=False, special_tokens=[], limit_alphabet=60)
    model = json.loads(trained.to_str())["model"]
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces = [text for text, _ in sorted(model["vocab"].items(), key=lambda item: item[1])]
    described = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": index,
                "content": text,
                "special": True,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
            }
            for index, text in enumerate(names[:3])
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": {text: index for index, text in enumerate([*names, *pieces])},
            "merges": model["merges"],
        },
    }
    folder = tmp_path_factory.mktemp("llama2")
    (folder / "tokenizer.json").write_text(json.dumps(described), encoding="utf-8")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": {"content": "</s>", "__type": "AddedToken"},
        "unk_token": "<unk>",
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.fixture
def fake_artifact(tmp_path: Path) -> Callable[[str, Path], Artifact]:
    """Publishes a copy of a folder's files as an artifact of a kind, without a stage."""

    def make(kind: str, folder: Path) -> Artifact:
        copy = tmp_path / "copies" / f"{kind}-{len(list(tmp_path.rglob('manifest.json')))}"
        shutil.copytree(folder, copy)
        return publish(
            copy,
            tmp_path / "published",
            kind=kind,
            parents=(),
            config={},
            provenance={},
            metrics={},
            energy_joules=Quantity.unknown(),
        )

    return make


@pytest.fixture
def fake_corpus(
    fake_artifact: Callable[[str, Path], Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[dict[str, list[str]]], Artifact]:
    """A corpus whose documents are given here: this floor's tests need nothing of how a corpus is stored."""
    documents: dict[str, dict[str, list[str]]] = {}

    def read_documents(corpus: Artifact, split: str) -> Iterator[SimpleNamespace]:
        for text in documents[corpus.id].get(split, []):
            yield SimpleNamespace(text=text)

    corpus_floor = ModuleType("bloomery.corpus")
    corpus_floor.read_documents = read_documents  # type: ignore[attr-defined]
    energy_floor = ModuleType("bloomery.energy")
    energy_floor.open_meter = NoMeter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bloomery.corpus", corpus_floor)
    monkeypatch.setitem(sys.modules, "bloomery.energy", energy_floor)

    def make(texts: dict[str, list[str]]) -> Artifact:
        folder = tmp_path / f"texts-{len(documents)}"
        folder.mkdir()
        (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
        corpus = fake_artifact("corpus", folder)
        documents[corpus.id] = texts
        return corpus

    return make


@pytest.fixture(scope="session")
def published(shared_data: Path) -> Callable[[str], bytes]:
    """The content of a published tokenizer file, unpacked."""
    unpack = {".xz": lzma.decompress, ".gz": gzip.decompress}

    def read(name: str) -> bytes:
        path = shared_data / "tokenizers" / name
        return unpack.get(path.suffix, bytes)(path.read_bytes())

    return read


@pytest.fixture(scope="session")
def multilingual(shared_data: Path) -> list[str]:
    """Lines of everyday text: 60 of each of MASSIVE's 51 languages, 20 of each of Tatoeba's."""
    texts: list[str] = []
    for path in sorted((shared_data / "massive").glob("*.tsv.xz")):
        with lzma.open(path, "rt", encoding="utf-8") as lines:
            texts += [line.rstrip("\n").split("\t")[-1] for _, line in zip(range(60), lines, strict=False)]
    with tarfile.open(shared_data / "tatoeba" / "tatoeba.tar.xz") as archive:
        for member in archive:
            if member.isfile() and not member.name.endswith(".eng") and (stream := archive.extractfile(member)):
                texts += stream.read().decode("utf-8", errors="replace").splitlines()[:20]
    assert len(texts) > 5000
    return texts


@pytest.fixture
def folder_of(tmp_path: Path) -> Callable[..., Path]:
    """Writes files, given as name=content with "__" for ".", into a new folder."""

    def make(**files: Any) -> Path:
        folder = tmp_path / f"folder-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        for name, content in files.items():
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            (folder / name.replace("__", ".")).write_bytes(data)
        return folder

    return make
