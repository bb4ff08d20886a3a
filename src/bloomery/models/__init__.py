"""Models: one decoder, the published families as short descriptions, and their files in and out.

Names are loaded when they are first used: what needs no PyTorch here waits for none.
"""

from typing import TYPE_CHECKING

from bloomery.core.lazily import lazily

if TYPE_CHECKING:
    from bloomery.models.cache import KVCache
    from bloomery.models.config import ModelConfig
    from bloomery.models.decoder import Decoder
    from bloomery.models.pretrained import load_pretrained, read_config, save_pretrained
    from bloomery.models.rope import RopeScaling

__getattr__ = lazily(
    __name__,
    {
        "cache": "KVCache",
        "config": "ModelConfig",
        "decoder": "Decoder",
        "pretrained": "load_pretrained read_config save_pretrained",
        "rope": "RopeScaling",
    },
)

__all__ = ["Decoder", "KVCache", "ModelConfig", "RopeScaling", "load_pretrained", "read_config", "save_pretrained"]
