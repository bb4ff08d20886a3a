"""Tokenizer: text to token ids and back, for our tokenizers and any Hugging Face folder.

A folder without a tokenizer.json is read in the older forms that `published` lists, and saved with one.

Plain text never becomes a special token unless the caller asks (`allow_special=True`), and BOS is added only when
asked (`add_bos=True`; `adds_bos` says whether `transformers` would). Tokens that a published tokenizer declares
as added but not special (`<think>` in Qwen3) are recognised in text, as in `transformers`.

Decoding goes over bytes: the bytes of all tokens are joined and read as UTF-8, what is invalid becoming U+FFFD, so
that a stream of tokens and the whole give the same text. This module does not know models, shards or training.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bloomery.core.errors import DataError, RequestError
from bloomery.tokenizer.chat import ChatTemplate
from bloomery.tokenizer.description import MAX_VOCAB_SIZE, byte_level_alphabet, parse_object, text_of
from bloomery.tokenizer.published import convert, published_names
from bloomery.tokenizer.special import IMAGE, MIDDLE_SPELLINGS, SENTINEL, TURN_ENDS

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

T = TypeVar("T")
TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
SPECIAL_FILE = "special_tokens_map.json"
TEMPLATE_FILE = "chat_template.jinja"
TOKENIZER_FILES = (TOKENIZER_FILE, CONFIG_FILE, SPECIAL_FILE, TEMPLATE_FILE)
_MODEL_FILES = ("generation_config.json", "config.json")
_MAX_TOKENIZER_BYTES = 128 * 1024 * 1024
_MAX_SIDE_BYTES = 16 * 1024 * 1024
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE_MARK = "▁"
_GROUP_CHARACTERS = 1 << 19
_PIECE_CHARACTERS = 1 << 17
# After a line break between two characters that are no space, the second a letter or digit: the patterns of GPT-2,
# GPT-4, Llama 3 and Qwen all end a pre-token there. It begins with what is looked for, which `re` skips to.
_SAFE_CUT = re.compile(r"\n(?<=\S\n)(?=[^\W_])")


class Tokenizer:
    """See the module. Made by `Tokenizer.load`; safe to use from several threads.

    `bos_id` starts a document or is None; `eos_ids` are all ids that end a generation; `end_id` ends a document in
    training data; `special_ids` are the ids of special tokens; `vocab_size` is the highest id plus one; `cls_id`,
    `sep_id`, `mask_id` and `pad_id` are those of encoders, or None.
    """

    def __init__(self, files: Mapping[str, bytes], *, source: str) -> None:
        """`files` maps the names of the files that describe a tokenizer to their content; see `load`."""
        if TOKENIZER_FILE not in files:
            files = {**files, **convert(files, source)}
        self.source = source
        self._files = {name: data for name, data in files.items() if name in TOKENIZER_FILES}
        described = parse_object(files[TOKENIZER_FILE], f"{source}/{TOKENIZER_FILE}")
        self._named: Backend = _backend(files[TOKENIZER_FILE], source)
        added = self._named.get_added_tokens_decoder()
        self._special_texts = {token.content: index for index, token in added.items() if token.special}
        self.special_ids = frozenset(self._special_texts.values())
        self.vocab_size = max(self._named.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        if self.vocab_size > MAX_VOCAB_SIZE:
            raise DataError(f"{source}/{TOKENIZER_FILE} has the id {self.vocab_size - 1:,}, which is too high")
        veiled = _veiled(described, self._special_texts)
        self._plain: Backend = self._named if veiled is None else _backend(veiled, source)
        self._plain.encode_special_tokens = True
        self._word_end = _word_end(described)
        self._kind, self._strips_space = ("other", False) if self._word_end else _decoding(described.get("decoder"))
        sides = {name: parse_object(files[name], f"{source}/{name}") for name in files if name.endswith(".json")}
        self._config = sides.get(CONFIG_FILE, {})
        self._post_processor = described.get("post_processor")
        self.bos_id = self._bos(sides)
        self.eos_ids = self._eos(sides)
        self.cls_id, self.sep_id = self._role(sides, "cls"), self._role(sides, "sep")
        self.mask_id, self.pad_id = self._role(sides, "mask"), self._role(sides, "pad")
        self.chat_template = self._template(files)

    @classmethod
    def load(cls, folder: str | Path) -> Tokenizer:
        """Read a tokenizer artifact's folder, a model's, or any Hugging Face folder.

        A folder without tokenizer.json may hold one of the older forms that `published` lists. DataError, in one line,
        when there is none, or a file is too large or damaged.
        """
        folder = Path(folder)
        files: dict[str, bytes] = {}
        names = (*TOKENIZER_FILES, *_MODEL_FILES)
        older = [] if (folder / TOKENIZER_FILE).is_file() else published_names(folder)
        for name in (*names, *older):
            path = folder / name
            limit = _MAX_TOKENIZER_BYTES if name == TOKENIZER_FILE else _MAX_SIDE_BYTES
            try:
                if path.is_file():
                    if path.stat().st_size > limit:
                        raise DataError(f"{path} is larger than {limit:,} bytes: not a file of a tokenizer")
                    files[name] = path.read_bytes()
            except OSError as error:
                raise DataError(f"cannot read {path}: {error.strerror or error}") from error
        return cls(files, source=str(folder))

    def save(self, folder: str | Path) -> None:
        """Write the files that `load` and `transformers` read: as they were loaded, or converted to tokenizer.json."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in self._files.items():
            (folder / name).write_bytes(data)

    def described_as(self, described: Mapping[str, Any]) -> Tokenizer:
        """The same tokenizer with another tokenizer.json: its names, template and other files stay."""
        data = (json.dumps(described, ensure_ascii=False) + "\n").encode("utf-8")
        return Tokenizer({**self._files, TOKENIZER_FILE: data}, source=self.source)

    def with_chat_template(self, template: str) -> Tokenizer:
        """The same tokenizer whose folder carries another chat template (Jinja), in both places where it may stand."""
        config = {**self._config, "chat_template": template}
        data = (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode("utf-8")
        files = {**self._files, CONFIG_FILE: data, TEMPLATE_FILE: template.encode("utf-8")}
        return Tokenizer(files, source=self.source)

    @cached_property
    def description(self) -> Mapping[str, Any]:
        """The content of tokenizer.json."""
        return parse_object(self._files[TOKENIZER_FILE], f"{self.source}/{TOKENIZER_FILE}")

    @cached_property
    def adds_bos(self) -> bool:
        """Whether `transformers` puts BOS in front of a plain text with this tokenizer."""
        ids = self._plain.encode("a", add_special_tokens=True).ids
        return self.bos_id is not None and ids[:1] == [self.bos_id]

    @property
    def eos_id(self) -> int | None:
        """The end token that `transformers` names `eos_token`, or the first id that ends a generation, or None."""
        named = self._id_of(self._config.get("eos_token"))
        return named if named is not None else next(iter(self.eos_ids), None)

    @property
    def separator_id(self) -> int:
        """The id that starts a document in training data: BOS, or for a tokenizer without one an end token."""
        if self.bos_id is not None:
            return self.bos_id
        candidates = [self._special_texts.get("<|endoftext|>"), *self.eos_ids]
        for candidate in candidates:
            if candidate is not None:
                return candidate
        raise DataError(f"{self.source} has neither BOS nor EOS", hint="its tokenizer_config.json should name one")

    @property
    def end_id(self) -> int:
        """The id that ends a document in training data; equal to `separator_id` where one token does both."""
        if self.bos_id is None:
            return self.separator_id
        eos = self._id_of(self._config.get("eos_token"))
        if eos is not None:
            return eos
        return self.separator_id if self.separator_id in self.eos_ids or not self.eos_ids else self.eos_ids[0]

    @property
    def sentinel_ids(self) -> list[int]:
        """The ids of `<extra_id_0>`, `<extra_id_1>`, ..., which stand for spans; none for most tokenizers."""
        found: list[int] = []
        while (index := self._special_texts.get(SENTINEL.format(len(found)))) is not None:
            found.append(index)
        return found

    @property
    def image_id(self) -> int | None:
        """The id of the token that stands for a picture, or None."""
        return self._special_texts.get(IMAGE)

    @property
    def middle_ids(self) -> tuple[int, int, int] | None:
        """The ids that mark prefix, middle and suffix where a middle is filled in, or None."""
        for spelling in MIDDLE_SPELLINGS:
            first, middle, last = (self._named.token_to_id(text) for text in spelling)
            if first is not None and middle is not None and last is not None:
                return first, middle, last
        return None

    def encode(self, text: str, *, add_bos: bool = False, allow_special: bool = False) -> list[int]:
        """The ids of a text. A lone surrogate, which no UTF-8 text holds, is a RequestError."""
        return self.encode_batch([text], add_bos=add_bos, allow_special=allow_special)[0]

    def encode_batch(
        self, texts: Sequence[str], *, add_bos: bool = False, allow_special: bool = False
    ) -> list[list[int]]:
        """`encode` of many texts, on several threads unless TOKENIZERS_PARALLELISM=false; memory is bounded."""
        backend = self._special if allow_special else self._plain
        start = [self.bos_id] if add_bos and self.bos_id is not None else []
        encoded = [list(start) for _ in texts]
        try:
            for group in in_groups(texts, cut=self._kind == "byte_level"):
                pieces = [piece for _, piece in group]
                found = _guarded(self.source, backend.encode_batch_fast, pieces, add_special_tokens=False)
                for (index, _), one in zip(group, found, strict=True):
                    encoded[index].extend(one.ids)
        except (UnicodeEncodeError, TypeError) as error:
            raise not_text(texts) from error
        return encoded

    def encode_with_special(
        self, text: str, pair: str | None = None, *, max_length: int | None = None, allow_special: bool = False
    ) -> tuple[list[int], list[int]]:
        """(ids, type ids) of a text, or of a pair, with the special tokens around them that encoders expect.

        As `transformers`' `tok(text, pair, truncation="longest_first", max_length=...)`, except that text which
        spells a special token stays text here, unless `allow_special`. RequestError if `max_length` leaves no room for
        the special tokens.
        """
        texts = [text] if pair is None else [text, pair]
        backend = self._special if allow_special else self._plain
        try:
            parts = [_guarded(self.source, backend.encode, one, add_special_tokens=False) for one in texts]
        except (UnicodeEncodeError, TypeError) as error:
            raise not_text(texts) from error
        if max_length is not None:
            room = max_length - self._plain.num_special_tokens_to_add(pair is not None)
            if room < 0:
                raise RequestError(f"max_length is {max_length}, less than the special tokens need", param="max_length")
            for part, length in zip(parts, longest_first([len(part.ids) for part in parts], room), strict=True):
                part.truncate(length)
        if not isinstance(self._post_processor, Mapping) or self._post_processor.get("type") == "ByteLevel":
            return [i for part in parts for i in part.ids], [kind for kind, part in enumerate(parts) for _ in part.ids]
        whole = self._plain.post_process(parts[0], parts[1] if pair is not None else None, add_special_tokens=True)
        return whole.ids, whole.type_ids

    def encode_offsets(self, text: str, *, allow_special: bool = False) -> tuple[list[int], list[tuple[int, int]]]:
        """The ids of a text, and which of its characters, from and up to, each stands for."""
        encode = (self._special if allow_special else self._plain).encode
        try:
            found = _guarded(self.source, encode, text, add_special_tokens=False)
        except (UnicodeEncodeError, TypeError) as error:
            raise not_text([text]) from error
        return found.ids, found.offsets

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """The text of ids; bytes that are not valid UTF-8 become U+FFFD. IndexError for an id out of range."""
        ids = [int(index) for index in ids]
        if self._kind == "other":
            text = self._named.decode(ids, skip_special_tokens=skip_special)
            return text.replace(self._word_end, " ").strip() if self._word_end else text
        if skip_special:
            ids = [index for index in ids if index not in self.special_ids]
        data = b"".join(self._token_text(index) for index in ids)
        if self._strips_space and data.startswith(b" ") and ids and ids[0] not in self.special_ids:
            data = data[1:]
        return data.decode("utf-8", errors="replace")

    def token_bytes(self, index: int) -> bytes:
        """The raw bytes of a token, which need not be valid UTF-8; b"" for a special one.

        IndexError for a negative id or one outside the vocabulary; b"" for a gap in it.
        """
        return b"" if index in self.special_ids else self._token_text(index)

    def token_text(self, index: int) -> str:
        """The token as the vocabulary spells it, special ones too; "" for a gap."""
        return self._named.id_to_token(index) or ""

    @property
    def strips_leading_space(self) -> bool:
        """Whether decoding drops one space at the start of a text, as SentencePiece tokenizers do."""
        return self._strips_space

    def encode_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[int]:
        """The ids of a conversation in the folder's chat template; no message or tool can produce a special token.

        `tools` are functions as OpenAI describes them.

        Raises RequestError (param "messages") for messages that the template refuses.
        """
        if self.chat_template is None:
            raise RequestError(f"{self.source} has no chat template", hint="send a prompt instead", param="messages")
        rendered = self.chat_template.render(messages, add_generation_prompt=add_generation_prompt, tools=tools)
        forged = rendered.forged
        return self._encode_pieces(rendered.pieces()) if forged else self.encode(rendered.text, allow_special=True)

    def special_id(self, text: str) -> int:
        """The id of a special token by its spelling. KeyError for another text."""
        return self._special_texts[text]

    def _encode_pieces(self, pieces: Iterable[tuple[str, bool]]) -> list[int]:
        parts = ([self._special_texts[text]] if special else self.encode(text) for text, special in pieces)
        return [index for part in parts for index in part]

    @cached_property
    def _special(self) -> Backend:
        # A second instance: the switch is a property of the instance, and other threads use the first.
        return _backend(self._files[TOKENIZER_FILE], self.source)

    def _token_text(self, index: int) -> bytes:
        """The bytes of a token, special ones as they are spelt."""
        if not 0 <= index < self.vocab_size:
            raise IndexError(f"token id {index} is outside the vocabulary of {self.vocab_size}")
        return self._bytes[index]

    @cached_property
    def _bytes(self) -> list[bytes]:
        if self._kind == "other":
            raise DataError(f"{self.source}: the tokens of this kind of tokenizer have no bytes of their own")
        added = self._named.get_added_tokens_decoder()
        table = [b""] * self.vocab_size
        for text, index in self._named.get_vocab(with_added_tokens=True).items():
            if index in added:
                table[index] = added[index].content.encode()
            elif self._kind == "byte_level":
                table[index] = _from_byte_level(text)
            else:
                match = _BYTE_TOKEN.fullmatch(text)
                table[index] = bytes([int(match[1], 16)]) if match else text.replace(_SPACE_MARK, " ").encode()
        return table

    def _id_of(self, token: Any) -> int | None:
        """The id of a token given as text, as {"content": text}, or as a number; None if there is none."""
        if isinstance(token, Mapping):
            token = token.get("content")
        if isinstance(token, str):
            return self._named.token_to_id(token)
        if isinstance(token, int) and not isinstance(token, bool) and 0 <= token < self.vocab_size:
            return token
        return None

    def _bos(self, sides: Mapping[str, Mapping[str, Any]]) -> int | None:
        for name, key in ((CONFIG_FILE, "bos_token"), (SPECIAL_FILE, "bos_token"), ("config.json", "bos_token_id")):
            side = sides.get(name, {})
            if key in side:  # null counts: it says that there is none
                return self._id_of(side[key])
        return None

    def _eos(self, sides: Mapping[str, Mapping[str, Any]]) -> tuple[int, ...]:
        for name in _MODEL_FILES:
            listed = sides.get(name, {}).get("eos_token_id")
            ids = [self._id_of(one) for one in (listed if isinstance(listed, list) else [listed])]
            if found := [one for one in ids if one is not None]:
                return tuple(dict.fromkeys(found))
        named = self._config.get("eos_token", sides.get(SPECIAL_FILE, {}).get("eos_token"))
        ids = [self._id_of(named), *(self._special_texts.get(text) for text in TURN_ENDS)]
        return tuple(dict.fromkeys(one for one in ids if one is not None))

    def _role(self, sides: Mapping[str, Mapping[str, Any]], role: str) -> int | None:
        """The id of "cls", "sep", "mask" or "pad": as a JSON file names it, else the post-processor or its spelling."""
        name = f"{role}_token"
        for file, key in ((CONFIG_FILE, name), (SPECIAL_FILE, name), ("config.json", f"{name}_id")):
            if key in sides.get(file, {}) and (named := self._id_of(sides[file][key])) is not None:
                return named
        processor = self._post_processor if isinstance(self._post_processor, Mapping) else {}
        ends = processor.get(role) if processor.get("type") in ("BertProcessing", "RobertaProcessing") else None
        usual = [f"[{role.upper()}]", *([f"<{role}>"] if role in ("mask", "pad") else [])]
        if isinstance(ends, list) and ends and ends[0] in ("<s>", "</s>"):
            usual.append(ends[0])
        return next((self._special_texts[text] for text in usual if text in self._special_texts), None)

    def _template(self, files: Mapping[str, bytes]) -> ChatTemplate | None:
        source = self._config.get("chat_template")
        if isinstance(source, list):  # several named templates
            named = {one.get("name"): one.get("template") for one in source if isinstance(one, Mapping)}
            source = named.get("default")
        if TEMPLATE_FILE in files:
            source = files[TEMPLATE_FILE].decode("utf-8", errors="replace")
        if not isinstance(source, str):
            return None
        names = ("bos_token", "eos_token", "unk_token", "pad_token")
        tokens = {name: text_of(self._config.get(name)) for name in names}
        return ChatTemplate(source, special_texts=self._special_texts, variables=tokens)


def longest_first(lengths: Sequence[int], room: int) -> list[int]:
    """How many tokens one or two texts keep in `room`: the longer one gives way first, as in `tokenizers`."""
    if len(lengths) == 1:
        return [min(lengths[0], room)]
    short, long = sorted(lengths)
    if short + long > room:
        long = max(short, room - short)
        if short + long > room:
            short = room // 2
            long = short + room % 2
    return [short, long] if lengths[0] <= lengths[1] else [long, short]


def _backend(data: bytes, source: str) -> Backend:
    """A `tokenizers.Tokenizer` of a tokenizer.json, without truncation and padding."""
    from tokenizers import Tokenizer as Backend

    try:
        backend = _guarded(source, Backend.from_str, data.decode("utf-8"))
    except DataError:
        raise
    except Exception as error:  # any error of the parser means that the file is not a tokenizer
        raise DataError(f"{source}/{TOKENIZER_FILE} is not a tokenizer: {error}") from error
    backend.no_truncation()
    backend.no_padding()
    return backend


def _guarded(source: str, work: Callable[..., T], *args: Any, **settings: Any) -> T:
    """What `work` returns. A panic of the library, which is no Exception, means damaged tables: a DataError."""
    try:
        return work(*args, **settings)
    except Exception:
        raise
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise DataError(f"{source}/{TOKENIZER_FILE} is damaged: {error}") from error


def _veiled(described: Mapping[str, Any], special: Mapping[str, int]) -> bytes | None:
    """tokenizer.json for plain text: a Unigram model matches any piece, so special ones get names nobody can spell."""
    model = described.get("model")
    if not isinstance(model, Mapping) or not isinstance(model.get("vocab"), list):
        return None
    nonce = secrets.token_hex(16)
    names = {text: f"{nonce}-{index}" for text, index in special.items()}
    vocab = [[names.get(text, text), score] for text, score in model["vocab"]]
    added = [{**one, "content": names.get(one["content"], one["content"])} for one in described["added_tokens"]]
    return json.dumps({**described, "added_tokens": added, "model": {**model, "vocab": vocab}}).encode()


def _word_end(described: Mapping[str, Any]) -> str:
    """CLIP's mark of a word's end, or ""."""
    model = described.get("model")
    return (model.get("end_of_word_suffix") or "") if isinstance(model, Mapping) else ""


def in_groups(texts: Sequence[str], *, cut: bool, parts: int = 1) -> Iterator[list[tuple[int, str]]]:
    """(index of the text, piece of it) in groups of bounded size, for the library needs 200 bytes a character; smaller
    groups where there should be several `parts`."""
    most = _GROUP_CHARACTERS if parts == 1 else _PIECE_CHARACTERS
    group: list[tuple[int, str]] = []
    size = 0
    for index, text in enumerate(texts):
        for piece in _pieces(text) if cut else (text,):
            group.append((index, piece))
            size += len(piece)
            if size >= most:
                yield group
                group, size = [], 0
    if group:
        yield group


def _pieces(text: str) -> Iterator[str]:
    """A long text cut where no byte-level pre-tokenizer joins what is before with what is after."""
    start = 0
    while len(text) - start > _PIECE_CHARACTERS:
        match = _SAFE_CUT.search(text, start + _PIECE_CHARACTERS)
        if match is None:
            break
        yield text[start : match.end()]
        start = match.end()
    yield text[start:] if start else text


def not_text(texts: Sequence[Any]) -> RequestError:
    """Why texts cannot be encoded: something is no text, or holds half a surrogate pair, which UTF-8 cannot."""
    if all(isinstance(text, str) for text in texts):
        return RequestError("the text is not valid Unicode: it holds a lone surrogate", param="prompt")
    return RequestError("only text can be encoded", param="prompt")


def _decoding(decoder: Any) -> tuple[str, bool]:
    """("byte_level" | "sentencepiece" | "other", whether one leading space is dropped) of tokenizer.json's decoder."""
    parts = decoder.get("decoders", [decoder]) if isinstance(decoder, dict) else []
    kinds = {part.get("type"): part for part in parts if isinstance(part, dict)}
    if "ByteLevel" in kinds:
        return "byte_level", False
    if kinds.keys() & {"Metaspace", "ByteFallback"}:
        metaspace = kinds.get("Metaspace", {})
        prepends = "Metaspace" in kinds and metaspace.get("prepend_scheme", "always") != "never"
        return "sentencepiece", prepends or int(kinds.get("Strip", {}).get("start", 0)) > 0
    return "other", False


_ALPHABET = byte_level_alphabet()


def _from_byte_level(text: str) -> bytes:
    try:
        return bytes(_ALPHABET[character] for character in text)
    except KeyError:
        return text.encode()  # a token outside the byte alphabet, as the decoder of `tokenizers` treats it
