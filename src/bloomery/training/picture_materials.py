"""Materials of pictures: a corpus of pictures as examples of one size, and the objectives that learn from them.

All pictures of a split are in memory, decoded once: 3 KB each at 32 x 32, 150 KB at 224 x 224. This module does not
know models' sizes, steps or files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from torch import nn

from bloomery.core.artifact import Artifact
from bloomery.core.errors import DataError
from bloomery.corpus import Picture, read_pictures
from bloomery.tokenizer import Tokenizer
from bloomery.tokenizer.special import IMAGE
from bloomery.training.augment import Augment
from bloomery.training.captions import CaptionObjective, PictureText
from bloomery.training.contrastive import CaptionedPicture, ContrastiveObjective
from bloomery.training.examples import number_of, places_of, sorted_labels
from bloomery.training.labels import ClassificationObjective, RegressionObjective
from bloomery.training.loader import ExampleLoader
from bloomery.training.objective import Objective
from bloomery.training.pictures import LabelledPicture, PictureReader
from bloomery.training.train_config import TrainConfig


def picture_label(picture: Picture, field: str) -> str:
    """A picture's label: a field that was kept, or without one its caption."""
    if field and field not in picture.metadata:
        there = ", ".join(sorted(picture.metadata)) or "none"
        raise DataError(f'picture {picture.id} of {picture.source} has no field "{field}"; it has: {there}')
    return str(picture.metadata[field]) if field else picture.caption


def picture_labels(corpus: Artifact, field: str) -> list[str]:
    """The distinct labels of the training split; DataError for fewer than two."""
    return sorted_labels({picture_label(picture, field) for picture in read_pictures(corpus, "train")}, field)


def picture_examples(
    corpus: Artifact, split: str, config: TrainConfig, tokenizer: Tokenizer | None, names: Sequence[str], size: int
) -> list[Any]:
    """A split's pictures, `size` x `size`, with what the objective learns of them. DataError for a label that training
    does not have, or that is no number where a value is learnt."""
    return list(_examples(corpus, split, config, tokenizer, names, size))


def _examples(
    corpus: Artifact, split: str, config: TrainConfig, tokenizer: Tokenizer | None, names: Sequence[str], size: int
) -> Iterator[Any]:
    places = places_of(names)
    for picture in read_pictures(corpus, split):
        image = picture.pixels(size)
        if config.objective == "contrastive" and tokenizer is not None:
            ids, _ = tokenizer.encode_with_special(picture.caption, max_length=config.context_length)
            yield CaptionedPicture(image, ids)
        elif config.objective == "captions" and tokenizer is not None:
            prompt = picture_label(picture, config.prompt_field) if config.prompt_field else ""
            asked, answer = question_and_answer(tokenizer, prompt, picture.caption)
            room = max(1, config.context_length - len(asked) - 1)
            yield PictureText(image, asked, answer[:room])
        else:
            label = picture_label(picture, config.target_field)
            where = f"picture {picture.id} of {picture.source}"
            value = places(label, where) if names else number_of(label, f"the label of {where}")
            yield LabelledPicture(image, value)


def question_and_answer(tokenizer: Tokenizer, question: str, answer: str) -> tuple[list[int], list[int]]:
    """The ids of a question as `<image>QUESTION` has them, and of the answer after it, whose space in front is part of
    its first token. Without a question the answer stands at the picture itself."""
    if not question:
        return [], tokenizer.encode(answer)
    asked, whole = (_after_picture(tokenizer, text) for text in (question, f"{question} {answer}"))
    if whole[: len(asked)] == asked:
        return asked, whole[len(asked) :]
    return asked, tokenizer.encode(f" {answer}")  # a tokenizer that joins the question's end with what follows


def _after_picture(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of a text behind a picture, which some tokenizers treat otherwise than the start of a text; it spells no
    special token."""
    ids = tokenizer.encode(text)
    if tokenizer.image_id is None or tokenizer.encode(text, allow_special=True) != ids:
        return ids
    return tokenizer.encode(IMAGE + text, allow_special=True)[1:]


def picture_objective(config: TrainConfig, model: nn.Module, train: list[Any], held_out: list[Any]) -> Objective:
    """The objective that a config names, over pictures."""
    loader: ExampleLoader[Any] = ExampleLoader(train, held_out, rows=config.fit.batch_rows, seed=config.fit.seed)
    reader = PictureReader(change=Augment(config.augment) if config.augment.changes else None)
    net, seed = cast(Any, model), config.fit.seed
    if config.objective == "contrastive":
        return ContrastiveObjective(net, loader, reader, loss=config.contrastive, seed=seed)
    if config.objective == "captions":
        return CaptionObjective(net, loader, reader, seed=seed, blind=config.blind)
    kind = ClassificationObjective if config.objective == "classes" else RegressionObjective
    return kind(net, loader, reader, seed=seed)
