"""`bloomery inspect`: look into a model. One file for each thing to look at; this module only names them."""

from __future__ import annotations

from cyclopts import App

_VERBS = {
    "attention": "One head from one query: q.k, scale, mask, softmax, values, and a picture.",
    "heads": "Every head in numbers: entropy, looking at the token before, induction.",
    "tokens": "The next token's distribution, or a blank's, before and after sampling filters.",
    "lens": "What the model would say after each of its layers.",
    "neighbours": "The tokens nearest to a token in the embedding.",
    "source": "The first documents of a file or folder as they are read, and what is refused.",
    "batch": "What training would show a model, and what it would learn where.",
}

app = App(
    name="inspect",
    help="Look into a model: attention, tokens, layers, embeddings; and into batches and sources.",
    help_format="plaintext",
)
for _place, (_verb, _summary) in enumerate(_VERBS.items()):
    app.command(f"bloomery.cli.inspect_{_verb}:{_verb}", name=_verb, help=_summary, sort_key=_place)
