"""TrainConfig: what is learnt, from which fields of a corpus, by which model, for how long.

This module does not know how any of it is done.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from bloomery.core.config import check_choices
from bloomery.core.errors import ConfigError
from bloomery.tokenizer import TokenizerConfig
from bloomery.training.augment import AugmentConfig
from bloomery.training.building import NetConfig
from bloomery.training.corruption import MaskingConfig, MiddleConfig, SpanConfig
from bloomery.training.fit import FitConfig

ROWS = ("causal", "middle", "masked", "spans")
"""Objectives that read packed rows of tokens; the others read examples."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What is learnt, from which fields, by which model, for how long."""

    objective: Literal[
        "causal", "middle", "masked", "spans", "sequence", "classes", "values", "tags", "contrastive", "captions"
    ] = "masked"
    """Next tokens; middles of documents; blanks; spans taken out; a target for each text; a class, a value or tags;
    captions that belong to pictures; captions to write."""
    target_field: str = ""
    """Metadata field of the target, label, value or tags [default: target, label, value or tags]."""
    context_length: int = 128
    """Tokens of a row, or at most of a text."""
    net: NetConfig = field(default_factory=NetConfig)
    """Sizes of a model from random weights."""
    fit: FitConfig = field(default_factory=FitConfig)
    """How long and how fast."""
    masking: MaskingConfig = field(default_factory=MaskingConfig)
    """Blanks of a masked objective."""
    spans: SpanConfig = field(default_factory=SpanConfig)
    """Spans of span corruption."""
    middle: MiddleConfig = field(default_factory=MiddleConfig)
    """Fill in the middle."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """How pictures are changed at random in training."""
    contrastive: Literal["softmax", "sigmoid"] = "softmax"
    """The loss of contrastive; sigmoid needs the family siglip."""
    blind: bool = False
    """captions: every picture is grey, for comparison."""
    prompt_field: str = ""
    """captions: metadata field of a question that stands before the text; the text is then the answer. It is learnt as
    `<image>QUESTION ANSWER`, from the question's last token on (the space is the answer's), and asked as
    `<image>QUESTION`; the model's chat template writes the same, so chat clients ask as it was trained."""
    label_smoothing: float = 0.0
    """Of sequence: the share of a label that is spread over the vocabulary."""
    target_vocab_size: int = 0
    """sequence with gru or lstm: targets have a tokenizer of their own, with this many ids; 0: one for both."""

    def __post_init__(self) -> None:
        check_choices(self, where="train")
        if self.context_length < 8:
            raise ConfigError('"train.context_length" should be at least 8')
        if self.target_field and self.objective in ROWS:
            raise ConfigError(f'"{self.objective}" reads plain text: "train.target_field" has no meaning')

    @property
    def field_name(self) -> str:
        """The metadata field that is learnt."""
        usual = {"sequence": "target", "classes": "label", "values": "value", "tags": "tags"}
        return self.target_field or usual.get(self.objective, "")

    def _texts(self) -> tuple[str, ...]:
        """Metadata fields whose texts a tokenizer should know, too."""
        target = self.field_name if self.objective == "sequence" and not self.target_vocab_size else ""
        fields = (target, self.prompt_field)
        return tuple(field for field in fields if field)

    def tokenizer(self, given: TokenizerConfig) -> TokenizerConfig:
        """`given` with the special tokens that the objective needs, and the target's text to learn from."""
        return replace(
            given,
            masks=given.masks or self.objective == "masked",
            sentinels=given.sentinels or (100 if self.objective == "spans" else 0),
            fill_in_the_middle=given.fill_in_the_middle or self.objective == "middle",
            encloses=given.encloses or self.objective == "contrastive",
            images=given.images or self.objective == "captions",
            metadata_fields=given.metadata_fields or self._texts(),
        )

    def target_tokenizer(self, given: TokenizerConfig) -> TokenizerConfig | None:
        """`given` for targets alone; None where they share the sources' tokenizer."""
        if not self.target_vocab_size:
            return None
        return replace(given, vocab_size=self.target_vocab_size, texts=False, metadata_fields=(self.field_name,))
