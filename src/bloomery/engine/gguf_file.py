"""GGUF out: a model and its tokenizer in one file for llama.cpp (two, if it reads pictures), by ggml's `gguf` library.

Matrices are float32, float16 or bfloat16, norms, biases and rope factors float32, as its converter writes them. This
module does not quantise, and reads no GGUF (`gguf_import` does); it does not know families (`gguf_families`) nor
tokenizers (`gguf_vocabulary`). Format: github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bloomery.core.artifact import Artifact, fsync
from bloomery.core.errors import ConfigError, DataError, MissingExtraError
from bloomery.core.workspace import Workspace
from bloomery.engine.finding import find_model
from bloomery.engine.gguf_encoder import encoder_tensors, gguf_encoder, write_encoder
from bloomery.engine.gguf_families import GgufFamily, context_of, gguf_family, gguf_tensors, slides_otherwise
from bloomery.engine.gguf_projector import CLIP, MMPROJ, check_projector, projector_tensors, write_projector
from bloomery.engine.gguf_seq2seq import ARCHITECTURE as SEQ2SEQ
from bloomery.engine.gguf_seq2seq import check_seq2seq, seq2seq_tensors, write_seq2seq
from bloomery.engine.gguf_vocabulary import write_vocabulary
from bloomery.engine.loading import as_dtype
from bloomery.models import Decoder, ModelConfig, load_pretrained
from bloomery.models.encoder import load_encoder
from bloomery.models.families import SLIDING
from bloomery.models.image_processor import ImageProcessor
from bloomery.models.kinds import kind_of
from bloomery.models.pooling import Pooling
from bloomery.models.seq2seq import load_seq2seq
from bloomery.models.vision_language import load_vision_language
from bloomery.models.weights import read_json
from bloomery.tokenizer import Tokenizer, TokenizerPair

_FILE_TYPES = {torch.float32: "ALL_F32", torch.float16: "MOSTLY_F16", torch.bfloat16: "MOSTLY_BF16"}
_log = logging.getLogger("bloomery.engine")


def export_gguf(
    reference: str | Path | Artifact,
    path: str | Path,
    *,
    dtype: str | torch.dtype | None = None,
    workspace: Workspace | str | Path | None = None,
    note: Callable[[str], None] = _log.warning,
) -> Path:
    """Write one GGUF file; it appears whole or not at all. `dtype` None keeps the checkpoint's.

    What a model reads pictures with is a second file, `gguf_files` names both. `note` is told what the reader should
    know: a context cut to what llama.cpp computes exactly. Raises ConfigError for a family, option or tokenizer that
    llama.cpp does not have, DataError if a file is there already, MissingExtraError without the `gguf` library.
    """
    return gguf_files(reference, path, dtype=dtype, workspace=workspace, note=note)[0]


def gguf_files(
    reference: str | Path | Artifact,
    path: str | Path,
    *,
    dtype: str | torch.dtype | None = None,
    workspace: Workspace | str | Path | None = None,
    note: Callable[[str], None] = _log.warning,
) -> list[Path]:
    """As `export_gguf`: every file that it writes, the one that was asked for first."""
    target, kind = Path(path).expanduser().absolute(), as_dtype(dtype)
    gguf = _library()
    source, name = find_model(reference, workspace)
    if not target.parent.is_dir():
        raise DataError(f"{target.parent} is no folder", hint="make it first")
    what = kind_of(read_json(source / "config.json")).name
    if what not in _KINDS:
        raise ConfigError(f"GGUF is not written for {name} (kind: {what})", hint="export a folder instead")
    made = {target.with_name(prefix + target.name): write for prefix, write in _KINDS[what].items()}
    if there := next((path for path in made if path.exists()), None):
        raise DataError(f"{there} is there already", hint="give another name")
    partial = {path: path.with_name(f".{path.name}.{os.getpid()}.partial") for path in made}
    try:
        for path, write in made.items():
            writer = write(gguf, partial[path], source, name, kind, note)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
            fsync(partial[path])
        for path in made:
            partial[path].replace(path)
        fsync(target.parent)
    finally:
        for path in partial.values():
            path.unlink(missing_ok=True)
    return list(made)


def _library() -> Any:
    try:
        import gguf
    except ImportError:
        raise MissingExtraError("gguf", "gguf", "writing GGUF files") from None
    return gguf


def _decoder(
    gguf: Any, partial: Path, source: Path, name: str, dtype: torch.dtype | None, note: Callable[[str], None]
) -> Any:
    """A writer that holds all of a decoder."""
    return _write_decoder(gguf, partial, load_pretrained(source, dtype=dtype), source, name, note)


def _write_decoder(
    gguf: Any, partial: Path, decoder: Decoder, source: Path, name: str, note: Callable[[str], None]
) -> Any:
    config, tokenizer = decoder.config, Tokenizer.load(source)
    config.check_published()
    family = gguf_family(config)
    writer = _writer(gguf, partial, family.architecture, name, decoder.output_weight.dtype)
    write_sizes(gguf, writer, config, family)
    if (context := context_of(config, family)) < config.max_position_embeddings:
        note(f"llama.cpp knows no sliding window here: the context is {context:,} tokens, where it makes no difference")
    eos = config.eos_token_id[0] if config.eos_token_id else None
    write_vocabulary(gguf, writer, tokenizer, rows=config.vocab_size, eos_id=eos)
    _add_all(gguf, writer, gguf_tensors(decoder, family))
    return writer


def _encoder(
    gguf: Any, partial: Path, source: Path, name: str, dtype: torch.dtype | None, note: Callable[[str], None]
) -> Any:
    """A writer that holds an encoder's body: llama.cpp embeds with it. Its head stays behind, which is noted."""
    encoder, tokenizer = load_encoder(source, dtype=dtype), Tokenizer.load(source)
    family = gguf_encoder(encoder.config)
    if encoder.config.family.offset_positions and encoder.config.pad_token_id in tokenizer.encode_with_special("")[0]:
        raise ConfigError(
            "llama.cpp has no RoBERTa whose padding token stands in texts, where it has no position",
            hint="export a folder instead",
        )
    writer = _writer(gguf, partial, family.architecture, name, encoder.embed_tokens.weight.dtype)
    write_encoder(gguf, writer, encoder.config, Pooling.from_folder(source))
    if encoder.config.head != "none":
        note("llama.cpp embeds with this encoder: its head is left out")
    write_vocabulary(gguf, writer, tokenizer, rows=encoder.config.vocab_size, encloses=True)
    _add_all(gguf, writer, encoder_tensors(encoder, family))
    return writer


