"""What each kind of tokenizer learns from words and their counts, and what it is then made of.

- bpe: byte pairs (Sennrich et al., 2016, arXiv:1508.07909) over GPT-2's byte alphabet.
- unigram: SentencePiece's (Kudo, 2018, arXiv:1804.10959), as its own model file would say it: spaces are marks, what
  no piece holds is spelt in bytes, nothing is normalised. Characters that make up the last 0.05% of the text, and those
  beyond half of the vocabulary, are left to bytes.
- wordpiece: BERT's; a word with a character that is not in the vocabulary is unknown.
- character: one character a token, the rest in bytes.
- word: one word (with the space before it) a token, the rest in bytes: nothing is unknown.
- kmer, codon, residue: k letters of DNA, three, or one residue a token, and bytes for all else.

The library learns; what it gives in no fixed order is put in one here, so that the same counts give the same files.
This module does not know how words are counted, nor files.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bloomery.tokenizer.config import TokenizerConfig
from bloomery.tokenizer.counts import SEPARATOR, fed, halvings
from bloomery.tokenizer.description import added_token, byte_level, byte_level_alphabet, described, split_then_bytes
from bloomery.tokenizer.pieces import from_sentencepiece
from bloomery.tokenizer.sentencepiece_file import ModelType, Piece, PieceType, SentencePieceFile
from bloomery.tokenizer.special import WORDPIECE_UNKNOWN

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,%d}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Words as GPT-4 and Qwen split them, with the most digits in a group."""
UNKNOWN = "<unk>"
_MARK = "▁"
_COVERAGE = 0.9995
_MAX_UNIGRAM_CHARACTERS = 16
_MAX_WORD = 100  # characters of a word that WordPiece looks into, as BERT's code has it
_CONTINUES = 0xF0000  # private characters that stand for characters within a word
_DIGITS_OF_SCORES = 4
_PENALTY = 0.0001

Words = Sequence[tuple[str, int]]


def splitter(config: TokenizerConfig) -> Backend:
    """A tokenizer whose normalizer and pre-tokenizer make the words of the kind."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    backend = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PATTERN % config.digits), behavior="isolated")
    if config.kind == "wordpiece":
        backend.normalizer = normalizers.BertNormalizer(lowercase=config.lowercase)
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    elif config.kind == "unigram":
        marks = pre_tokenizers.Metaspace(replacement=_MARK, prepend_scheme="never", split=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([split, marks])
    else:
        letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([split, letters])
    return backend


def bpe_trainer(config: TokenizerConfig) -> Any:
    """The library's trainer for byte pairs."""
    from tokenizers import AddedToken, pre_tokenizers, trainers

    return trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=[AddedToken(text, special=True, normalized=False) for text in config.special_tokens],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=config.max_token_bytes,
        show_progress=False,
    )


def from_words(words: Words, config: TokenizerConfig) -> Backend:
    """The tokenizer that a kind learns from the counts of its words."""
    make = {"bpe": _byte_pairs, "unigram": _unigram, "wordpiece": _word_pieces, "word": _words}
    return make[config.kind](words, config)


def _byte_pairs(words: Words, config: TokenizerConfig) -> Backend:
    backend = splitter(config)
    split = backend.pre_tokenizer
    _train(backend, bpe_trainer(config), words)
    backend.pre_tokenizer = split
    return backend


def _train(backend: Backend, trainer: Any, words: Words) -> None:
    """Let the library learn from words as they are."""
    from tokenizers import pre_tokenizers

    backend.pre_tokenizer = pre_tokenizers.CharDelimiterSplit(SEPARATOR)
    backend.train_from_iterator(fed(words, halved=halvings(words)), trainer)


