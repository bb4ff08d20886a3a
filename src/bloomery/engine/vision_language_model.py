"""VisionLanguageModel: a language model that may be shown images, ready to be asked.

A prompt has a place for each image, written as the image token ("<image>"), and none means at its start. Without images
it is a language model like any other. This module does not know where weights come from (see `loading`) nor HTTP.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Unpack

import torch
from torch import Tensor

from bloomery.core.errors import RequestError
from bloomery.core.run import Meter
from bloomery.engine.adapters import Adapters
from bloomery.engine.engine import EngineConfig
from bloomery.engine.language_model import LanguageModel, Prompt, SamplingOptions, is_chat
from bloomery.engine.results import Delta, GenerationResult
from bloomery.models.image_processor import ImageProcessor, Picture, listed
from bloomery.models.vision_language import VisionLanguage
from bloomery.tokenizer import Tokenizer
from bloomery.tokenizer.special import PLAIN_PICTURE_TEMPLATE


class VisionLanguageModel(LanguageModel):
    """See the module. `decoder` is the language model alone, `model` the whole."""

    def __init__(
        self,
        model: VisionLanguage,
        tokenizer: Tokenizer,
        processor: ImageProcessor,
        *,
        name: str,
        meter: Meter | None = None,
        engine: EngineConfig | None = None,
    ) -> None:
        """`meter` None opens the machine's own."""
        super().__init__(model.language_model, tokenizer, name=name, meter=meter, engine=engine)
        self._adapters = Adapters(self.decoder, inside=True)
        self.model = model.eval()
        self.processor = processor

    @property
    def image_token(self) -> str:
        """How a place for an image is written in a prompt."""
        number = self.model.config.image_token_id
        known = number < self.tokenizer.vocab_size and number in self.tokenizer.special_ids
        return self.tokenizer.token_text(number) if known else "<image>"

    def what(self) -> str:
        """What this model is."""
        return "a language model that sees"

    def encode_prompt(self, prompt: Prompt, *, tools: Sequence[Mapping[str, Any]] | None = None) -> list[int]:
        """As `LanguageModel.encode_prompt`, of a prompt without images: RequestError where a string has places for
        some. What a chat message spells is text."""
        if isinstance(prompt, str) and self.image_token in prompt:
            raise self._misplaced(prompt.count(self.image_token), 0)
        return super().encode_prompt(prompt, tools=tools)

    def _misplaced(self, places: int, given: int) -> RequestError:
        said = "a place for an image" if places == 1 else f"places for {places} images"
        return RequestError(
            f"the prompt has {said}, {given or 'none'} {'is' if given < 2 else 'are'} given",
            hint=f"write {self.image_token} where an image stands, and give as many images",
            param="prompt",
        )

    def _places(self, count: int) -> str:
        """What stands before a prompt that has no place: images on a line of their own, as in LLaVA, unless the model
        was trained here on pictures and plain texts."""
        template = self.tokenizer.chat_template
        plain = template is not None and template.source == PLAIN_PICTURE_TEMPLATE
        return self.image_token * count + ("" if plain else "\n")

    def encode_with_images(
        self, prompt: Prompt, count: int, *, tools: Sequence[Mapping[str, Any]] | None = None
    ) -> list[int]:
        """Token ids of a prompt with places for `count` images. RequestError if it has places for more or fewer."""
        config, special = self.model.config, self.model.config.image_token_id
        if isinstance(prompt, str):
            ids = self._encode_text(prompt if self.image_token in prompt else self._places(count) + prompt)
        elif is_chat(prompt):
            ids = self.tokenizer.encode_chat(prompt, add_generation_prompt=True, tools=tools)  # type: ignore[arg-type]
        else:
            ids = [int(i) for i in self.check_ids(prompt)]
        places = ids.count(special)
        if places == count:
            ids = [one for i in ids for one in [i] * (config.num_image_tokens if i == special else 1)]
        elif places != count * config.num_image_tokens:
            raise self._misplaced(places, count)
        return self.check_length(ids)

    def generate(  # type: ignore[override]  # one keyword more
        self,
        prompt: Prompt,
        *,
        image: Picture | Sequence[Picture] | None = None,
        adapter: str | None = None,
        cancel: threading.Event | None = None,
        **options: Unpack[SamplingOptions],
    ) -> GenerationResult:
        """Generate to the end, with an image or several in the prompt. Otherwise as `LanguageModel.generate`."""
        *_, last = self.stream(prompt, image=image, adapter=adapter, cancel=cancel, **options)
        assert last.result is not None
        return last.result

    def stream(  # type: ignore[override]
        self,
        prompt: Prompt,
        *,
        image: Picture | Sequence[Picture] | None = None,
        adapter: str | None = None,
        cancel: threading.Event | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Iterator[Delta]:
        """Deltas as they come. The request is checked at once, images too: a DataError for what is none."""
        if adapter is not None:
            return self.adapted(adapter).stream(prompt, image=image, cancel=cancel, **options)
        if image is None:
            return super().stream(prompt, cancel=cancel, **options)
        pixels = self.processor(listed(image))
        ids = self.encode_with_images(prompt, len(pixels))
        more = self.illustrated(ids, pixels)
        request = self.request(ids, [options], continues=not is_chat(prompt), cancel=cancel, **more)
        return (delta for _, delta in self.engine.run(request))

    def illustrated(self, prompt_ids: Sequence[int], pixel_values: Tensor) -> dict[str, Any]:
        """The fields of a `Request` whose prompt, with places for them, has images. What was read of a picture is not
        in its token ids: later requests find it by the content of its pixels."""
        embed = _Illustrated(self.model, prompt_ids, pixel_values.to(self.device))
        return {"embed": embed, "key_ids": _keys(prompt_ids, pixel_values, self.model)}

    def _encode_text(self, text: str) -> list[int]:
        """Image tokens count as such, no other special one does. Texts are encoded whole where that is the same: some
        tokenizers treat the start of a text otherwise."""
        special, bos = self.model.config.image_token_id, self.tokenizer.adds_bos
        pieces = text.split(self.image_token)
        plain = [self.tokenizer.encode(piece) for piece in pieces]
        known = special in self.tokenizer.special_ids
        if known and all(self.tokenizer.encode(p, allow_special=True) == i for p, i in zip(pieces, plain, strict=True)):
            return self.tokenizer.encode(text, add_bos=bos, allow_special=True)
        ids = self.tokenizer.encode("", add_bos=bos) + plain[0]
        for piece in plain[1:]:
            ids += [special, *piece]
        return ids


class _Illustrated:
    """Meets `Embedder`: the embeddings of a prompt that has images, part after part. An image is encoded when its
    first place is read, and not at all where all of its places are known of an earlier request."""

    def __init__(self, model: VisionLanguage, ids: Sequence[int], pixel_values: Tensor) -> None:
        self._model, self._pixels = model, pixel_values
        self._ids = torch.tensor([list(ids)], dtype=torch.int64, device=pixel_values.device)
        self._places = self._ids[0] == model.config.image_token_id
        self._features: dict[int, Tensor] = {}

    def pending(self, start: int, end: int) -> int:
        """How many images of positions from `start` to `end` are still to be encoded."""
        return len(self._missing(start, end))

    def encode(self, start: int, end: int) -> None:
        """Encode them, together."""
        missing = self._missing(start, end)
        if missing:
            self._features.update(zip(missing, self._model.image_features(self._pixels[missing]), strict=True))

    def __call__(self, start: int, end: int) -> Tensor:
        """(1, T, E) of positions from `start` to `end`."""
        self.encode(start, end)
        first, last = self._span(start, end)
        if first == last:
            return self._model.language_model.embed(self._ids[:, start:end])
        size = self._model.config.num_image_tokens
        vectors = [self._features[n][max(first - n * size, 0) : last - n * size] for n in self._images(first, last)]
        return self._model.embed(self._ids[:, start:end], torch.cat(vectors))

    def _span(self, start: int, end: int) -> tuple[int, int]:
        """Which of all image tokens, in reading order, stand from `start` to `end`."""
        before = int(self._places[:start].sum())
        return before, before + int(self._places[start:end].sum())

    def _images(self, first: int, last: int) -> range:
        size = self._model.config.num_image_tokens
        return range(first // size, -(-last // size) if last > first else first // size)

    def _missing(self, start: int, end: int) -> list[int]:
        return [n for n in self._images(*self._span(start, end)) if n not in self._features]


def _keys(ids: Sequence[int], pixel_values: Tensor, model: VisionLanguage) -> list[int]:
    """The prompt's ids with the hash of a picture's pixels in the places of its tokens, 62 bits in every other one."""
    special, size = model.config.image_token_id, model.config.num_image_tokens
    hashes: list[tuple[int, int]] = []
    for pixels in pixel_values:
        digest = hashlib.blake2b(pixels.contiguous().cpu().view(torch.uint8).numpy().tobytes(), digest_size=16).digest()
        both = (int.from_bytes(digest[:8], "little") >> 2, int.from_bytes(digest[8:], "little") >> 2)
        hashes.append((-1 - both[0], -1 - both[1]))
    keys, seen = list(ids), 0
    for place, token in enumerate(keys):
        if token == special:
            keys[place] = hashes[seen // size][seen % 2]
            seen += 1
    return keys
