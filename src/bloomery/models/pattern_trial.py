"""Matches names with regular expressions of others in a process of its own, for some patterns never end.

The process imports nothing but the standard library, so it starts in a moment; plain patterns need none.
This module does not know what the names are.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence

from bloomery.core.errors import DataError

SECONDS = 5
"""How long all patterns of a file may take together."""
MAX_CHARACTERS = 4_000
_PLAIN = re.compile(r"[\w.\\^$-]*")
"""No repetition and no choice: these end."""


def matches(pattern: str, names: Sequence[str]) -> list[bool]:
    """`matches_each` of one."""
    return matches_each([pattern], names)[0]


def matches_each(patterns: Sequence[str], names: Sequence[str]) -> list[list[bool]]:
    """Which names each pattern matches whole, as `re.fullmatch` does. DataError for what is no pattern, or if all
    together take too long."""
    for pattern in patterns:
        if len(pattern) > MAX_CHARACTERS:
            raise DataError(f"a pattern of {len(pattern):,} characters", hint=f"at most {MAX_CHARACTERS:,}")
        try:
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise DataError(f"{pattern!r:.80} is no regular expression: {error}") from None
    if all(_PLAIN.fullmatch(pattern) for pattern in patterns):
        return [[re.fullmatch(pattern, name) is not None for name in names] for pattern in patterns]
    pattern = max(patterns, key=len)
    asked = json.dumps({"patterns": list(patterns), "names": list(names)})
    command = [sys.executable, "-I", "-S", "-c", _SCRIPT]
    try:
        done = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=SECONDS, check=True)
        found = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise DataError(f"the pattern {pattern!r:.80} takes more than {SECONDS} s", hint="name the layers") from None
    except (subprocess.CalledProcessError, OSError, ValueError) as error:
        raise DataError(f"the pattern {pattern!r:.80} could not be tried: {error}") from error
    return [[bool(one) for one in row] for row in found]


_SCRIPT = """
import json, re, sys
asked = json.load(sys.stdin)
every = [re.compile(one) for one in asked["patterns"]]
json.dump([[one.fullmatch(name) is not None for name in asked["names"]] for one in every], sys.stdout)
"""
