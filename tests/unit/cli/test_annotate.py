"""`bloomery annotate`: its verbs are there, and a mistake is one line."""

from __future__ import annotations

import pytest

VERBS = ("rules", "model", "export", "import", "agreement", "apply", "generate", "show")


def test_the_verbs_are_named(call):
    found = call("annotate", "--help")
    assert found.code == 0 and all(verb in found.out for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_help_and_loads_no_torch(call, verb: str):
    found = call("annotate", verb, "--help")
    assert found.code == 0 and "Usage" in found.out


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("rules", "none.toml"), "no such file: none.toml"),
        (("model", "none.toml"), "no such file: none.toml"),
        (("agreement", "nobody"), "no question 'nobody'"),
        (("export", ""), "which question?"),
        (("generate", "none.toml"), "no such file: none.toml"),
        (("shwo",), "shwo"),
    ],
)
def test_mistakes_are_one_line(call, tmp_path, arguments: tuple[str, ...], said: str):
    found = call("annotate", *arguments, *(["--home", str(tmp_path)] if len(arguments) > 1 else []))
    assert found.code == 2 and said in found.err and found.err.count("\n") == 1
