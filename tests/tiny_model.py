"""A tiny random Qwen3 folder, written by transformers, with a tokenizer trained here: for engine and server tests.

Test folders read it with `runpy`, for pytest's import mode knows no helper modules.
"""

from __future__ import annotations

from pathlib import Path

TEXT = [
    "Once upon a time there was a small furnace that smelted iron. Anyone could build one.",
    "Ein Ofen, klein und heiß: über Nacht glüht er, öffnet früh. Ça va? 火 炉 🔥🔥",
    "def smelt(ore, charcoal):\n    return [iron for iron in ore if charcoal]\n",
] * 4


def make_tiny_model(folder: Path, *, vocab_size: int = 320, context: int = 256, seed: int = 0) -> Path:
    """Write config.json, model.safetensors and the tokenizer's files into `folder`; returns it."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from bloomery.tokenizer import Tokenizer
    from bloomery.tokenizer.train import TokenizerConfig, learn, write_tokenizer

    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(learn(TEXT, TokenizerConfig(vocab_size=vocab_size)), folder)
    tokenizer = Tokenizer.load(folder)
    config = Qwen3Config(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        initializer_range=0.15,  # large enough that some tokens are likelier than others
        bos_token_id=tokenizer.bos_id,
        eos_token_id=list(tokenizer.eos_ids),
    )
    torch.manual_seed(seed)
    Qwen3ForCausalLM(config).save_pretrained(folder)
    return folder