def _seq2seq(
    gguf: Any, partial: Path, source: Path, name: str, dtype: torch.dtype | None, note: Callable[[str], None]
) -> Any:
    """A writer that holds all of an encoder-decoder."""
    model, tokenizers = load_seq2seq(source, dtype=dtype), TokenizerPair.load(source)
    config = model.config
    check_seq2seq(config)
    if not tokenizers.shared:
        raise ConfigError("llama.cpp reads and writes with one tokenizer", hint="export a folder instead")
    writer = _writer(gguf, partial, SEQ2SEQ, name, model.embed_tokens.weight.dtype)
    write_seq2seq(writer, config)
    write_vocabulary(gguf, writer, tokenizers.source, rows=config.vocab_size, eos_id=config.eos_token_id, ends=True)
    _add_all(gguf, writer, seq2seq_tensors(model))
    return writer


def _language(
    gguf: Any, partial: Path, source: Path, name: str, dtype: torch.dtype | None, note: Callable[[str], None]
) -> Any:
    """A writer that holds the decoder of a model of pictures and texts."""
    return _write_decoder(gguf, partial, load_vision_language(source, dtype=dtype).language_model, source, name, note)


def _projector(
    gguf: Any, partial: Path, source: Path, name: str, dtype: torch.dtype | None, note: Callable[[str], None]
) -> Any:
    """A writer that holds what such a model sees with: its image encoder and projector."""
    model, processor = load_vision_language(source, dtype=dtype), ImageProcessor.from_folder(source)
    check_projector(model.config, processor)
    writer = _writer(gguf, partial, CLIP, name, model.multi_modal_projector.linear_1.weight.dtype)
    write_projector(gguf, writer, model.config, processor)
    _add_all(gguf, writer, projector_tensors(model))
    note(f"llama.cpp sees with the second file: llama-mtmd-cli -m FILE.gguf --mmproj {MMPROJ}FILE.gguf --image PICTURE")
    if model.config.vision_config.family.cls_token:
        note(
            "llama.cpp misplaces the class token of CLIP's encoder until its issue 25814 is closed: it sees worse there"
        )
    if processor.do_center_crop:
        note("llama.cpp pads a picture to a square, where this model cuts one out of its middle: square ones are alike")
    return writer


