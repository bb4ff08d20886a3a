"""VisionLanguageModel: a language model that may be shown images, ready to be asked.

A prompt has a place for each image, written as the image token ("<image>"), and none means at its start. Without images
it is a language model like any other. This module does not know where weights come from (see `loading`) nor HTTP.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Unpack

from torch import Tensor, nn

from bloomery.core.errors import RequestError
from bloomery.core.run import Meter
from bloomery.engine.generation import Generation
from bloomery.engine.language_model import LanguageModel, Prompt, SamplingOptions, is_chat
from bloomery.engine.params import SamplingParams
from bloomery.engine.results import Delta, GenerationResult
from bloomery.models.cache import KVCache
from bloomery.models.image_processor import ImageProcessor, Picture, listed
from bloomery.models.vision_language import VisionLanguage
from bloomery.tokenizer import Tokenizer


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
    ) -> None:
        """`meter` None opens the machine's own."""
        super().__init__(model.language_model, tokenizer, name=name, meter=meter)
        self.model = model.eval()
        self.processor = processor

    @property
    def image_token(self) -> str:
        """How a place for an image is written in a prompt."""
        number = self.model.config.image_token_id
        known = number < self.tokenizer.vocab_size and number in self.tokenizer.special_ids
        return self.tokenizer.token_text(number) if known else "<image>"

    def encode_with_images(
        self, prompt: Prompt, count: int, *, tools: Sequence[Mapping[str, Any]] | None = None
    ) -> list[int]:
        """Token ids of a prompt with places for `count` images. RequestError if it has places for more or fewer."""
        config, special = self.model.config, self.model.config.image_token_id
        if isinstance(prompt, str):
            ids = self._encode_text(prompt if self.image_token in prompt else self.image_token * count + "\n" + prompt)
        elif is_chat(prompt):
            ids = self.tokenizer.encode_chat(prompt, add_generation_prompt=True, tools=tools)  # type: ignore[arg-type]
        else:
            ids = [int(i) for i in self.check_ids(prompt)]
        places = ids.count(special)
        if places == count:
            ids = [one for i in ids for one in [i] * (config.num_image_tokens if i == special else 1)]
        elif places != count * config.num_image_tokens:
            raise RequestError(
                f"the prompt has places for {places} images, {count} are given",
                hint=f"write {self.image_token} where an image stands",
                param="prompt",
            )
        return self.check_length(ids)

    def generate(  # type: ignore[override]  # one keyword more
        self,
        prompt: Prompt,
        *,
        image: Picture | Sequence[Picture] | None = None,
        cancel: threading.Event | None = None,
        **options: Unpack[SamplingOptions],
    ) -> GenerationResult:
        """Generate to the end, with an image or several in the prompt. Otherwise as `LanguageModel.generate`."""
        *_, last = self.stream(prompt, image=image, cancel=cancel, **options)
        assert last.result is not None
        return last.result

    def stream(  # type: ignore[override]
        self,
        prompt: Prompt,
        *,
        image: Picture | Sequence[Picture] | None = None,
        cancel: threading.Event | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Iterator[Delta]:
        """Deltas as they come. The request is checked at once, images too: a DataError for what is none."""
        if image is None:
            return super().stream(prompt, cancel=cancel, **options)
        params = SamplingParams(**options)  # type: ignore[arg-type]
        pixels = self.processor(listed(image))
        ids = self.encode_with_images(prompt, len(pixels))
        return Generation(
            _Illustrated(self.model, pixels.to(self.device)),
            self.tokenizer,
            ids,
            params,
            max_new_tokens=min(params.max_new_tokens, self.context_length - len(ids) + 1),
            continues=not is_chat(prompt),
            bench=self._bench,
            cancel=cancel,
        ).run()

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
    """A decoder whose prompt has images, as a `Generation` asks it: chunk after chunk, each with its part of them."""

    def __init__(self, model: VisionLanguage, pixel_values: Tensor) -> None:
        self.config = model.config.text_config
        self._model, self._pixels = model, pixel_values
        self._rest: Tensor | None = None

    def parameters(self) -> Iterator[nn.Parameter]:
        return self._model.language_model.parameters()

    def __call__(self, input_ids: Tensor, *, cache: KVCache, last_only: bool = False) -> Tensor:
        if self._rest is None:
            self._rest = self._model.image_features(self._pixels).flatten(0, 1)
        count = int((input_ids == self._model.config.image_token_id).sum()) if len(self._rest) else 0
        taken, self._rest = self._rest[:count], self._rest[count:]
        x = self._model.hidden_states(input_ids, taken if count else None, cache=cache)
        return self._model.language_model.logits(x[:, -1:] if last_only else x)
