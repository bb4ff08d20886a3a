"""GGUF files of LLaVA against llama.cpp itself: the vectors of a picture, and the greedy text after it.

As tests/golden/test_llama_cpp.py, they run where $BLOOMERY_LLAMA_PYTHON names a Python that has llama-cpp-python, here
with llama.cpp's mtmd (as it is built by default).
"""

from __future__ import annotations

import importlib.util
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bloomery.engine.gguf_file import gguf_files
from bloomery.engine.loading import load
from bloomery.engine.vision_language_model import VisionLanguageModel
from bloomery.models.vision_language import VisionLanguage

models = runpy.run_path(str(Path(__file__).parents[1] / "gguf_models.py"))

PYTHON = os.environ.get("BLOOMERY_LLAMA_PYTHON") or (sys.executable if importlib.util.find_spec("llama_cpp") else "")


def _has_mtmd() -> bool:
    if not PYTHON:
        return False
    done = subprocess.run([PYTHON, "-c", "import llama_cpp.mtmd_cpp"], capture_output=True, timeout=120, check=False)
    return done.returncode == 0


pytestmark = pytest.mark.skipif(not _has_mtmd(), reason="no llama.cpp with mtmd: set BLOOMERY_LLAMA_PYTHON")

READER = """
import ctypes, json, sys
import numpy as np
import llama_cpp as c
import llama_cpp.mtmd_cpp as m
path, mmproj, asked, out = sys.argv[1:5]
asked = json.load(open(asked))
c.llama_log_set(ctypes.cast(None, c.llama_log_callback), None)
c.llama_backend_init()
model = c.llama_model_load_from_file(path.encode(), c.llama_model_default_params())
vocab = c.llama_model_get_vocab(model)
params = c.llama_context_default_params()
params.n_ctx, params.n_batch, params.n_ubatch, params.n_threads, params.type_k, params.type_v = 256, 256, 256, 1, 0, 0
params.flash_attn_type = 0
context = c.llama_init_from_model(model, params)
options = m.mtmd_context_params_default()
options.use_gpu, options.n_threads, options.warmup, options.flash_attn_type = False, 1, False, 0
sees = m.mtmd_init_from_file(mmproj.encode(), model, options)
assert m.mtmd_support_vision(sees)
pixels = np.load(asked["pixels"])
data = np.ascontiguousarray(pixels)
bitmap = m.mtmd_bitmap_init(pixels.shape[1], pixels.shape[0], data.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8)))
text = m.mtmd_input_text()
marked = asked["prompt"].encode().replace(b"<image>", m.mtmd_get_marker(sees) or m.mtmd_default_marker())
text.text, text.text_len, text.add_special, text.parse_special = marked, len(marked), True, True
chunks = m.mtmd_input_chunks_init()
assert m.mtmd_tokenize(sees, chunks, ctypes.byref(text), (m.mtmd_bitmap_p_ctypes * 1)(bitmap), 1) == 0
size, count, vectors, tokens = c.llama_model_n_embd(model), m.mtmd_input_chunks_size(chunks), None, []
for i in range(count):
    chunk = m.mtmd_input_chunks_get(chunks, i)
    number = m.mtmd_input_chunk_get_n_tokens(chunk)
    if m.mtmd_input_chunk_get_type(chunk) == m.MTMD_INPUT_CHUNK_TYPE_IMAGE:
        assert m.mtmd_encode_chunk(sees, chunk) == 0
        vectors = np.ctypeslib.as_array(m.mtmd_get_output_embd(sees), (number * size,)).reshape(number, size).copy()
        tokens += [-1] * number
    else:
        length = ctypes.c_size_t()
        tokens += list(m.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(length))[:number])
past, greedy, rows = c.llama_pos(0), [], []
assert m.mtmd_helper_eval_chunks(sees, context, chunks, 0, 0, 256, True, ctypes.byref(past)) == 0
position = past.value
for _ in range(asked["steps"]):
    row = np.ctypeslib.as_array(c.llama_get_logits_ith(context, -1), (c.llama_vocab_n_tokens(vocab),)).copy()
    rows.append(row)
    greedy.append(int(row.argmax()))
    batch = c.llama_batch_init(1, 0, 1)
    batch.n_tokens, batch.token[0], batch.pos[0], batch.n_seq_id[0], batch.logits[0] = 1, greedy[-1], position, 1, 1
    batch.seq_id[0][0] = 0
    assert c.llama_decode(context, batch) == 0
    position += 1
np.savez(out + ".npz", vectors=vectors, logits=np.array(rows))
json.dump({"greedy": greedy, "tokens": tokens}, open(out, "w"))
"""


