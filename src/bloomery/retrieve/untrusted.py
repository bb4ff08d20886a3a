"""Untrusted: text that stays data. What a document says is neither a turn, nor an order, nor a link to be followed.

Before a model reads a passage, what could be a special token of any chat format is respelt with marks that look alike,
characters that nobody sees are shown, and the passage stands between lines with a nonce that it does not hold. What a
model answers is shown without images and links to outside: fetching one tells a stranger what was asked (exfiltration;
Greshake et al., arXiv 2302.12173). This module does not know models or passages' places.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from urllib.parse import urlsplit

_LOOKALIKES = {"<": "‹", ">": "›", "[": "⟦", "]": "⟧"}
_RESPELT = str.maketrans(_LOOKALIKES)
RESTORED = str.maketrans({mark: plain for plain, mark in _LOOKALIKES.items()})
"""From the marks that `neutralised` writes back to those that stood there."""
SHOWN = re.compile(r"⟨U\+[0-9A-F]{4,6}⟩")
"""A character that nobody sees, as `neutralised` shows it."""
# Special tokens of published chat formats; whatever stands between <| and |> is taken for one.
_SPECIAL = re.compile(
    r"<[|｜][^<>\n]{0,80}[|｜]>|</?s>|<<\s*/?\s*SYS\s*>>|\[\s*/?\s*INST\s*\]|\[(?:CLS|SEP|MASK|PAD|UNK|BOS|EOS)\]"
    r"|\[/?(?:AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|SYSTEM_PROMPT|IMG|THINK)\]"
    r"|</?(?:start_of_turn|end_of_turn|start_of_image|bos|eos|pad|unk|mask|image|think|tool_call|tool_response|tools"
    r"|system|user|assistant|human|function_calls|extra_id_\d{1,4})>",
    re.IGNORECASE,
)
_JOINERS = "\u200c\u200d"
"""Zero-width, but spelling in Persian, in Indic scripts and in emoji."""
_KEPT = frozenset("\n\t\u00ad" + _JOINERS)
_URL = re.compile(r"(?:[a-z][a-z0-9+.-]{1,20}:)?//[^\s<>()\[\]\"'`]+|\bwww\.[^\s<>()\[\]\"'`]+", re.IGNORECASE)
_DATA = re.compile(r"\b(?:data|javascript|vbscript|file|mailto):[^\s<>()\[\]\"'`]+", re.IGNORECASE)
_IMAGE = re.compile(r"!\[([^\[\]]{0,500})\](?:\([^()\s]*(?:\s[^()]*)?\)|\[[^\[\]]{0,200}\])?")
_LINK = re.compile(r"\[([^\[\]]{0,500})\]\(\s*<?([^()\s<>]*)>?(?:\s[^()]*)?\)")
_TAG = re.compile(r"<(?=[a-zA-Z/!?])([^<>]{0,2000})>?")
_TARGET = re.compile(r"\]\(([^()\s]*)")
_DEFINITION = re.compile(r"^([ \t>*-]*\[[^\]\n]*\]):", re.MULTILINE)
_UNFINISHED = re.compile(r"(?:!?\[[^\n]*|<[^>\n]*|\S+)\Z")
IMAGE_REMOVED = "(image not shown)"


def neutralised(text: str, *, special_texts: Iterable[str] = ()) -> str:
    """The text without a special token of any model (`special_texts` are the asked model's own), and without a
    character that nobody sees. Marks are respelt one for one; nothing is taken away."""
    text = _visible(text)
    text = _SPECIAL.sub(lambda found: found[0].translate(_RESPELT), text)
    for special in sorted((one for one in special_texts if one), key=len, reverse=True):
        if special in text:
            text = text.replace(special, _broken(special))
    return text


def _broken(special: str) -> str:
    """A special token's text that is none any more: respelt, or with a joiner shown within it."""
    respelt = special.translate(_RESPELT)
    return respelt if respelt != special else f"{special[:1]}\u2060{special[1:]}"


def _visible(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if _is_seen(c) else f"⟨U+{ord(c):04X}⟩" for c in text)


def _is_seen(character: str) -> bool:
    if character in _KEPT:
        return True
    # Cc controls, Cf formats (bidi, zero width, tags), Co private, Cs halves; Arabic's number signs are seen.
    return unicodedata.category(character) not in ("Cc", "Cf", "Co", "Cs") or "\u0600" <= character <= "\u0605"


def is_invisible(character: str) -> bool:
    """Whether a character is nothing to a reader: soft hyphens, joiners and what `neutralised` shows."""
    return character != "\n" and character != "\t" and unicodedata.category(character) in ("Cc", "Cf", "Co", "Cs")


def nonce(texts: Iterable[str]) -> str:
    """Eight hex digits that none of the texts holds: the same for the same texts, so that kept answers are found."""
    texts = list(texts)
    whole = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "replace")
        whole.update(len(data).to_bytes(8, "big") + data)
    for count in range(1 << 16):
        made = hashlib.sha256(whole.digest() + count.to_bytes(4, "big")).hexdigest()[:8]
        if not any(made in text.lower() for text in texts):
            return made
    raise AssertionError("texts that hold tens of thousands of digests")


def harmless(text: str, *, allowed_hosts: Iterable[str] = ()) -> str:
    """An answer as it may be shown where Markdown is rendered: no image, no link to a host that is not allowed, no
    HTML; addresses stay readable and lead nowhere. Characters that nobody sees are shown."""
    allowed = frozenset(host.lower() for host in allowed_hosts)
    text = _visible(text)
    text = _IMAGE.sub(lambda found: f"{found[1]} {IMAGE_REMOVED}".strip(), text)
    text = _LINK.sub(lambda found: found[0] if _is_allowed(found[2], allowed) else f"{found[1]} ({found[2]})", text)
    text = _TAG.sub(lambda found: f"‹{found[1]}{'›' if found[0].endswith('>') else ''}", text)
    text = _URL.sub(lambda found: found[0] if _is_allowed(found[0], allowed) else _dead(found[0]), text)
    text = _DATA.sub(lambda found: found[0].replace(":", "[:]", 1), text)
    # Whatever was spelt in a way that the above does not know is no link either, not even to a place of this page.
    text = _DEFINITION.sub(r"\1 :", text)
    return _TARGET.sub(lambda found: found[0] if _is_allowed(found[1], allowed) else f"] ({found[1]}", text)


def _is_allowed(address: str, allowed: frozenset[str]) -> bool:
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and (parts.hostname or "").lower() in allowed


def _dead(address: str) -> str:
    head, slashes, rest = address.partition("//")
    if not slashes:
        return address.replace(".", "[.]", 1)
    return f"{head.rstrip(':')}[:]//{rest}" if head else f"/ /{rest}"


class HarmlessStream:
    """`harmless` for text that comes in pieces: what could become an image, a link or an address waits for its end."""

    def __init__(self, *, allowed_hosts: Iterable[str] = ()) -> None:
        self._allowed = tuple(allowed_hosts)
        self._waiting = ""

    def feed(self, piece: str) -> str:
        """What can be shown now."""
        self._waiting += piece
        found = _UNFINISHED.search(self._waiting)
        cut = len(self._waiting) if found is None else found.start()
        ready, self._waiting = self._waiting[:cut], self._waiting[cut:]
        return harmless(ready, allowed_hosts=self._allowed) if ready else ""

    def end(self) -> str:
        """What was still waiting."""
        ready, self._waiting = self._waiting, ""
        return harmless(ready, allowed_hosts=self._allowed)
