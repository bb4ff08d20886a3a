"""Credentials: keys, tokens and passwords in texts, by their prefixes, their structure and their entropy.

What vendors print in their own documentation (AKIA...EXAMPLE) is nobody's. This module does not know documents.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections import Counter
from collections.abc import Iterator

_LEAST_BITS = 3.0  # a character, below which a value is a word or a row of x's

# Name, pattern, whether the value must look random.
_PREFIXED: tuple[tuple[str, str, bool], ...] = (
    ("aws_access_key", r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b", False),
    ("github", r"\bgh[pousr]_[A-Za-z0-9]{36,251}\b", True),
    ("github", r"\bgithub_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}\b", True),
    ("openai", r"\bsk-(?:proj-|svcacct-|admin-|ant-[a-z0-9]+-)?[A-Za-z0-9_-]{20,200}(?![A-Za-z0-9_-])", True),
    ("slack", r"\bxox[abeoprs]-(?:\d+-)*[A-Za-z0-9-]{10,200}", True),
    ("google", r"\bAIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])", True),
    ("stripe", r"\b[rs]k_live_[A-Za-z0-9]{16,247}\b", True),
    ("hugging_face", r"\bhf_[A-Za-z0-9]{34}\b", True),
    ("gitlab", r"\bglpat-[A-Za-z0-9_-]{20}(?![A-Za-z0-9_-])", True),
    ("npm", r"\bnpm_[A-Za-z0-9]{36}\b", True),
    ("pypi", r"\bpypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,}", True),
    ("sendgrid", r"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])", True),
)
_PATTERNS = tuple((name, re.compile(pattern), random) for name, pattern, random in _PREFIXED)
_PREFIX = re.compile(r"^[A-Za-z]{2,10}[-_]")
_GATE = re.compile(r"AKIA|ASIA|gh[pousr]_|github_pat|sk-|xox[abeoprs]-|AIza|k_live_|hf_|glpat|npm_|pypi-|SG\.")
_KEY_BEGINS = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_KEY_ENDS = re.compile(r"-----END (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_KEY_CHARACTERS = (20, 20_000)
_JWT = re.compile(r"\beyJ[A-Za-z0-9_-]{8,2000}\.eyJ[A-Za-z0-9_-]{8,8000}\.[A-Za-z0-9_-]{20,2000}")
_IN_URL = re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s:/@]{1,64}:([^\s:/@]{6,128})@[\w.-]+")
_ASSIGNED = re.compile(
    r"(?i:password|passwd|secret|token|api[_-]?key|access[_-]?key|auth)[\w-]{0,20}[\"']?\s{0,3}(?:=|:|=>)\s{0,3}"
    r"([\"'])([A-Za-z0-9+/=_.~!@#$%^&*-]{12,200})\1"
)


def entropy(text: str) -> float:
    """Shannon's entropy of the characters of a text, in bits a character."""
    counts = Counter(text).values()
    return -sum(c / len(text) * math.log2(c / len(text)) for c in counts) if text else 0.0


def _is_random(value: str) -> bool:
    """Letters and digits in no order that a name or a placeholder has."""
    lower = value.lower()
    if any(word in lower for word in ("example", "your", "xxxx", "1234567890", "abcdef", "placeholder", "changeme")):
        return False
    return entropy(value) >= _LEAST_BITS


def _is_jwt(token: str) -> bool:
    head = token.split(".")[0]
    try:
        return "alg" in json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (ValueError, RecursionError):
        return False


def _private_keys(text: str) -> Iterator[tuple[str, int, int]]:
    least, most = _KEY_CHARACTERS
    done = 0
    for begins in _KEY_BEGINS.finditer(text):
        ends = _KEY_ENDS.search(text, begins.end(), begins.end() + most) if begins.start() >= done else None
        if ends and ends.start() - begins.end() >= least:
            done = ends.end()
            yield "private_key", begins.start(), done


def credentials(text: str) -> Iterator[tuple[str, int, int]]:
    """(what, start, end) of each; they may overlap."""
    if _GATE.search(text):
        for name, pattern, random in _PATTERNS:
            for found in pattern.finditer(text):
                value = found.group()
                if _is_random(_PREFIX.sub("", value)) if random else "EXAMPLE" not in value:
                    yield name, *found.span()
    if "PRIVATE KEY" in text:
        yield from _private_keys(text)
    if "eyJ" in text:
        yield from (("jwt", *found.span()) for found in _JWT.finditer(text) if _is_jwt(found.group()))
    if "://" in text and "@" in text:
        yield from (("url_password", *found.span(1)) for found in _IN_URL.finditer(text))
    for found in _ASSIGNED.finditer(text):
        value = found.group(2)
        mixed = any(c.isdigit() for c in value) and any(c.isalpha() for c in value)
        if mixed and _is_random(value):
            yield "assigned", *found.span(2)
