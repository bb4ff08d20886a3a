"""Languages: by name, by suffix, by first line; what says nothing has none."""

from __future__ import annotations

import pytest

from bloomery.corpus.code_languages import language_of


@pytest.mark.parametrize(
    ("name", "text", "language"),
    [
        ("a.py", "", "Python"),
        ("A.RS", "", "Rust"),
        ("Makefile", "", "Makefile"),
        ("Dockerfile.gpu", "", "Dockerfile"),
        ("CMakeLists.txt", "", "CMake"),
        ("a.h", "#include <stdio.h>\nint f(void);", "C"),
        ("a.h", "#include <vector>\nclass A {};", "C++"),
        ("a.m", "@interface A", "Objective-C"),
        ("a.m", "function y = f(x)\n", "MATLAB"),
        ("run", "#!/usr/bin/env python3\n", "Python"),
        ("run", "#!/usr/bin/env -S FOO=1 node --flag\n", "JavaScript"),
        ("run", "#! /bin/sh -e\n", "Shell"),
        ("run", "#!/usr/bin/perl5.36\n", "Perl"),
        ("run", "no line that says", ""),
        ("a.unknown", "text", ""),
        (".py", "", ""),
    ],
)
def test_the_language_of_a_file(name: str, text: str, language: str):
    assert language_of(name, text) == language
