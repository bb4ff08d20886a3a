"""Licenses: texts that packages installed here carry, with the identifiers that these packages declare."""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path

import pytest

from bloomery.corpus.licenses import FILE, UNKNOWN, license_of, spdx_header

PROJECT = Path(__file__).resolve().parents[3]


def _text(package: str) -> str:
    files = [file for file in distribution(package).files or () if FILE.fullmatch(Path(file).name)]
    return Path(str(files[0].locate())).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("package", "identifier"),
    [
        ("pytest", "MIT"),
        ("rich", "MIT"),
        ("psutil", "BSD-3-Clause"),
        ("jinja2", "BSD-3-Clause"),
        ("regex", "Apache-2.0"),
        ("transformers", "Apache-2.0"),
        ("hypothesis", "MPL-2.0"),
    ],
)
def test_texts_are_what_their_packages_declare(package: str, identifier: str):
    assert license_of(_text(package)) == identifier


def test_our_own():
    assert license_of((PROJECT / "LICENSE").read_text(encoding="utf-8")) == "Apache-2.0"


@pytest.mark.parametrize(
    ("text", "identifier"),
    [
        (
            "GNU GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007\n"
            + "words " * 50
            + "the GNU Affero General Public License",
            "GPL-3.0",
        ),
        ("GNU AFFERO GENERAL PUBLIC LICENSE\n   Version 3, 19 November 2007", "AGPL-3.0"),
        ("GNU LESSER GENERAL PUBLIC LICENSE\n Version 2.1, February 1999", "LGPL-2.1"),
        ("This is free and unencumbered software released into the public domain.", "Unlicense"),
        ("Creative Commons Attribution-ShareAlike 4.0 International Public License", "CC-BY-SA-4.0"),
        ("All rights reserved.", UNKNOWN),
    ],
)
def test_texts_are_told_apart(text: str, identifier: str):
    assert license_of(text) == identifier


@pytest.mark.parametrize(
    ("text", "identifier"),
    [
        ("// SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note\n", "GPL-2.0-only WITH Linux-syscall-note"),
        ("# SPDX-License-Identifier: (MIT OR Apache-2.0)\n", "MIT OR Apache-2.0"),
        ("/* SPDX-License-Identifier: BSD-2-Clause */", "BSD-2-Clause"),
        ("x" * 5000 + "SPDX-License-Identifier: MIT", ""),
    ],
)
def test_headers(text: str, identifier: str):
    assert spdx_header(text) == identifier
