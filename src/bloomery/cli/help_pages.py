"""Writes docs/cli.md, the help of every verb: `python -m bloomery.cli.help_pages > docs/cli.md`.

A test checks that the file is up to date. This module does not know what a verb does.
"""

from __future__ import annotations

import io

from bloomery.cli.main import build_app, verbs

_WIDTH = 100


def help_pages() -> str:
    """Markdown with the help of `bloomery` and of each verb, as it is printed 100 columns wide."""
    parts = ["# Command line", "", "Written by `python -m bloomery.cli.help_pages`.", ""]
    for verb in ("", *verbs()):
        parts += [f"## bloomery {verb}".rstrip(), "", "```", _help([verb] if verb else []), "```", ""]
    return "\n".join(parts)


def _help(tokens: list[str]) -> str:
    from rich.console import Console

    out = io.StringIO()
    console = Console(file=out, width=_WIDTH, force_terminal=False, color_system=None)
    build_app().help_print(tokens, console=console)
    return "\n".join(line.rstrip() for line in out.getvalue().strip().splitlines())


if __name__ == "__main__":
    print(help_pages(), end="")
