"""EncoderConfig: published configs are read and written back, what is not supported is named."""

from __future__ import annotations

from typing import Any

import pytest

from bloomery.core.errors import ConfigError
from bloomery.models.encoder_config import EncoderConfig

SMALL = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 24}


@pytest.mark.parametrize("name", ["bert", "roberta", "modernbert"])
@pytest.mark.parametrize("ending", ["Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification"])
def test_every_key_of_the_reference_is_known(name: str, ending: str):
    """A config.json as transformers writes it, defaults and all, is read; so is what we make of it."""
    from transformers import AutoConfig

    reference = AutoConfig.for_model(name)
    stem = {"bert": "Bert", "roberta": "Roberta", "modernbert": "ModernBert"}[name]
    written = {**reference.to_dict(), "architectures": [stem + ending], "model_type": name}
    config = EncoderConfig.from_hf(written)
    assert EncoderConfig.from_hf(config.to_hf()) == config
    bare = EncoderConfig.from_hf({"model_type": name, "architectures": [stem + ending]})
    assert {**vars(bare), "id2label": config.id2label} == vars(config)  # only the labels' names are left to chance


def test_labels():
    config = EncoderConfig.from_hf(
        {
            "model_type": "bert",
            "architectures": ["BertForSequenceClassification"],
            "id2label": {"0": "ham", "1": "spam"},
        }
    )
    assert config.num_labels == 2 and config.to_hf()["label2id"] == {"ham": 0, "spam": 1}


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"model_type": "albert"}, "albert"),
        ({"embedding_size": 128}, "embedding_size"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"is_decoder": True}, "is_decoder"),
        ({"hidden_act": "gelo"}, "gelo"),
        ({"num_attention_heads": 3}, "multiple"),
        ({"hidden_size": 0}, "hidden_size"),
        ({"hidden_size": "16"}, "hidden_size"),
        ({"architectures": ["BertForQuestionAnswering"]}, "QuestionAnswering"),
        ({"architectures": [3]}, "architecture"),
        ({"local_attention": 8}, "local_attention"),
        ({"layer_norm_eps": 0.0}, "layer_norm_eps"),
        ({"model_type": "roberta", "max_position_embeddings": 2}, "context"),
        ({"model_type": "modernbert", "layer_types": ["full_attention"]}, "layer_types"),
        ({"model_type": "modernbert", "classifier_pooling": "max"}, "classifier_pooling"),
        ({"model_type": "modernbert", "global_attn_every_n_layers": 0}, "global_attn"),
        ({"model_type": "modernbert", "rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "rope"),
    ],
)
def test_what_is_not_supported(changed: dict[str, Any], word: str):
    with pytest.raises(ConfigError, match=word):
        EncoderConfig.from_hf({"model_type": "bert", **SMALL, **changed})


@pytest.mark.parametrize(
    ("labels", "problem", "fits"),
    [
        (3, "single_label_classification", True),
        (1, "regression", True),
        (2, "regression", False),
        (3, "multi_label_classification", False),
    ],
)
def test_problems_whose_answers_are_neither_one_label_nor_one_number(labels: int, problem: str, fits: bool):
    values = {"model_type": "bert", "num_labels": labels, "problem_type": problem}
    assert EncoderConfig.from_hf({**values, "architectures": ["BertModel"]}).head == "none"
    written = {**values, "architectures": ["BertForSequenceClassification"]}
    if fits:
        assert EncoderConfig.from_hf(written).num_labels == labels
        return
    with pytest.raises(ConfigError, match="problem_type"):
        EncoderConfig.from_hf(written)


def test_keys_of_published_files_that_change_nothing():
    """bert-base-multilingual-cased and bert-base-chinese say how they were pooled; transformers reads none of it."""
    sizes = {"model_type": "bert", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    pooler = {"pooler_fc_size": 768, "pooler_num_attention_heads": 12, "pooler_num_fc_layers": 3}
    published = {**sizes, **pooler, "pooler_size_per_head": 128, "pooler_type": "first_token_transform"}
    assert EncoderConfig.from_hf({**published, "directionality": "bidi"}) == EncoderConfig.from_hf(sizes)
    with pytest.raises(ConfigError, match="directionality"):
        EncoderConfig.from_hf({**sizes, "directionality": "left"})
