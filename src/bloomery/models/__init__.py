"""Models: one decoder, the published families as short descriptions, and their files in and out."""

from bloomery.models.cache import KVCache
from bloomery.models.config import ModelConfig
from bloomery.models.decoder import Decoder
from bloomery.models.rope import RopeScaling
from bloomery.models.weights import load_pretrained, read_config, save_pretrained

__all__ = ["Decoder", "KVCache", "ModelConfig", "RopeScaling", "load_pretrained", "read_config", "save_pretrained"]