def _alike(theirs: np.ndarray, ours: np.ndarray) -> bool:
    """llama.cpp has GELU's tanh form, in half precision."""
    return bool(np.abs(theirs - ours).max() / np.abs(ours).max() < 5e-3)


def class_token_last(model: VisionLanguage, pixels: torch.Tensor) -> torch.Tensor:
    """What llama.cpp makes of a CLIP tower while its issue 25814 is open: the class token stands behind the patches,
    its positions and the places that are looked at are those of one before them."""
    tower, layers = model.vision_tower, model.vision_tower.config.num_hidden_layers + 1
    x = tower.embed_patches(pixels).flatten(2).transpose(1, 2)
    assert tower.cls_token is not None and tower.embed_norm is not None
    x = tower.embed_norm(torch.cat([x, tower.cls_token.expand(1, 1, -1)], dim=1) + tower.embed_positions.weight)
    states = [x]
    for layer in tower.layers:
        states.append(layer(states[-1]))
    chosen = [states[layer % layers][:, 1:] for layer in model.config.layers]
    return model.multi_modal_projector(torch.cat(chosen, dim=-1))


@pytest.mark.parametrize("case", models["SEES"])
def test_vectors_and_greedy_text(case: str, tmp_path: Path):
    folder = models["random_llava"](tmp_path / "model", **models["SEES"][case])
    path, mmproj = gguf_files(folder, tmp_path / "m.gguf", note=lambda sentence: None)
    assert mmproj.name == "mmproj-m.gguf"
    # As large as the encoder wants it: what is compared is the model, not two ways of resizing.
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28, 3), dtype=np.uint8)
    np.save(tmp_path / "pixels.npy", pixels)
    asked = {"pixels": str(tmp_path / "pixels.npy"), "prompt": "a furnace <image>\nWhat is it?", "steps": 12}
    (tmp_path / "asked.json").write_text(json.dumps(asked))
    files = [str(path), str(mmproj), str(tmp_path / "asked.json"), str(tmp_path / "out.json")]
    done = subprocess.run([PYTHON, "-c", READER, *files], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found, arrays = json.loads((tmp_path / "out.json").read_text()), np.load(tmp_path / "out.json.npz")
    ours: Any = load(folder, device="cpu")
    assert isinstance(ours, VisionLanguageModel)
    values = ours.processor([pixels])
    with torch.inference_mode():
        features = ours.model.image_features(values)
        if "clip" in case and not _alike(arrays["vectors"], features[0].numpy()):
            features = class_token_last(ours.model, values)
        ids = ours.encode_with_images(asked["prompt"], 1)
        special = ours.model.config.image_token_id
        assert found["tokens"] == [-1 if index == special else index for index in ids]
        row = torch.tensor([[*ids, *found["greedy"][:-1]]])
        hidden = ours.model.hidden_states(row, features)
        logits = ours.model.language_model.logits(hidden)[0, len(ids) - 1 :].numpy()
    assert _alike(arrays["vectors"], features[0].numpy())
    assert np.abs(arrays["logits"] - logits).max() / np.abs(logits).max() < 1e-2
    assert found["greedy"] == logits.argmax(axis=1).tolist()
