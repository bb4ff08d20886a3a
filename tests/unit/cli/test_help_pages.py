"""The generated help pages name every verb and its options."""

from __future__ import annotations

from bloomery.cli.help_pages import help_pages
from bloomery.cli.main import verbs


def test_every_verb_is_there():
    text = help_pages()
    for verb in verbs():
        assert f"## bloomery {verb}\n" in text
    assert "--max-new-tokens" in text and "--dry-run" in text
    assert all(line == line.rstrip() for line in text.splitlines())
