"""ClipConfig: what is read, what is refused, and what is written."""

from __future__ import annotations

from typing import Any

import pytest

from bloomery.core.errors import ConfigError
from bloomery.models.clip_config import ClipConfig

SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


def _values(kind: str, **changes: Any) -> dict[str, Any]:
    """A config.json; a change is "text.key", "vision.key" or a key of the whole."""
    values: dict[str, Any] = {
        "model_type": kind,
        "text_config": {**SIZES, "vocab_size": 32},
        "vision_config": {**SIZES, "image_size": 8, "patch_size": 4},
    }
    for key, value in changes.items():
        part, _, name = key.rpartition("__")
        (values[f"{part}_config"] if part else values)[name] = value
    return values


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_what_is_written_is_read_again(kind: str):
    config = ClipConfig.from_hf(_values(kind))
    assert ClipConfig.from_hf(config.to_hf()).to_hf() == config.to_hf()
    assert config.output_size == (512 if kind == "clip" else 16)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "clipp"}, "model_type"),
        ({"temperature_init": 3.0}, "temperature_init"),
        ({"text__rope_theta": 3.0}, "rope_theta"),
        ({"vision__rope_theta": 3.0}, "rope_theta"),
        ({"text__model_type": "bert"}, "bert"),
        ({"vision__model_type": "vit"}, "vit"),
        ({"architectures": ["CLIPForImageClassification"]}, "CLIPForImageClassification"),
        ({"text_config": [1]}, "table"),
        ({"vision_config": 0}, "table"),
        ({"text_config_dict": []}, "table"),
        ({"text__num_hidden_layers": 5000}, "layers"),
        ({"text__eos_token_id": None}, "eos_token_id"),
        ({"text__eos_token_id": [3, 4]}, "eos_token_id"),
        ({"text__num_attention_heads": 3}, "num_attention_heads"),
        ({"projection_dim": 0}, "projection_dim"),
        ({"logit_scale_init_value": "high"}, "logit_scale_init_value"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=said):
        ClipConfig.from_hf(_values("clip", **changes))


def test_what_older_files_repeat_in_every_part_has_no_effect():
    """As the first published files of CLIP: transformers 4 wrote its generation settings into each table."""
    numbers = {
        "max_length": 20,
        "min_length": 0,
        "num_beams": 1,
        "num_beam_groups": 1,
        "diversity_penalty": 0.0,
        "temperature": 1.0,
        "top_k": 50,
        "top_p": 1.0,
        "typical_p": 1.0,
        "repetition_penalty": 1.0,
        "length_penalty": 1.0,
        "no_repeat_ngram_size": 0,
        "encoder_no_repeat_ngram_size": 0,
        "dropout": 0.0,
        "num_return_sequences": 1,
        "chunk_size_feed_forward": 0,
        "initializer_factor": 1.0,
    }
    switches = dict.fromkeys(
        (
            *("return_dict", "output_hidden_states", "output_attentions", "torchscript", "use_bfloat16"),
            *("is_encoder_decoder", "is_decoder", "add_cross_attention", "tie_encoder_decoder", "do_sample"),
            *("early_stopping", "output_scores", "return_dict_in_generate", "remove_invalid_values"),
        ),
        False,
    )
    nothing = dict.fromkeys(
        (
            *("torch_dtype", "cross_attention_hidden_size", "bad_words_ids", "forced_bos_token_id", "architectures"),
            *("forced_eos_token_id", "exponential_decay_length_penalty", "finetuning_task", "tokenizer_class"),
            *("prefix", "sep_token_id", "decoder_start_token_id", "task_specific_params", "problem_type"),
        )
    )
    labels = {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "label2id": {"LABEL_0": 0, "LABEL_1": 1}}
    repeated = {**numbers, **switches, **nothing, **labels, "pruned_heads": {}, "tie_word_embeddings": True}
    plain, older = _values("clip"), _values("clip", text_config_dict=None, transformers_version=None, **repeated)
    for part in ("text_config", "vision_config"):
        older[part] = {**repeated, **older[part], "_name_or_path": "", "transformers_version": "4.24.0"}
    assert ClipConfig.from_hf(older) == ClipConfig.from_hf(plain)


def test_towers_that_do_not_meet():
    with pytest.raises(ConfigError, match="a text's vector has 24 numbers, an image's 16"):
        ClipConfig.from_hf(_values("siglip", text__hidden_size=24))
    assert ClipConfig.from_hf(_values("siglip", text__hidden_size=24, text__projection_size=16)).output_size == 16
    with pytest.raises(ConfigError, match="vision_use_head"):
        ClipConfig.from_hf(_values("siglip", vision__vision_use_head=False))
    with pytest.raises(ConfigError, match="projection_dim"):
        ClipConfig.from_hf(_values("siglip", projection_dim=3))
