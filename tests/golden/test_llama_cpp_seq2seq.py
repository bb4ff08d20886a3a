"""GGUF files of T5 against llama.cpp itself: logits, greedy text and token ids.

As tests/golden/test_llama_cpp.py, they run where $BLOOMERY_LLAMA_PYTHON names a Python that has llama-cpp-python.
"""

from __future__ import annotations

import importlib.util
import io
import json
import lzma
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bloomery.engine.gguf_file import export_gguf
from bloomery.models.seq2seq import Seq2Seq, load_seq2seq, save_seq2seq
from bloomery.models.seq2seq_config import Seq2SeqConfig
from bloomery.tokenizer import Tokenizer

PYTHON = os.environ.get("BLOOMERY_LLAMA_PYTHON") or (sys.executable if importlib.util.find_spec("llama_cpp") else "")
pytestmark = pytest.mark.skipif(not PYTHON, reason="no llama.cpp: set BLOOMERY_LLAMA_PYTHON")

READER = """
import ctypes, json, sys
import numpy as np
import llama_cpp as c
path, asked, out = sys.argv[1:4]
asked = json.load(open(asked))
c.llama_log_set(ctypes.cast(None, c.llama_log_callback), None)
c.llama_backend_init()
model = c.llama_model_load_from_file(path.encode(), c.llama_model_default_params())
vocab = c.llama_model_get_vocab(model)
def tokenize(text, special):
    data = text.encode()
    room = (c.llama_token * 4096)()
    return list(room[: c.llama_tokenize(vocab, data, len(data), room, 4096, special, False)])
params = c.llama_context_default_params()
params.n_ctx, params.n_batch, params.n_ubatch, params.n_threads, params.type_k, params.type_v = 512, 512, 512, 1, 0, 0
params.flash_attn_type = 0
context = c.llama_init_from_model(model, params)
def batch(ids):
    made = c.llama_batch_init(len(ids), 0, 1)
    made.n_tokens = len(ids)
    for i, token in enumerate(ids):
        made.token[i], made.pos[i], made.n_seq_id[i], made.logits[i] = token, batch.start + i, 1, 1
        made.seq_id[i][0] = 0
    batch.start += len(ids)
    return made
batch.start = 0
assert c.llama_model_has_encoder(model) and c.llama_model_has_decoder(model)
found = {"tokens": [tokenize(text, False) for text in asked["texts"]], "greedy": [],
         "prompts": [tokenize(text, True) for text in asked["texts"]],
         "start": c.llama_model_decoder_start_token(model)}
assert c.llama_encode(context, batch(asked["ids"])) == 0
size, next_token, rows = c.llama_vocab_n_tokens(vocab), found["start"], []
batch.start = 0
for _ in range(asked["steps"]):
    assert c.llama_decode(context, batch([next_token])) == 0
    rows.append(np.ctypeslib.as_array(c.llama_get_logits_ith(context, -1), (size,)).copy())
    next_token = int(rows[-1].argmax())
    found["greedy"].append(next_token)
np.save(out + ".npy", np.array(rows))
json.dump(found, open(out, "w"))
"""


