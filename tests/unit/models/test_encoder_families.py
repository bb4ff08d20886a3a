"""Rules name exactly the parameters that an encoder has (the golden tests compare the numbers)."""

from __future__ import annotations

import pytest
import torch

from bloomery.models.encoder import Encoder
from bloomery.models.encoder_config import HEADS, EncoderConfig
from bloomery.models.encoder_families import ENCODER_FAMILIES

SMALL = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 24}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", sorted(ENCODER_FAMILIES))
def test_rules_and_parameters_match(family: str, head: str):
    stem = ENCODER_FAMILIES[family].architecture
    endings = ("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification")
    architecture = stem + dict(zip(HEADS, endings, strict=True))[head]
    config = EncoderConfig.from_hf({"model_type": family, "architectures": [architecture], **SMALL})
    with torch.device("meta"):
        parameters = dict(Encoder(config).named_parameters()).keys()
    rules = config.names().rules
    named = {name for rule in rules for name in rule.ours}
    # Heads of ModernBERT and plain classifiers bear the same names in its files.
    assert {name for name in parameters if not name.startswith(("head.", "classifier."))} <= named
    assert len({rule.theirs for rule in rules}) == len(rules)
