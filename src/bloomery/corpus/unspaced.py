"""Scripts that are written without spaces: where words are counted or compared, each of their characters is one.

In these a line may end between any letters or where a dictionary says (Unicode's UAX 14: ideographs, kana, South East
Asian), and in three between syllables (Tibetan, Javanese, Balinese). This module does not know words or languages.
"""

from __future__ import annotations

import re

UNSPACED = (
    "\u0e00-\u109f\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\u1b00-\u1b7f\u3040-\u312f\u31a0-\u31bf\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\ua980-\ua9ff\uaa60-\uaadf\uf900-\ufaff\uff66-\uff9f"
    "\U00011700-\U0001174f\U00016fe0-\U00018dff\U0001b000-\U0001b2ff\U00020000-\U0003ffff"
)
"""Ranges of their characters, for a class of a regular expression."""
UNSPACED_CHARACTER = re.compile(f"[{UNSPACED}]")
