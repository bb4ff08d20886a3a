"""`bloomery prompt`: prompts as files: seen, tried, made better. One file a verb; this module only names them."""

from __future__ import annotations

from cyclopts import App

_VERBS = {
    "show": "A prompt as a model gets it, to the token; without a name, which prompts there are.",
    "try": "Put a prompt to a model on labelled samples: score, interval, tokens, joules.",
    "optimise": "Search for a better prompt within a budget of tokens, on dev samples alone.",
}

app = App(
    name="prompt",
    help="Prompts as versioned files: what a model is asked, what that is worth, and a search for better ones.",
    help_format="plaintext",
)
for _place, (_verb, _summary) in enumerate(_VERBS.items()):
    _function = "try_" if _verb == "try" else _verb
    app.command(f"bloomery.cli.prompt_{_verb}:{_function}", name=_verb, help=_summary, sort_key=_place)
