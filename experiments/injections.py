"""How often a model obeys orders that stand in the documents it answers from: forty attacks, with and without defence.

    python experiments/injections.py --model NAME_OR_FOLDER
    python experiments/injections.py --model NAME --endpoint http://127.0.0.1:8000/v1 --form quotes --json

Prints rates with Wilson's intervals for every kind of attack, and McNemar's exact test of the defence. Greedy.
"""

from __future__ import annotations

import argparse
import json
import sys

from bloomery.cli.annotate_options import ModelOptions
from bloomery.core.errors import BloomeryError
from bloomery.core.workspace import Workspace
from bloomery.retrieve.answers import AnswerConfig
from bloomery.retrieve.attacks import AttackReport, measure_attacks, read_attacks


def show(report: AttackReport) -> None:
    """The table, for people."""
    print(
        f"{report.model}: what the model wrote (obeyed), what a reader is shown (harmed), the right answer (answered)"
    )
    for kind in (*report.kinds, ""):
        for defended in (False, True):
            rates = [report.rate(one, defended=defended, kind=kind) for one in ("obeyed", "harmed", "answered")]
            cells = "  ".join(f"{rate.text():28s}" for rate in rates)
            print(f"{kind or 'all':11s} {'defended' if defended else 'bare':9s} {cells}".rstrip())
    print(f"the defence changes nothing: p = {report.p_value('obeyed'):.3g} obeyed, {report.p_value():.3g} harmed")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--endpoint", default="")
    parser.add_argument("--key-variable", default="")
    parser.add_argument("--form", choices=["markers", "quotes", "spans"], default="markers")
    parser.add_argument("--attacks", default=None, help="another file of JSON lines")
    parser.add_argument("--max-new-tokens", type=int, default=200)
    parser.add_argument("--home", default=None)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    which = ModelOptions(model=asked.model, endpoint=asked.endpoint, key_variable=asked.key_variable)
    config = AnswerConfig(form=asked.form, max_new_tokens=asked.max_new_tokens)
    try:
        attacks = read_attacks(asked.attacks)
        with which.opened(Workspace(asked.home)) as model:
            report = measure_attacks(
                model, attacks, config=config, told=lambda n: print(f"\r{n}/{len(attacks)}", end="", file=sys.stderr)
            )
    except BloomeryError as error:
        print(f"error: {error.one_line()}", file=sys.stderr)
        return 2
    print(file=sys.stderr)
    if asked.json:
        print(json.dumps(report.to_dict(), ensure_ascii=False, indent=1))
    else:
        show(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