def ask(path: Path, folder: Path, **asked: Any) -> tuple[dict[str, Any], np.ndarray]:
    (folder / "asked.json").write_text(json.dumps(asked))
    arguments = [PYTHON, "-c", READER, str(path), str(folder / "asked.json"), str(folder / "out.json")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads((folder / "out.json").read_text()), np.load(folder / "out.json.npy")


@pytest.fixture(scope="module")
def lines(shared_data: Path) -> list[str]:
    """60 everyday sentences in each of MASSIVE's languages."""
    found: list[str] = []
    for path in sorted((shared_data / "massive").glob("*.tsv.xz")):
        with lzma.open(path, "rt", encoding="utf-8") as rows:
            found += [row.rstrip("\n").split("\t")[-1] for _, row in zip(range(60), rows, strict=False)]
    return found


@pytest.fixture(scope="module")
def unigram(lines: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a vocabulary that SentencePiece itself has trained as T5's was."""
    import sentencepiece

    out, folder = io.BytesIO(), tmp_path_factory.mktemp("unigram")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=out,
        vocab_size=4000,
        model_type="unigram",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        character_coverage=0.99,
        minloglevel=2,
    )
    (folder / "spiece.model").write_bytes(out.getvalue())
    (folder / "config.json").write_text('{"model_type": "t5"}')
    return folder


def random_t5(folder: Path, tokenizer: Path, **changes: Any) -> Path:
    folder.mkdir()
    codec = Tokenizer.load(tokenizer)
    codec.save(folder)
    size = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 3, "num_heads": 4}
    config = Seq2SeqConfig.from_hf({"model_type": "t5", **size, "vocab_size": codec.vocab_size + 4, **changes})
    torch.manual_seed(0)
    model = Seq2Seq(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    save_seq2seq(model, folder)
    return folder


CASES: dict[str, dict[str, Any]] = {
    "t5": {},
    "v1.1": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "mt5, wider heads, fewer layers that write": {
        "model_type": "mt5",
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
        "d_kv": 12,
        "num_decoder_layers": 2,
    },
    "few buckets": {"relative_attention_num_buckets": 16, "num_decoder_layers": 1},
}


@pytest.mark.parametrize("case", CASES)
def test_logits_and_greedy_text(case: str, unigram: Path, lines: list[str], tmp_path: Path):
    folder = random_t5(tmp_path / "model", unigram, **CASES[case])
    model, tokenizer = load_seq2seq(folder), Tokenizer.load(unigram)
    texts = ["Once upon a time", "  two  spaces\n\tEs glüht: 火 🔥 ﬁ Å ½", "don't WE'LL 3.14159", *lines[::7]]
    ids = torch.randint(3, 3000, (1, 200), generator=torch.Generator().manual_seed(1))
    found, scores = ask(export_gguf(folder, tmp_path / "m.gguf"), tmp_path, ids=ids[0].tolist(), steps=24, texts=texts)
    assert found["start"] == model.config.decoder_start_token_id
    with torch.inference_mode():
        row = torch.tensor([[found["start"], *found["greedy"][:-1]]])
        ours = model(ids, row)[0].numpy()
    # llama.cpp looks GELU up in a table of half precision.
    assert np.abs(scores - ours).max() / np.abs(ours).max() < (5e-3 if model.config.gated else 1e-5)
    assert found["greedy"] == ours.argmax(axis=1).tolist()
    import sentencepiece

    reference = sentencepiece.SentencePieceProcessor(model_file=str(unigram / "spiece.model"))
    assert found["tokens"] == [tokenizer.encode(text) for text in texts] == [reference.encode(text) for text in texts]
    assert found["prompts"] == [model.source_ids(tokens) for tokens in found["tokens"]]


def test_halves_and_a_byte_level_vocabulary(lines: list[str], tmp_path: Path):
    """A T5 as `bloomery train --objective spans` makes it, in bfloat16."""
    from bloomery.tokenizer import TokenizerConfig
    from bloomery.tokenizer.train import learn, write_tokenizer

    (tmp_path / "tokenizer").mkdir()
    write_tokenizer(learn(lines, TokenizerConfig(vocab_size=1000)), tmp_path / "tokenizer")
    folder = random_t5(tmp_path / "model", tmp_path / "tokenizer")
    path = export_gguf(folder, tmp_path / "m.gguf", dtype="bfloat16")
    model, tokenizer = load_seq2seq(folder), Tokenizer.load(folder)
    ids = list(range(5, 60))
    found, scores = ask(path, tmp_path, ids=ids, steps=4, texts=lines[::20])
    with torch.inference_mode():
        ours = model(torch.tensor([ids]), torch.tensor([[found["start"], *found["greedy"][:-1]]]))[0].numpy()
    assert np.abs(scores - ours).max() / np.abs(ours).max() < 3e-2  # weights and products in bfloat16
    assert found["prompts"] == [model.source_ids(tokenizer.encode(text)) for text in lines[::20]]
