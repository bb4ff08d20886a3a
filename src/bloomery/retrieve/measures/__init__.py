"""How good a ranking is: queries, judgements, and measures with intervals."""
