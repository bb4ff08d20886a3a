"""printable(): nothing is left that a terminal would obey."""

from __future__ import annotations

from bloomery.core.printable import printable


def test_controls_go_and_letters_stay():
    assert printable("a\x1b]52;c;x\x07b\nc\ud800é漢") == "a ]52;c;x b c é漢"
    assert printable("a\n\tb\x1b[2J", keep="\n\t", instead="\ufffd") == "a\n\tb\ufffd[2J"
