"""`bloomery prompt optimise`: a search for a better prompt. This module does not know how it searches."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter, validators

from bloomery.cli.options import Common, Fresh, artifact_data, print_json, shown
from bloomery.cli.prompt_options import (
    AskingOptions,
    ModelName,
    PromptName,
    SamplesFile,
    ScorerName,
    chat_of,
    find_prompt,
    find_scorer,
    opened_model,
)


def optimise(
    prompt: PromptName,
    samples: SamplesFile,
    *,
    model: ModelName = "",
    tokens: Annotated[
        int, Parameter(help="Budget, of prompts and answers together.", validator=validators.Number(gte=1))
    ] = 200_000,
    scorer: ScorerName = "",
    examples: Annotated[int, Parameter(help="In a set of examples; 0: instructions alone.")] = 4,
    asking: AskingOptions | None = None,
    fresh: Fresh = False,
    common: Common | None = None,
) -> None:
    """Try other instructions and examples: learnt from the file's train samples, judged on its dev samples (halves of
    a file that names none). Its test samples are never used. Interrupted, the same command goes on."""
    common, asking = common or Common(), asking or AskingOptions()
    from bloomery.adapt.prompts.optimise import OptimiseConfig, read_scores
    from bloomery.adapt.prompts.optimise import optimise as searched
    from bloomery.adapt.prompts.sample_file import read_sample_file, searchable

    workspace = common.workspace()
    template, judge = find_prompt(prompt, workspace), find_scorer(scorer)
    train, dev = searchable(read_sample_file(samples), seed=asking.seed)
    config = OptimiseConfig(
        tokens=tokens,
        examples=examples,
        strategy=asking.strategy(),
        concurrency=asking.concurrency,
        seed=asking.seed,
    )
    with opened_model(model, workspace, asking) as opened:
        how = {"config": config, "identity": opened.identity, "workspace": workspace, "fresh": fresh}
        made = searched(template, chat_of(opened), train, dev, judge, **how)
    report = read_scores(made)
    if common.json:
        print_json({**artifact_data(made), **report})
        return
    print(f"{made.name}  {made.path}")
    best, base = report["best"], report["baseline"]
    print(f"  {made.metrics['prompt']}: {best['origin']}")
    print(f"  {report['scorer']} on dev: {best['score']:.3f}, as given {base['score']:.3f}; n = {best['items']:,}")
    if report["verdict"] is not None:
        print(f"  {report['verdict']['sentence']}")
    print(f"  {report['note']}; {report['tokens']:,} tokens; {shown(report['ended'])}")
