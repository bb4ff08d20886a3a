"""SeeingGlassBox: a model of pictures to look into: ViT, CLIP and SigLIP, LLaVA.

A patch of a picture is shown where a token is: its place as row and column. This module does not know how the numbers
are made (see `glass_box`, `models.inside`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from bloomery.core.errors import RequestError
from bloomery.engine.glass_box import GlassBox, Where, place_of, view_of
from bloomery.engine.glass_views import AttentionView, NeighboursView, TokenAt
from bloomery.engine.vision_language_model import VisionLanguageModel
from bloomery.models.clip import Clip
from bloomery.models.image_processor import ImageProcessor, Picture
from bloomery.models.inside import GRID_LIMIT, capture, stacks
from bloomery.models.vision import VisionEncoder
from bloomery.models.vision_config import VisionConfig
from bloomery.models.vision_language import VisionLanguage
from bloomery.tokenizer import Tokenizer

NO_TOKEN = -1
"""The token id of a patch."""


class SeeingGlassBox(GlassBox):
    """See the module. What a model of pictures and texts writes with is looked into as any decoder, by the methods of
    `GlassBox`; of the others there is their attention."""

    seeing: Clip | VisionEncoder | VisionLanguage
    processor: ImageProcessor

    @classmethod
    def of(cls, model: nn.Module, tokenizer: Tokenizer | None, processor: ImageProcessor, *, name: str) -> GlassBox:
        """RequestError for a model of pictures that has no attention."""
        if not isinstance(model, Clip | VisionEncoder | VisionLanguage):
            raise RequestError(f"{name} has no attention", hint="vit, clip, siglip and llava have")
        box = cls.__new__(cls)
        box.model = model.language_model if isinstance(model, VisionLanguage) else model  # type: ignore[assignment]
        box.tokenizer = box.target_tokenizer = tokenizer  # type: ignore[assignment]  # encoders of pictures have none
        box.name, box.seeing, box.processor = name, model.eval(), processor
        return box

    @torch.inference_mode()
    def attention(
        self,
        text: str | Sequence[int],
        *,
        target: str | None = None,
        cross: bool = False,
        layer: int = -1,
        head: int = 0,
        query: int = -1,
        vectors: bool = False,
        image: Picture | None = None,
        grid_limit: int = GRID_LIMIT,
    ) -> AttentionView:
        """One head, as `GlassBox.attention`'s. With an `image`: of an encoder of pictures the picture's, of LLaVA the
        decoder's over picture and `text`, where "<image>" may stand; `cross` there means its image encoder's. CLIP
        without one: its text encoder's."""
        model = self.seeing
        if target is not None:
            raise RequestError(f"{self.name} has no target", hint="encoder-decoders have", param="target")
        if isinstance(model, VisionLanguage) and image is None:
            if cross:
                raise RequestError("the image encoder looks at a picture", hint="add --image FILE", param="image")
            options = {"layer": layer, "head": head, "query": query, "vectors": vectors, "grid_limit": grid_limit}
            return super().attention(text, **options)  # type: ignore[arg-type]
        if isinstance(model, VisionEncoder) and image is None:
            raise RequestError(f"{self.name} reads pictures", hint="add --image FILE", param="image")
        if isinstance(model, VisionLanguage) and not cross:
            stack, asking = "language_model.model.layers.self_attn", self._mixed(text, image)
        elif image is not None:
            prefix = {Clip: "vision_model.", VisionLanguage: "vision_tower."}.get(type(model), "")
            stack, asking = f"{prefix}layers.self_attn", patches(_vision(model))
        else:
            stack, asking = "text_model.layers.self_attn", self._tokens(self._text_ids(text))
        names = stacks(model)[stack]
        number = place_of("layer", layer, len(names))
        with capture(model, [names[number]]) as looks:
            self._see(image, asking, tower=cross)
        at = Where(model=self.name, stack=stack, layer=number, layers=len(names), head=head, query=query)
        return view_of(looks[names[number]], at, asking, asking, vectors=vectors, grid_limit=grid_limit)

    def neighbours(self, token: str | int, *, top: int = 10) -> NeighboursView:
        """As `GlassBox.neighbours`, of LLaVA. RequestError for the others."""
        if not isinstance(self.seeing, VisionLanguage):
            self._encode("")
        return super().neighbours(token, top=top)

    def _encode(self, text: str | Sequence[int]) -> list[int]:
        if not isinstance(self.seeing, VisionLanguage):
            raise RequestError(f"of {self.name} there is its attention alone", hint="bloomery inspect attention")
        return super()._encode(text)

    def _text_ids(self, text: str | Sequence[int]) -> list[int]:
        """A text as CLIP or SigLIP reads it."""
        assert isinstance(self.seeing, Clip)
        limit = self.seeing.context_length
        ids = self.tokenizer.encode_with_special(text, max_length=limit)[0] if isinstance(text, str) else list(text)
        if not 0 < len(ids) <= limit:
            raise RequestError(f"a text of {len(ids):,} tokens; {self.name} reads from 1 to {limit:,}", param="text")
        return ids

    def _mixed(self, text: str | Sequence[int], image: Picture | None) -> tuple[TokenAt, ...]:
        """A prompt's tokens, the picture's patches where it stands."""
        model = self.seeing
        assert isinstance(model, VisionLanguage) and image is not None
        reader = VisionLanguageModel(model, self.tokenizer, self.processor, name=self.name)
        ids = reader.encode_with_images(text if isinstance(text, str) else list(text), 1)
        shown = iter(patches(_vision(model))[-model.config.num_image_tokens :])
        tokens = self._tokens(ids)
        special = model.config.image_token_id
        return tuple(
            TokenAt(index=one.index, token_id=special, text=next(shown).text) if one.token_id == special else one
            for one in tokens
        )

    def _see(self, image: Picture | None, tokens: tuple[TokenAt, ...], *, tower: bool) -> None:
        model = self.seeing
        device = next(model.parameters()).device
        pixels = None if image is None else self.processor(image).to(device)
        ids = torch.tensor([[token.token_id for token in tokens]], device=device)
        if isinstance(model, VisionLanguage) and not tower:
            model.hidden_states(ids, None if pixels is None else model.image_features(pixels))
        elif pixels is not None:
            (model if isinstance(model, VisionEncoder) else _tower(model)).hidden_states(pixels)
        else:
            assert isinstance(model, Clip)
            model.text_model.hidden_states(ids)


def patches(config: VisionConfig) -> tuple[TokenAt, ...]:
    """What an encoder of pictures reads, in order: the class token if it has one, and each patch by row, column."""
    rows, columns = (size // patch for size, patch in zip(config.image_shape, config.patch_shape, strict=True))
    names = ["[class]"] if config.family.cls_token else []
    names += [f"{row},{column}" for row in range(rows) for column in range(columns)]
    return tuple(TokenAt(index=n, token_id=NO_TOKEN, text=text) for n, text in enumerate(names))


def _tower(model: Clip | VisionLanguage) -> VisionEncoder:
    return model.vision_model if isinstance(model, Clip) else model.vision_tower


def _vision(model: Clip | VisionEncoder | VisionLanguage) -> VisionConfig:
    return model.config if isinstance(model, VisionEncoder) else _tower(model).config
