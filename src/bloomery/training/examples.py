"""Examples: documents of a corpus as what objectives learn from: pairs, labelled texts, tagged texts.

A document's text is the source; its target, label or tags stand in its metadata, where `bloomery curate` keeps the
fields that `curate.metadata_fields` names. All examples of a split are encoded at once and kept in memory. This module
does not know models or batches.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from bloomery.core.artifact import Artifact
from bloomery.core.errors import ConfigError, DataError, nearest
from bloomery.corpus import read_documents
from bloomery.corpus.document import Document
from bloomery.tokenizer import Tokenizer
from bloomery.tokenizer.words import special_frame, word_pieces
from bloomery.training.labels import LabelledText, TaggedText
from bloomery.training.linear_cross_entropy import IGNORED
from bloomery.training.sequence import TextPair

_GROUP = 1024
_WHOLE = re.compile(r"-?[0-9]{1,18}")


def documents_with(corpus: Artifact, split: str, field: str) -> list[Document]:
    """The documents of a split; DataError, naming what there is, if one lacks the field."""
    found = list(read_documents(corpus, split))
    for document in found:
        if field not in document.metadata:
            there = ", ".join(sorted(document.metadata)) or "none"
            raise DataError(
                f'document {document.id} of {document.source} has no field "{field}"; it has: {there}',
                hint=f"curate with --set curate.metadata_fields='[\"{field}\"]'",
            )
    return found


def text_pairs(
    corpus: Artifact,
    split: str,
    tokenizer: Tokenizer,
    *,
    target_field: str,
    max_length: int,
    target: Tokenizer | None = None,
) -> tuple[list[TextPair], int]:
    """Pairs of a document's text and a text of its metadata, and how many were left out: longer than `max_length`
    tokens on a side, or empty there. `target` encodes the second, where it is not the same tokenizer."""
    documents = documents_with(corpus, split, target_field)
    sources = _encoded(tokenizer, [document.text.strip() for document in documents])
    targets = _encoded(target or tokenizer, [_text(document, target_field).strip() for document in documents])
    pairs = [
        TextPair(source, target)
        for source, target in zip(sources, targets, strict=True)
        if 0 < len(source) < max_length and 0 < len(target) < max_length
    ]
    return pairs, len(documents) - len(pairs)


def label_names(corpus: Artifact, field: str) -> list[str]:
    """The distinct labels of the training split, sorted; numbers by value. DataError for fewer than two."""
    return sorted_labels({_label(document, field) for document in documents_with(corpus, "train", field)}, field)


def sorted_labels(labels: set[str], field: str) -> list[str]:
    """Labels in order; DataError for fewer than two, and for so many that they can be no classes."""
    if len(labels) < 2:
        raise DataError(f'the field "{field}" has {len(labels)} distinct labels in the training split')
    if len(labels) > 10_000:
        raise DataError(f'the field "{field}" has {len(labels):,} distinct labels', hint="objective=values for numbers")
    return sorted(labels, key=lambda label: (not _WHOLE.fullmatch(label), _number(label), label))


def labelled_texts(
    corpus: Artifact, split: str, tokenizer: Tokenizer, *, field: str, names: Sequence[str] | None, max_length: int
) -> list[LabelledText]:
    """Texts with a class number each, or with their value where `names` is None; longer ones are cut.

    DataError for a label that is not among the names, or is no number.
    """
    made = []
    places = places_of(names or ())
    for document in documents_with(corpus, split, field):
        ids, _ = tokenizer.encode_with_special(document.text, max_length=max_length)
        where = f"document {document.id} of {document.source}"
        label = _value(document, field) if names is None else places(_label(document, field), where)
        made.append(LabelledText(ids, label))
    return made


def tag_names(corpus: Artifact, field: str) -> list[str]:
    """The distinct tags of the training split, sorted."""
    return sorted({str(tag) for document in documents_with(corpus, "train", field) for tag in _tags(document, field)})


def tagged_texts(
    corpus: Artifact, split: str, tokenizer: Tokenizer, *, field: str, names: Sequence[str], max_length: int
) -> list[TaggedText]:
    """Texts with a tag for the first token of each word; words are what white space separates. Longer texts are cut.

    DataError where there are not as many tags as words, and for a tag that is not among the names.
    """
    places = {name: number for number, name in enumerate(names)}
    before, after = special_frame(tokenizer)
    made = []
    for document in documents_with(corpus, split, field):
        words, tags = document.text.split(), _tags(document, field)
        if len(words) != len(tags):
            raise DataError(f"document {document.id} of {document.source} has {len(words)} words, {len(tags)} tags")
        ids, labels = list(before), [IGNORED] * len(before)
        for piece, tag in zip(word_pieces(tokenizer, words), tags, strict=True):
            if str(tag) not in places:
                raise DataError(f"unknown tag {tag!r:.40} in document {document.id} of {document.source}")
            ids += piece
            labels += [places[str(tag)], *[IGNORED] * (len(piece) - 1)][: len(piece)]
        room = max_length - len(after)
        made.append(TaggedText(ids[:room] + after, labels[:room] + [IGNORED] * len(after)))
    return made


def _encoded(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    return [ids for at in range(0, len(texts), _GROUP) for ids in tokenizer.encode_batch(texts[at : at + _GROUP])]


def _text(document: Document, field: str) -> str:
    value = document.metadata[field]
    if not isinstance(value, str):
        raise DataError(f'the field "{field}" of document {document.id} of {document.source} is not a text')
    return value


def _label(document: Document, field: str) -> str:
    value = document.metadata[field]
    if isinstance(value, (list, dict)) or value is None:
        raise DataError(f'the field "{field}" of document {document.id} of {document.source} is no label')
    return str(value)


def places_of(names: Sequence[str]) -> Callable[[str, str], int]:
    """Label and where it stands -> its number; ConfigError for a label that is not among the names."""
    numbers = {name: number for number, name in enumerate(names)}

    def place(label: str, where: str) -> int:
        if label not in numbers:
            hint = nearest(label, numbers)
            raise ConfigError(f"{where} has the label {label!r:.40}, which training has not", hint=hint)
        return numbers[label]

    return place


def _value(document: Document, field: str) -> float:
    return number_of(_label(document, field), f'the field "{field}" of document {document.id} of {document.source}')


def number_of(label: str, what: str) -> float:
    """A value to learn; DataError, saying `what` it is, for a label that is no number, or no finite one."""
    try:
        value = float(label)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{what} is no number: {label:.40}", hint="objective=classes for labels")
    return value


def _tags(document: Document, field: str) -> list[Any]:
    value = document.metadata[field]
    return value if isinstance(value, list) else str(value).split()


def _number(label: str) -> int:
    return int(label) if _WHOLE.fullmatch(label) else 0
