"""Text to tokens and back: train, encode, chat templates, shards, packing."""

from bloomery.tokenizer.encode import TokenizeConfig, tokenize, tokenize_inputs
from bloomery.tokenizer.packing import PackedRows, evaluation_rows
from bloomery.tokenizer.pair import TokenizerPair
from bloomery.tokenizer.shards import ShardWriter, TokenShards
from bloomery.tokenizer.stream import StreamDecoder
from bloomery.tokenizer.tokenizer import Tokenizer
from bloomery.tokenizer.tool_style import STYLES, ToolStyle
from bloomery.tokenizer.train import TokenizerConfig, train_tokenizer, train_tokenizer_inputs

__all__ = [
    "STYLES",
    "PackedRows",
    "ShardWriter",
    "StreamDecoder",
    "TokenShards",
    "TokenizeConfig",
    "Tokenizer",
    "TokenizerConfig",
    "TokenizerPair",
    "ToolStyle",
    "evaluation_rows",
    "tokenize",
    "tokenize_inputs",
    "train_tokenizer",
    "train_tokenizer_inputs",
]
