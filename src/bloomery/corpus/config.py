"""CurateConfig: what a corpus is made of and how it is divided.

This module does not know how any of it is done.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from bloomery.core.config import to_dict
from bloomery.core.errors import ConfigError
from bloomery.corpus.dedup_config import DedupConfig
from bloomery.corpus.document import readable
from bloomery.corpus.filter_config import FilterConfig
from bloomery.corpus.mix_config import MixConfig
from bloomery.corpus.personal_config import PersonalConfig
from bloomery.corpus.python_docs import DEFAULT_PACKAGES, NAME, check_packages

_MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class CurateConfig:
    sources: tuple[str, ...] = (NAME,)
    """Files, folders, globs (`docs/**/*.md`), `code:FOLDER` (a source tree), `hf:FOLDER` (a dataset in Hugging Face's
    layout), or "python-docs"."""
    packages: tuple[str, ...] = DEFAULT_PACKAGES
    """Installed packages whose docstrings are part of python-docs, by import name; one not installed is skipped."""
    text_field: str = "text"
    """Field of a JSONL object, or column of a Parquet, CSV or TSV file, that holds the text; dots reach into nested
    objects. A number ("2") counts the columns of CSV and TSV files without a header from 1."""
    metadata_fields: tuple[str, ...] = ()
    """Other fields or columns to keep as metadata."""
    encoding: str = "utf-8"
    """Encoding of text and JSONL files that have no byte-order mark."""
    split: Literal["hash", "position", "source"] = "hash"
    """By a hash of each document's text, at one position of the concatenated text (train, then validation), or as the
    sources say (`hf:FOLDER`; by hash where they say nothing)."""
    validation_fraction: float = 0.05
    """Share of validation, of documents (hash) or characters (position)."""
    test_fraction: float = 0.05
    """Share of the test split; with position, where there is no test split, it goes to validation."""
    decontaminate_words: int = 13
    """Training documents that share a run of this many words (twice as many characters, where a script has no spaces)
    with held-out ones are taken out; 0 is off. Off with position, where one text's two parts share words at will."""
    cut_characters: int = 0
    """Cut longer texts at blank lines into documents of about this many characters; 0: a file or row is a document."""
    max_document_bytes: int = 16 * _MIB
    """A row or line larger than this is left out; a larger text file is cut into documents at blank lines."""
    max_expansion: int = 200
    """A compressed file is read until it has grown by this factor (and 64 MiB): beyond it is a decompression bomb."""
    shard_bytes: int = 64 * _MIB
    """Uncompressed bytes of a shard of the corpus."""
    extract: Literal["fast", "headings", "quality"] = "fast"
    """How text is taken out of HTML: resiliparse (fast; headings: with Markdown's marks before them) or trafilatura
    (quality, ten times slower). PDF is pdfium's."""
    extract_seconds: int = 20
    """Processor seconds that one page may take before it is left out."""
    engine: Literal["local", "ray"] = "local"
    """Where sources are read and documents held to rules: in processes of this machine, or on Ray Data (a cluster that
    RAY_ADDRESS names, else one on this machine; it must see the same files). The corpus is the same."""
    strict: bool = False
    """Stop at the first problem in a source instead of counting it."""
    filter: FilterConfig = field(default_factory=FilterConfig)
    """The rules that documents are held to."""
    personal: PersonalConfig = field(default_factory=PersonalConfig)
    """What is done with personal data."""
    dedup: DedupConfig = field(default_factory=DedupConfig)
    """Which repeated texts are taken out beside exact copies of documents."""
    mix: MixConfig = field(default_factory=MixConfig)
    """In what proportions, how often and in what order training documents stand."""

    def __post_init__(self) -> None:
        if not self.sources:
            raise ConfigError('"sources" is empty', hint=f'sources = ["{NAME}"], or files, folders and globs')
        for source in self.sources:
            if readable(source) != source:  # the record of a run is UTF-8
                raise ConfigError(f"{readable(source)} is not UTF-8", hint="give its folder, or a glob that matches it")
        check_packages(self.packages)
        self.mix.check_sources(self.sources)
        limits = {
            "validation_fraction": (0.0, 0.5),
            "test_fraction": (0.0, 0.4),
            "decontaminate_words": (0, 1000),
            "cut_characters": (0, 1 << 30),
            "max_document_bytes": (1024, 1 << 30),
            "max_expansion": (1, 1 << 30),
            "shard_bytes": (1024, 1 << 36),
            "extract_seconds": (1, 3600),
        }
        for key, (low, high) in limits.items():
            if not low <= getattr(self, key) <= high:
                raise ConfigError(f'"{key}" is {getattr(self, key)}, but should be from {low:,} to {high:,}')
        try:
            "".encode(self.encoding)  # codecs.lookup would also take those that are not for text
        except (LookupError, UnicodeError):
            raise ConfigError(f'unknown encoding "{self.encoding}"', hint='for example "latin-1" or "cp1252"') from None


def plain_config(config: CurateConfig) -> dict[str, Any]:
    """The config as JSON data, without the tables that ask for nothing: a corpus made before there were any keeps its
    key and its id."""
    data = to_dict(config)
    del data["engine"]  # the result does not depend on it
    for name in ("filter", "personal", "dedup", "mix"):
        if not getattr(config, name).active:
            del data[name]
    for name in ("extract", "extract_seconds"):  # as they are, they ask for nothing either
        if data[name] == CurateConfig.__dataclass_fields__[name].default:
            del data[name]
    return data