def _unigram(words: Words, config: TokenizerConfig) -> Backend:
    from tokenizers import Tokenizer, models, trainers

    room = config.vocab_size - config.base_size
    kept = _common(words, most=room // 2)
    pieces: list[tuple[str, float]] = []
    if kept:
        trainer = trainers.UnigramTrainer(
            vocab_size=max(room, len(kept)) + 1,
            unk_token=UNKNOWN,
            special_tokens=[UNKNOWN],
            max_piece_length=min(_MAX_UNIGRAM_CHARACTERS, config.max_token_bytes),
            show_progress=False,
        )
        backend = Tokenizer(models.Unigram())
        _train(backend, trainer, _cut(words, kept))
        learnt = json.loads(backend.to_str())["model"]["vocab"]
        pieces = _in_order([(text, score) for text, score in learnt if text != UNKNOWN], kept)[:room]
    return _sentence_pieces(pieces, ModelType.UNIGRAM, config)


def _in_order(pieces: list[tuple[str, float]], counts: Mapping[str, int]) -> list[tuple[str, float]]:
    """Pieces by score. The library's sums differ in the last digits from run to run, and it hands the lowest scores to
    characters that EM has let go in no fixed order: here the more frequent one gets the better one."""
    lowest = min((score for _, score in pieces), default=0.0)
    single = [(text, score) for text, score in pieces if len(text) == 1]
    last = [(text, score) for text, score in single if score <= lowest + _PENALTY * (len(single) + 1)]
    ordered = sorted((text for text, _ in last), key=lambda text: (-counts.get(text, 0), text))
    scores = dict(pieces) | dict(zip(ordered, sorted((score for _, score in last), reverse=True), strict=True))
    rounded = [(text, round(score, _DIGITS_OF_SCORES)) for text, score in scores.items()]
    return sorted(rounded, key=lambda one: (-one[1], one[0]))


def _common(words: Words, *, most: int) -> dict[str, int]:
    """Characters with their counts: the most frequent ones that cover all but 0.05% of the text, at most so many."""
    counts: Counter[str] = Counter()
    for word, count in words:
        for character in word:
            counts[character] += count
    ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    total, covered = sum(counts.values()), 0
    kept: dict[str, int] = {}
    for character, count in ordered[:most]:
        if covered >= total * _COVERAGE:
            break
        kept[character] = count
        covered += count
    return kept


def _cut(words: Words, kept: Mapping[str, int]) -> Words:
    """Words without the characters that are not kept: each is an end."""
    parts: Counter[str] = Counter()
    for word, count in words:
        for inside, run in itertools.groupby(word, key=kept.__contains__):
            if inside:
                parts["".join(run)] += count
    return sorted(parts.items())


def characters(texts: Iterable[str], config: TokenizerConfig) -> Backend:
    """The kind "character": the most frequent ones, found by counting alone."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    counts[_MARK] += counts.pop(" ", 0)
    ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    most = [text for text, count in ordered if count >= config.min_frequency and not "\ud800" <= text <= "\udfff"]
    pieces = [(text, -float(rank)) for rank, text in enumerate(most[: config.vocab_size - config.base_size])]
    return _sentence_pieces(pieces, ModelType.CHAR, config)


def _sentence_pieces(pieces: Iterable[tuple[str, float]], kind: ModelType, config: TokenizerConfig) -> Backend:
    """A tokenizer as SentencePiece's model file would describe it: special tokens, the unknown one, bytes, pieces."""
    from tokenizers import Tokenizer

    special = [Piece(text=text, score=0.0, type=PieceType.CONTROL) for text in config.special_tokens]
    spelt = [Piece(text=f"<0x{byte:02X}>", score=0.0, type=PieceType.BYTE) for byte in range(256)]
    file = SentencePieceFile(
        pieces=(
            *special,
            Piece(text=UNKNOWN, score=0.0, type=PieceType.UNKNOWN),
            *spelt,
            *(Piece(text=text, score=score, type=PieceType.NORMAL) for text, score in pieces),
        ),
        model_type=kind,
        byte_fallback=True,
        treat_whitespace_as_suffix=False,
        unk_id=len(special),
        bos_id=0,
        eos_id=0,
        pad_id=-1,
        normalizer="identity",
        precompiled_charsmap=b"",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        escape_whitespaces=True,
    )
    return Tokenizer.from_str(json.dumps(from_sentencepiece(file, "sentencepiece", {}, "what was learnt")[0]))


def _word_pieces(words: Words, config: TokenizerConfig) -> Backend:
    from tokenizers import Tokenizer, models, trainers

    first = [*config.special_tokens, WORDPIECE_UNKNOWN]
    room = config.vocab_size - len(first)
    kept = {text for text in _common(words, most=room // 4) if ord(text) < _CONTINUES}
    # The library numbers "##x" in no fixed order, and merges by number where counts are equal. Characters within a word
    # are given names of their own instead, which it puts in order.
    inner = {text: chr(_CONTINUES + place) for place, text in enumerate(sorted(kept))}
    plain = {name: text for text, name in inner.items()}
    named = [
        (word[0] + "".join(inner[text] for text in word[1:]), count)
        for word, count in words
        if len(word) <= _MAX_WORD and kept.issuperset(word)
    ]
    backend = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=room,
        min_frequency=config.min_frequency,
        max_token_length=config.max_token_bytes,
        show_progress=False,
    )
    _train(backend, trainer, sorted(named))
    learnt = sorted(backend.get_vocab().items(), key=lambda one: one[1])
    spelt = [("##" if text[0] in plain else "") + "".join(plain.get(one, one) for one in text) for text, _ in learnt]
    vocab = {text: index for index, text in enumerate([*first, *(one for one in spelt if one not in first)])}
    model = {
        "type": "WordPiece",
        "unk_token": WORDPIECE_UNKNOWN,
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": _MAX_WORD,
        "vocab": vocab,
    }
    parts = {
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": config.lowercase,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": False},
        "added_tokens": [added_token(text, vocab[text]) for text in first],
    }
    return Tokenizer.from_str(json.dumps(described(model, **parts)))


def _words(words: Words, config: TokenizerConfig) -> Backend:
    alphabet = byte_level_alphabet()
    common = [
        (-count, word)
        for word, count in words
        if count >= config.min_frequency and len(word) <= config.max_token_bytes and word not in alphabet
    ]
    whole = [word for _, word in sorted(common)[: config.vocab_size - config.base_size]]
    return _whole_words(whole, PATTERN % config.digits, config)


def sequence_letters(config: TokenizerConfig) -> Backend:
    """The kinds "kmer", "codon" and "residue", of which nothing is learnt."""
    length = {"kmer": config.kmer, "codon": 3, "residue": 1}[config.kind]
    whole = [] if length == 1 else ["".join(letters) for letters in itertools.product("ACGT", repeat=length)]
    return _whole_words(whole, rf"[ACGT]{{{length}}}|[\s\S]", config)


def _whole_words(whole: Sequence[str], pattern: str, config: TokenizerConfig) -> Backend:
    """Words of the byte alphabet that are taken whole; all else is bytes, for nothing is merged."""
    from tokenizers import Tokenizer

    texts = [*config.special_tokens, *sorted(byte_level_alphabet()), *whole]
    vocab = {text: index for index, text in enumerate(texts)}
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": True,
        "vocab": vocab,
        "merges": [],
    }
    parts = {
        "pre_tokenizer": split_then_bytes(pattern),
        "decoder": byte_level(),
        "added_tokens": [added_token(text, vocab[text]) for text in config.special_tokens],
    }
    return Tokenizer.from_str(json.dumps(described(model, **parts)))
