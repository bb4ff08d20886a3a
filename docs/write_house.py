"""Writes the way through the house into README.md: one line a file, from the first sentence of its docstring.

python docs/write_house.py            # rewrites the part between the markers
python docs/write_house.py --check    # exit code 1 if it is out of date
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
SOURCE = PROJECT / "src" / "bloomery"
FLOORS = (
    "cli",
    "server",
    "adapt",
    "retrieve",
    "evaluate",
    "training",
    "engine",
    "models",
    "tokenizer",
    "corpus",
    "energy",
    "core",
)
BEGIN, END = "<!-- house: written by docs/write_house.py -->", "<!-- /house -->"


def first_sentence(path: Path) -> str:
    """The first sentence of a module's docstring on one line, without its full stop."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<=[^.])\.(?:\s|$)", paragraph)[0]


def house() -> str:
    """The lists of all floors, top down."""
    parts = []
    for floor in FLOORS:
        folder = SOURCE / floor
        parts.append(f"**{floor}/** {first_sentence(folder / '__init__.py')}\n")
        files = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
        parts += [f"- `{path.name}` {first_sentence(path)}" for path in files]
        rooms = sorted(path for path in folder.glob("*/__init__.py"))
        parts += [f"- `{path.parent.name}/` {first_sentence(path)}" for path in rooms]
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def main() -> int:
    readme = PROJECT / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    wanted = f"{before}{BEGIN}\n\n{house()}\n{END}{after}"
    if "--check" in sys.argv[1:]:
        return int(wanted != text)
    readme.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
