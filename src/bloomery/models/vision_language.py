"""The vision-language model: an image encoder whose vectors, projected, stand among a decoder's tokens (LLaVA).

Liu et al., arXiv 2304.08485; the projector of two layers is that of arXiv 2310.03744. The encoder is CLIP's or SigLIP's
tower, the decoder any family that bloomery knows. Shapes: B batch, T tokens, N images, P vectors an image, E the
decoder's hidden_size, V vocabulary. This module does not know tokenizers, prompts or how files become pixels.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import torch
from torch import Tensor, nn

from bloomery.core.errors import RequestError
from bloomery.models.cache import KVCache
from bloomery.models.decoder import Decoder
from bloomery.models.feed_forward import activation
from bloomery.models.outline import shapes_only
from bloomery.models.pretrained import save_generation, with_generation
from bloomery.models.vision import IGNORED, VisionEncoder
from bloomery.models.vision_language_config import VisionLanguageConfig
from bloomery.models.weights import DERIVED, load_weights, read_json, save_weights, tensor_names

# Older files name the tower's tensors as a model of their own would, transformers 5 does not.
_TOWER, _SHORT_TOWER = "vision_tower.vision_model.", "vision_tower."


class Projector(nn.Module):
    """linear_2(act(linear_1(x))): the image encoder's vectors to the decoder's width."""

    def __init__(self, config: VisionLanguageConfig) -> None:
        super().__init__()
        source, size = config.vision_config.hidden_size * len(config.layers), config.text_config.hidden_size
        bias = config.multimodal_projector_bias
        self.linear_1 = nn.Linear(source, size, bias=bias)
        self.act = activation(config.projector_hidden_act)
        self.linear_2 = nn.Linear(size, size, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(self.act(self.linear_1(x)))


class VisionLanguage(nn.Module):
    """A decoder that reads images. A new one has random weights."""

    def __init__(self, config: VisionLanguageConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_tower = VisionEncoder(config.vision_config)
        self.multi_modal_projector = Projector(config)
        self.language_model = Decoder(config.text_config)
        self.reset_projector()

    @property
    def context_length(self) -> int:
        """Tokens that it can read at once, an image's places included."""
        return self.config.text_config.context_length

    @torch.no_grad()
    def reset_projector(self) -> None:
        """Normal weights of std initializer_range and zero biases, for encoder and decoder that come from elsewhere."""
        for parameter in self.multi_modal_projector.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0.0, self.config.text_config.initializer_range)
            else:
                parameter.zero_()

    def image_features(self, pixel_values: Tensor) -> Tensor:
        """(N, C, height, width) -> (N, P, E)."""
        states = self.vision_tower.layer_states(pixel_values, self.config.layers)
        if self.config.vision_feature_select_strategy == "default":
            states = [state[:, 1:] for state in states]
        return self.multi_modal_projector(torch.cat(states, dim=-1))

    def embed(self, input_ids: Tensor, image_features: Tensor) -> Tensor:
        """(B, T) ids -> (B, T, E), with the images' vectors in place of the image tokens, in reading order.

        `image_features` are (N, P, E) or, in part of a text, (M, E). RequestError if there is not one vector for each
        image token.
        """
        embedded = self.language_model.embed(input_ids)
        places = input_ids == self.config.image_token_id
        vectors = image_features.reshape(-1, image_features.size(-1))
        if int(places.sum()) != len(vectors):
            raise RequestError(
                f"the text has {int(places.sum()):,} image tokens, the images have {len(vectors):,} vectors",
                hint=f"an image takes {self.config.num_image_tokens} tokens",
                param="input_ids",
            )
        return embedded.masked_scatter(places[..., None], vectors.to(embedded.dtype))

    def hidden_states(
        self, input_ids: Tensor, image_features: Tensor | None = None, *, cache: KVCache | None = None
    ) -> Tensor:
        """(B, T, E) after the last norm; without features, image tokens are tokens like any other."""
        embedded = None if image_features is None else self.embed(input_ids, image_features)
        return self.language_model.hidden_states(input_ids, cache=cache, inputs_embeds=embedded)

    def forward(
        self,
        input_ids: Tensor,
        pixel_values: Tensor | None = None,
        *,
        cache: KVCache | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """Logits (B, T, V), or (B, 1, V) of the last position. `pixel_values` (N, C, height, width) are the images
        whose tokens `input_ids` has; later steps with a cache need them no more. Errors as `Decoder.forward`'s."""
        features = None if pixel_values is None else self.image_features(pixel_values)
        x = self.hidden_states(input_ids, features, cache=cache)
        return self.language_model.logits(x[:, -1:] if last_only else x)


def load_vision_language(
    folder: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> VisionLanguage:
    """A model of images and text from a local Hugging Face folder, in evaluation mode.

    Errors as `load_pretrained`'s.
    """
    folder = Path(folder)
    config = VisionLanguageConfig.from_hf(read_json(folder / "config.json"))
    config = dataclasses.replace(config, text_config=with_generation(config.text_config, folder))
    with shapes_only():
        model = VisionLanguage(config)
    long = any(name.startswith(_TOWER) for name in tensor_names(folder))
    names = config.names(tower_prefix=_TOWER if long else _SHORT_TOWER)
    tied = {"language_model.lm_head.weight": "language_model.model.embed_tokens.weight"}
    load_weights(
        model,
        folder,
        names,
        tied=tied if config.text_config.tie_word_embeddings else {},
        ignored=re.compile(rf"({IGNORED}$|{DERIVED.pattern})"),
        dtype=dtype,
        device=device,
    )
    return model


def save_vision_language(model: VisionLanguage, folder: str | Path) -> None:
    """Write config.json, generation_config.json and safetensors that transformers reads."""
    save_weights(model, folder, model.config.names(tower_prefix=_TOWER), model.config.to_hf())
    save_generation(model.config.text_config, folder)
