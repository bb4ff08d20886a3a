"""`bloomery prompt` names its verbs, each with a function."""

from __future__ import annotations

from bloomery.cli.main import main


def test_help(capsys):
    assert main(["prompt", "--help"]) == 0
    told = capsys.readouterr().out
    for verb in ("show", "try", "optimise"):
        assert verb in told
        assert main(["prompt", verb, "--help"]) == 0
