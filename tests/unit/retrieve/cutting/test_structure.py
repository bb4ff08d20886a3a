"""Structure: headings, and what is kept whole under them."""

from __future__ import annotations

from bloomery.retrieve.cutting.structure import sections

TEXT = """Before.

# Iron #

First
paragraph.

| a | b |
|---|---|
| 1 | 2 |

## Ore

- one
  more of it
- two

```python
# no heading

x = 1
```

Steel
-----
Last.

# Alone
"""


def blocks(text: str) -> list[tuple[str, list[str]]]:
    return [(one.heading, [text[b.start : b.end] for b in one.blocks]) for one in sections(text)]


def test_markdown():
    assert blocks(TEXT) == [
        ("", ["Before."]),
        ("Iron", ["First\nparagraph.", "| a | b |\n|---|---|\n| 1 | 2 |"]),
        ("Iron > Ore", ["- one\n  more of it", "- two", "```python\n# no heading\n\nx = 1\n```"]),
        ("Steel", ["Last."]),
        ("", ["# Alone"]),
    ]


def test_restructured_text():
    text = "Furnace\n=======\n\nA\n\nFire\n----\n\nB\n\nAir\n~~~\n\nC\n\nEnd\n===\n\nD\n"
    assert [heading for heading, _ in blocks(text)] == ["Furnace", "Furnace > Fire", "Furnace > Fire > Air", "End"]


def test_a_line_under_a_paragraph_is_no_heading():
    assert blocks("some words\nmore words\n----------\nrest") == [
        ("", ["some words\nmore words\n----------\nrest"]),
    ]
    assert blocks("") == []
