"""EngineStats: what an engine has done so far, as numbers. This module does not know how they are counted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class EngineStats:
    """What an engine has done since it was made; all zero before its first request. Tokens, unless said otherwise."""

    cache_usage: float = 0.0
    """Share of the key/value memory that belongs to somebody, from 0 to 1."""
    prefix_queries: int = 0
    """Looked up in what is known of earlier prompts."""
    prefix_hits: int = 0
    """Found there, and not read again."""
    preemptions: int = 0
    """Texts that gave their memory back and had to be read again."""
    drafted: int = 0
    """Guessed by a draft and checked."""
    accepted: int = 0
    """Guessed right."""
    native_steps: int = 0
    """Steps of decoding in native code."""
    decode_steps: int = 0
    """Steps of decoding in all."""
    decode_path: str = ""
    """What makes them, or why that is PyTorch; empty before the first request."""
