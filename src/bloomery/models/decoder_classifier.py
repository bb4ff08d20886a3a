"""A decoder that gives labels: its last token's hidden state through a linear layer, as GPT did (Radford et al., 2018).

Read and written as transformers' `...ForSequenceClassification`. Shapes: B batch, T tokens, E hidden_size, C labels.
This module does not know tokenizers or losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from bloomery.core.errors import ConfigError
from bloomery.models.config import ModelConfig
from bloomery.models.decoder import Decoder
from bloomery.models.encoder_config import check_problem, read_labels
from bloomery.models.naming import Names, renamed
from bloomery.models.outline import shapes_only
from bloomery.models.weights import load_weights, read_json, save_weights

SUFFIX = "ForSequenceClassification"
_CAUSAL = ("ForCausalLM", "LMHeadModel")
_LABEL_KEYS = ("id2label", "label2id", "num_labels", "pad_token_id", "problem_type")


class DecoderClassifier(nn.Module):
    """Logits of a text's labels. `pad_token_id` is written for others, who look for it to find a text's end; `labels`
    are the classes' names, none given: they have numbers only."""

    def __init__(
        self, config: ModelConfig, *, num_labels: int, pad_token_id: int | None = None, labels: Sequence[str] = ()
    ) -> None:
        super().__init__()
        if num_labels < 1:
            raise ConfigError(f'"num_labels" should be at least 1, not {num_labels}')
        # No head over the vocabulary: it would be trained on nothing.
        self.config = replace(config, tie_word_embeddings=True)
        self.num_labels, self.pad_token_id, self.labels = num_labels, pad_token_id, tuple(labels)
        self.decoder = Decoder(self.config)
        self.classifier = nn.Linear(config.hidden_size, num_labels, bias=False)
        nn.init.normal_(self.classifier.weight, 0.0, config.initializer_range)

    @classmethod
    def of(cls, decoder: Decoder, *, num_labels: int, pad_token_id: int | None = None) -> DecoderClassifier:
        """A decoder's weights, copied, under a new random head."""
        made = cls(decoder.config, num_labels=num_labels, pad_token_id=pad_token_id)
        wanted = set(made.decoder.state_dict())
        made.decoder.load_state_dict({k: v for k, v in decoder.state_dict().items() if k in wanted})
        return made

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """(B, T) ids, padded at the end where `attention_mask` is 0 -> logits (B, C)."""
        hidden = self.decoder.hidden_states(input_ids)
        if attention_mask is None:
            return self.classifier(hidden[:, -1])
        last = attention_mask.sum(dim=1).clamp(min=1) - 1
        return self.classifier(hidden[torch.arange(len(last), device=last.device), last])

    def names(self) -> Names:
        """How published files name the tensors."""
        rules = [
            replace(rule, ours=tuple(f"decoder.{name}" for name in rule.ours)) for rule in self.config.names().rules
        ]
        covered = {name for rule in rules for name in rule.ours}
        plain = [name for name, _ in self.decoder.named_parameters(prefix="decoder") if name not in covered]
        rules += [renamed(name.removeprefix("decoder."), name) for name in plain]
        return Names([*rules, renamed("score.weight", "classifier.weight")])


def load_decoder_classifier(
    folder: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> DecoderClassifier:
    """A classifier from a local Hugging Face folder, in evaluation mode. Errors as `load_pretrained`'s."""
    folder = Path(folder)
    values = read_json(folder / "config.json")
    names, count = read_labels(values.get("id2label"), values.get("label2id"), values.get("num_labels"))
    check_problem(values, count)
    config = ModelConfig.from_hf({key: value for key, value in values.items() if key not in _LABEL_KEYS})
    with shapes_only():
        model = DecoderClassifier(
            config,
            num_labels=count,
            pad_token_id=values.get("pad_token_id"),
            labels=[names[str(number)] for number in range(count)] if names else (),
        )
    load_weights(model, folder, model.names(), dtype=dtype, device=device)
    return model


def save_decoder_classifier(model: DecoderClassifier, folder: str | Path) -> None:
    """Write config.json and safetensors that transformers reads."""
    document = model.config.to_hf()
    for ending in _CAUSAL:
        document["architectures"] = [name.replace(ending, SUFFIX) for name in document["architectures"]]
    texts = model.labels or tuple(f"LABEL_{number}" for number in range(model.num_labels))
    labels = {str(number): text for number, text in enumerate(texts)}
    document |= {"id2label": labels, "label2id": {text: int(number) for number, text in labels.items()}}
    document["pad_token_id"] = model.pad_token_id
    save_weights(model, folder, model.names(), document)
