"""Text to tokens and back: train, encode, chat templates, shards, packing."""

from bloomery.tokenizer.packing import PackedRows, evaluation_rows
from bloomery.tokenizer.shards import ShardWriter, TokenShards

__all__ = ["PackedRows", "ShardWriter", "TokenShards", "evaluation_rows"]
