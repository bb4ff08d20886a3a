"""`bloomery inspect`: its verbs are there, each with its own help, and none loads torch to say so."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bloomery.cli.inspect import app

VERBS = ("attention", "heads", "tokens", "lens", "neighbours")


def test_every_verb_is_listed(call):
    out = call("inspect", "--help").out
    assert all(verb in out for verb in VERBS)
    assert app.name == ("inspect",)
    assert "Unknown command" in call.mistake("inspect", "soul")


@pytest.mark.parametrize("verb", VERBS)
def test_help_loads_no_torch(verb: str):
    code = f"import sys; from bloomery.cli.main import main; assert main(['inspect', {verb!r}, '--help']) == 0"
    code += "; assert not {'torch', 'matplotlib'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert (f"inspect {verb}" in done.stdout and "--text" in done.stdout) or verb == "neighbours"