_KINDS: dict[str, dict[str, Callable[..., Any]]] = {
    "decoder": {"": _decoder},
    "encoder": {"": _encoder},
    "seq2seq": {"": _seq2seq},
    "vision-language": {"": _language, MMPROJ: _projector},
}
"""What writes each file of a kind of model, by what is put before its name."""


def _writer(gguf: Any, partial: Path, architecture: str, name: str, dtype: torch.dtype) -> Any:
    writer = gguf.GGUFWriter(partial, architecture)
    writer.add_name(name)
    writer.add_file_type(getattr(gguf.LlamaFileType, _FILE_TYPES[dtype]))
    return writer


def write_sizes(gguf: Any, writer: Any, config: ModelConfig, family: GgufFamily) -> None:
    """A decoder's sizes and options under llama.cpp's keys."""
    writer.add_context_length(context_of(config, family))
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    (writer.add_layer_norm_eps if family.layer_norm else writer.add_layer_norm_rms_eps)(config.rms_norm_eps)
    if config.family.positions == "rotary":
        _write_rope(gguf, writer, config)
    if family.every and config.sliding_window is not None:
        writer.add_sliding_window(config.sliding_window)
        if slides_otherwise(config, family):
            kinds = [config.layer_type(layer) == SLIDING for layer in range(config.num_hidden_layers)]
            writer.add_sliding_window_pattern(kinds)
        if config.rope_local_base_freq is not None:
            writer.add_rope_freq_base_swa(config.rope_local_base_freq)
    if config.attn_logit_softcapping is not None:
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
    if config.final_logit_softcapping is not None:
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    if "use_parallel_residual" in config.family.fields:
        writer.add_parallel_residual(config.use_parallel_residual)
    if config.num_experts:
        writer.add_expert_count(config.num_experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
        writer.add_expert_feed_forward_length(config.moe_intermediate_size or config.intermediate_size)


def _write_rope(gguf: Any, writer: Any, config: ModelConfig) -> None:
    writer.add_rope_dimension_count(config.rotary_dim)
    writer.add_rope_freq_base(config.rope_theta)
    scaling = config.rope_scaling
    if scaling is None or scaling.rope_type == "llama3":  # whose factors are a tensor
        return
    yarn = scaling.rope_type == "yarn"
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN if yarn else gguf.RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(scaling.factor)
    if yarn:
        original = scaling.original_max_position_embeddings or config.max_position_embeddings
        writer.add_rope_scaling_orig_ctx_len(original)
        if scaling.beta_fast is not None:
            writer.add_rope_scaling_yarn_beta_fast(scaling.beta_fast)
        if scaling.beta_slow is not None:
            writer.add_rope_scaling_yarn_beta_slow(scaling.beta_slow)


def _add_all(gguf: Any, writer: Any, tensors: Iterable[tuple[str, Tensor]]) -> None:
    for name, tensor in tensors:
        tensor = tensor.contiguous()
        if tensor.ndim == 1 or tensor.dtype == torch.float32:
            writer.add_tensor(name, tensor.float().numpy())
        elif tensor.dtype == torch.bfloat16:
            data = tensor.view(torch.uint8).numpy()
            writer.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType.BF16)
        else:
            writer.add_tensor(name, tensor.numpy().astype(np.float16, copy=False))
