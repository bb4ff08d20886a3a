"""`bloomery annotate`: labels and texts by rules, models and people. One file for each verb; this module only names
them."""

from __future__ import annotations

from cyclopts import App

_VERBS = {
    "rules": "Label a corpus by labelling functions, weighed by how they agree.",
    "model": "Label a corpus by a model, ours or one behind an endpoint.",
    "export": "Tasks for people, as Label Studio reads them.",
    "import": "What people said, as Label Studio exports it.",
    "agreement": "How far annotators agree beyond chance.",
    "apply": "The answers to a question as labels of a corpus.",
    "generate": "Documents, questions or instructions written by a model.",
    "show": "What was asked, who answered, and what it cost.",
}

app = App(
    name="annotate",
    help="Label by rules, models and people; let a model write; keep who said what, and what it cost.",
    help_format="plaintext",
)
for _place, (_verb, _summary) in enumerate(_VERBS.items()):
    _function = "import_" if _verb == "import" else _verb
    app.command(f"bloomery.cli.annotate_{_verb}:{_function}", name=_verb, help=_summary, sort_key=_place)
