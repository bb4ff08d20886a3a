"""Models: one decoder, the published families as short descriptions, and their files in and out."""

from bloomery.models.cache import KVCache
from bloomery.models.config import ModelConfig
from bloomery.models.decoder import Decoder
from bloomery.models.pretrained import load_pretrained, read_config, save_pretrained
from bloomery.models.rope import RopeScaling

__all__ = ["Decoder", "KVCache", "ModelConfig", "RopeScaling", "load_pretrained", "read_config", "save_pretrained"]
