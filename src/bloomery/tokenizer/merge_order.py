"""Whether merging by rank gives what a list of merges gives.

A list of merges (as in tokenizer.json) lets one named pair become a token, in the order of the list. tiktoken and
SentencePiece merge any two neighbours that together spell a token, the lowest rank first. The two are the same where
(1) every token is made by one merge, of letters or tokens made before it, and (2) every token's own letters become that
token. Proof: let x and y be neighbours that together spell the token t, made of l and r, once all merges before t's are
done. No merge crossed the ends of x and y, so every merge inside happened as it would in t's letters alone (two equal
neighbours pair off from the left, and a run of them that begins before x without a crossing leaves the same pairs).
There, by (2), what stands before t's merge is l and r: so x is l and y is r. They are also the same where every way to
make a token of two is listed, in the order of the tokens.

This module does not know bytes, files or engines.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

Merge = tuple[str, str]


class Refusal(Exception):
    """Why a tokenizer cannot be told in another form's terms; one clause, without an end."""


def merges_of(model: Mapping[str, Any]) -> list[Merge]:
    """The pairs of a tokenizer.json's model, in the order of their rank."""
    pairs = (one.split(" ", 1) if isinstance(one, str) else one for one in model.get("merges", []))
    return [(left, right) for left, right in pairs]


def check_order(merges: Sequence[Merge], letters: Collection[str], ids: Mapping[str, int], *, whole: bool) -> None:
    """Refusal unless merging by the order of ids gives what the merges give. `ids` holds letters and every token that
    is made; with `whole`, a text that is a token is taken as it is."""
    made = [left + right for left, right in merges]
    if len(set(made)) < len(made):
        places = [ids[text] for text in made]
        if len(set(merges)) < len(merges) or len(merges) < _num_cuts(ids) or places != sorted(places):
            raise Refusal("it makes a token in several ways, but not in all")
        if whole:
            return
    else:
        known, last = set(letters), -1
        for (left, right), text in zip(merges, made, strict=True):
            if left not in known or right not in known or ids[text] <= last:
                raise Refusal("its ids are not in the order of its merges")
            known.add(text)
            last = ids[text]
    _check_own(merges, ids)


def _num_cuts(ids: Mapping[str, int]) -> int:
    """How many ways there are to cut tokens into two tokens."""
    return sum(
        token[:cut] in ids and token[cut:] in ids for token in ids if len(token) > 1 for cut in range(1, len(token))
    )


def all_merges(ids: Mapping[str, int]) -> list[Merge]:
    """Every way to cut a token into two tokens, the lowest id first."""
    merges: list[Merge] = []
    for token, _ in sorted(ids.items(), key=lambda item: item[1]):
        cuts = ((token[:cut], token[cut:]) for cut in range(1, len(token)))
        found = [(left, right) for left, right in cuts if left in ids and right in ids]
        merges.extend(sorted(found, key=lambda one: (ids[one[0]], ids[one[1]])))
    return merges


def _check_own(merges: Iterable[Merge], ids: Mapping[str, int]) -> None:
    """(2) of the module, as the library merges."""
    from tokenizers import Tokenizer, models

    dense = {text: place for place, text in enumerate(ids)}
    plain = Tokenizer(models.BPE(vocab=dense, merges=list(merges)))
    texts = list(ids)
    for text, one in zip(texts, plain.encode_batch_fast(texts, add_special_tokens=False), strict=True):
        if one.ids != [dense[text]]:
            raise Refusal(f"the token {text!r} is not what its own letters become")
