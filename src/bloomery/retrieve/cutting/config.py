"""CutConfig: how documents are cut. This module does not know how it is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bloomery.core.errors import ConfigError

Method = Literal["auto", "structure", "sentences", "tokens", "code", "whole"]


@dataclass(frozen=True, kw_only=True)
class CutConfig:
    method: Method = "auto"
    """By headings, paragraphs, lists and tables; by sentences; by tokens alone; by functions and classes; not at all.
    auto is code for files of code, structure for all else."""
    size_tokens: int = 200
    """Of a chunk at most; of `tokenizer`, or words and signs where there is none."""
    overlap_tokens: int = 0
    """Of the end of a chunk that the next one begins with, at most, where both are of one section; whole sentences or
    lines, but with tokens."""
    tokenizer: str = ""
    """A tokenizer's folder or artifact; "" counts words and signs."""

    def __post_init__(self) -> None:
        if not 8 <= self.size_tokens <= 1_000_000:
            raise ConfigError(f'"size_tokens" is {self.size_tokens}, but should be from 8 to 1,000,000')
        if not 0 <= self.overlap_tokens <= self.size_tokens // 2:
            raise ConfigError(f'"overlap_tokens" is {self.overlap_tokens}, but should be at most half of a chunk')
