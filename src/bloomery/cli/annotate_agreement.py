"""`bloomery annotate agreement`: how far annotators agree. This module does not know how it is computed."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter, validators

from bloomery.cli.annotate_options import Annotators, Kinds, QuestionName, Seed, find_question, opened_store
from bloomery.cli.options import Common, print_json


def agreement(
    question: QuestionName,
    *,
    by: Annotators = None,
    kind: Kinds = None,
    resamples: Annotated[
        int, Parameter(help="Of the documents, for the intervals.", validator=validators.Number(gte=0, lte=100_000))
    ] = 1000,
    seed: Seed = 0,
    common: Common | None = None,
) -> None:
    """Krippendorff's alpha, Fleiss' and Cohen's kappa, with 95% intervals over documents."""
    common = common or Common()
    from bloomery.corpus.annotation.consensus import agreement_report

    workspace = common.workspace()
    with opened_store(workspace) as store:
        asked = find_question(question, store)
        answers = list(store.answers(asked, annotators=by or (), kinds=kind or ()))
    report = agreement_report(asked, answers, resamples=resamples, seed=seed)
    if common.json:
        print_json(report)
        return
    who = ", ".join(report["annotators"]) or "nobody"
    print(f"{asked.name}: {report['documents']:,} documents, annotators: {who}")
    alphas = report["alpha"] if asked.kind in ("choices", "ranking") else {report["level"]: report["alpha"]}
    for name, one in alphas.items():
        print(f"Krippendorff's alpha, {name}: {_said(one)}")
    if report.get("fleiss_kappa"):
        print(f"Fleiss' kappa: {_said(report['fleiss_kappa'])}")
    for one in report.get("cohen_kappa", ()):
        weights = "" if one["weights"] == "none" else f", {one['weights']} weights"
        print(f"Cohen's kappa{weights}, {one['one']} and {one['other']}: {_said(one)}")
    if report.get("pairs_left_out"):
        print(f"{report['pairs_left_out']:,} other pairs are left out; --by names annotators")


def _said(one: dict[str, Any]) -> str:
    if one["value"] is None:
        reason = "nobody answered twice" if not one["documents"] else "all answers are the same"
        return f"not defined ({reason})"
    bounds = "" if one["low"] is None else f" ({one['low']:.4f} to {one['high']:.4f})"
    same = f", the same on {one['same']:.1%}" if one.get("same") is not None else ""
    return f"{one['value']:.4f}{bounds} of {one['documents']:,} documents{same}"
