"""Licenses: the SPDX identifier of a license file's text or of a source file's header.

Texts are told apart by phrases that no other of these licenses has, tried in order; a text with none of them is
"unknown", never guessed. This module does not know files.
"""

from __future__ import annotations

import re

UNKNOWN = "unknown"
FILE = re.compile(r"(?:un)?licen[cs]e(?:[-._].*)?|copying(?:[-._].*)?|.*\.licen[cs]e", re.IGNORECASE)
"""Names of files that hold a license."""
_HEADER_CHARACTERS = 4000
_SPDX = re.compile(
    r"SPDX-License-Identifier:[ \t]*\(?([A-Za-z0-9.+-]+(?:[ \t]+(?:AND|OR|WITH)[ \t]+\(?[A-Za-z0-9.+-]+\)?)*)"
)
_BSD = "redistribution and use in source and binary forms"
_TITLE_CHARACTERS = 200
# (identifier, phrases that must be there; those after a bar must stand in the first lines)
_PHRASES = (
    ("AGPL-3.0", ("|gnu affero general public license", "version 3")),
    ("LGPL-3.0", ("|gnu lesser general public license", "version 3, 29 june 2007")),
    ("LGPL-2.1", ("|gnu lesser general public license", "version 2.1")),
    ("LGPL-2.0", ("|gnu library general public license", "version 2")),
    ("GPL-3.0", ("|gnu general public license", "version 3, 29 june 2007")),
    ("GPL-2.0", ("|gnu general public license", "version 2, june 1991")),
    ("Apache-2.0", ("apache license", "version 2.0")),
    ("MPL-2.0", ("mozilla public license", "2.0")),
    ("MPL-1.1", ("mozilla public license", "version 1.1")),
    ("EPL-2.0", ("eclipse public license - v 2.0",)),
    ("EPL-1.0", ("eclipse public license - v 1.0",)),
    ("EUPL-1.2", ("european union public licence", "1.2")),
    ("CC0-1.0", ("cc0 1.0 universal",)),
    ("CC-BY-SA-4.0", ("attribution-sharealike 4.0 international",)),
    ("CC-BY-NC-4.0", ("attribution-noncommercial 4.0 international",)),
    ("CC-BY-4.0", ("attribution 4.0 international",)),
    ("BSL-1.0", ("boost software license - version 1.0",)),
    ("Zlib", ("altered source versions must be plainly marked", "this notice may not be removed")),
    ("Unlicense", ("this is free and unencumbered software released into the public domain",)),
    ("WTFPL", ("do what the fuck you want to public license",)),
    ("Artistic-2.0", ("the artistic license 2.0",)),
    ("PSF-2.0", ("python software foundation license version 2",)),
    ("ISC", ("permission to use, copy, modify, and/or distribute this software", "provided that the above copyright")),
    ("0BSD", ("permission to use, copy, modify, and/or distribute this software",)),
    ("BSD-4-Clause", (_BSD, "all advertising materials mentioning")),
    ("BSD-3-Clause", (_BSD, "endorse or promote products")),
    ("BSD-2-Clause", (_BSD, "redistributions in binary form must reproduce")),
    ("MIT-0", ("permission is hereby granted, free of charge", "without restriction, including without limitation")),
)


def license_of(text: str) -> str:
    """The SPDX identifier of a license's text, or "unknown"."""
    if identifier := spdx_header(text):
        return identifier
    plain = " ".join(text.lower().replace("*", " ").split())
    head = plain[:_TITLE_CHARACTERS]
    for identifier, phrases in _PHRASES:
        if all(phrase[1:] in head if phrase[0] == "|" else phrase in plain for phrase in phrases):
            if identifier == "MIT-0" and "the above copyright notice and this permission notice" in plain:
                return "MIT"
            return identifier
    return UNKNOWN


def spdx_header(text: str) -> str:
    """What a file's own SPDX-License-Identifier says, near its begin, or ""."""
    found = _SPDX.search(text[:_HEADER_CHARACTERS])
    return " ".join(found[1].replace("(", " ").replace(")", " ").split()) if found else ""
