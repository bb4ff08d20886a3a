"""`bloomery plan`: what a model for a corpus and a budget would be, before anything is spent.

`--calibrate` trains a ladder of small models on the corpus first and fits its scaling law; `--scores` compares finished
runs with their plans. This module does not know how a plan is made.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from bloomery.cli.options import Common, Overrides, RecipeFile, print_json, read_recipe

if TYPE_CHECKING:
    from bloomery.core.recipe import Recipe
    from bloomery.core.workspace import Workspace
    from bloomery.training.planning.plan import Budget

Minutes = Annotated[float | None, Parameter(help="Minutes of training on this machine [default: the recipe's, 5].")]


def plan(
    corpus: Annotated[str, Parameter(help="A corpus: name, id or folder [default: the latest].")] = "",
    *,
    minutes: Minutes = None,
    watt_hours: Annotated[float | None, Parameter(help="Budget: watt-hours at the machine.")] = None,
    money: Annotated[
        float | None, Parameter(help="Budget: money; needs energy.price_per_kwh or energy.price_per_hour.")
    ] = None,
    target: Annotated[float | None, Parameter(help="Instead of a budget: bits per byte to reach.")] = None,
    calibrate: Annotated[
        bool, Parameter(negative=(), help="First fit the scaling law of this corpus on a ladder of small runs.")
    ] = False,
    calibration_minutes: Annotated[
        float | None, Parameter(help="What the ladder may take; 3 to 10 are sensible [default: 5].")
    ] = None,
    scores: Annotated[
        bool, Parameter(negative=(), help="Instead of planning: every finished run against its plan.")
    ] = False,
    out: Annotated[Path | None, Parameter(help="Write the plan here too, for `bloomery pretrain --plan`.")] = None,
    recipe: RecipeFile = None,
    set_: Overrides = None,
    fresh: Annotated[bool, Parameter(negative=(), help="Calibrate again even if it was done.")] = False,
    common: Common | None = None,
) -> None:
    """What a model for this corpus and budget would be, take and reach. Tokenizes when needed, and measures."""
    common = common or Common()
    from bloomery.cli import plan_table

    if scores:
        from bloomery.training.planning.scores import median_errors
        from bloomery.training.planning.scores import scores as all_scores

        rows = all_scores(common.workspace())
        summary = median_errors(rows)
        if common.json:
            print_json({"runs": rows, "summary": summary})
        else:
            plan_table.show_scores(rows, summary)
        return
    calibration = _calibration(calibrate, calibration_minutes)
    settings, workspace = read_recipe(recipe, set_), common.workspace()
    budget = _budget(settings, minutes=minutes, watt_hours=watt_hours, money=money, target=target)
    made = _planned(
        settings,
        workspace,
        corpus,
        budget,
        calibration=calibration,
        fresh=fresh,
        out=out,
    )
    if common.json:
        print_json(made)
    else:
        plan_table.show_plan(made)


def _budget(
    settings: Recipe, *, minutes: float | None, watt_hours: float | None, money: float | None, target: float | None
) -> Budget | None:
    """The one budget of the command line; None leaves it to the recipe."""
    from bloomery.core.config import from_dict
    from bloomery.core.errors import ConfigError
    from bloomery.training import Budget

    given = {"minutes": minutes, "watt_hours": watt_hours, "money": money, "bits_per_byte": target}
    given = {name: value for name, value in given.items() if value is not None}
    for name, value in given.items():
        if value <= 0:
            raise ConfigError(f"a budget of {value:g} {name.replace('_', ' ')} buys nothing", hint="more than 0")
    return from_dict(Budget, given) if given else None


def _calibration(wanted: bool, minutes: float | None) -> dict[str, float] | None:
    """What the command line says of a calibration; None where none is wanted."""
    from bloomery.core.errors import ConfigError

    if not wanted and minutes is not None:
        raise ConfigError("--calibration-minutes are those of a calibration", hint="--calibrate, or leave them out")
    return ({} if minutes is None else {"minutes": minutes}) if wanted else None


def _planned(
    settings: Recipe,
    workspace: Workspace,
    corpus: str,
    budget: Budget | None,
    *,
    calibration: dict[str, float] | None,
    fresh: bool,
    out: Path | None,
) -> dict:
    """The plan as data; its artifact's name stands under "artifact". `calibration` is what was said of one that is to
    come first."""
    from bloomery.energy import EnergyConfig
    from bloomery.tokenizer import TokenizeConfig, Tokenizer, TokenizerConfig, train_tokenizer
    from bloomery.tokenizer import tokenize as tokenize_stage
    from bloomery.training import PretrainConfig
    from bloomery.training.planning.calibration import CalibrationConfig, calibrate, law_for
    from bloomery.training.planning.plan_stage import publish_plan
    from bloomery.training.pretrain_config import plan_request
    from bloomery.training.vocabulary_stage import vocabulary_of

    source = workspace.find(corpus, kind="corpus") if corpus else workspace.latest("corpus")
    config, energy = settings.table("pretrain", PretrainConfig), settings.table("energy", EnergyConfig)
    wanted = settings.table("tokenizer", TokenizerConfig)
    if "tokenizer.vocab_size" not in settings.keys and not wanted.alphabet_size:
        wanted = replace(wanted, vocab_size=vocabulary_of(source, wanted, config, budget, energy, workspace))
    trained = train_tokenizer(source, config=wanted, workspace=workspace)
    tokens = tokenize_stage(source, trained, config=settings.table("tokenize", TokenizeConfig), workspace=workspace)
    codec, law = Tokenizer.load(trained.path), None
    request = plan_request(config, tokens, codec, budget=budget, workspace=workspace, energy=energy)
    if calibration is not None:
        how = CalibrationConfig(
            **calibration,
            warmup_fraction=config.warmup_fraction,
            decay_fraction=config.decay_fraction,
            seed=config.seed,
        )
        law = calibrate(tokens, trained, request, config=how, workspace=workspace, fresh=fresh)
        found, said = law_for(law, request)  # which need not be the newest one
        request = replace(request, law=found, reasons=(said,))
    artifact, made = publish_plan(request, tokens, trained, workspace=workspace, out=out)
    calibrated = {} if law is None else {"calibration": {"artifact": law.name, **law.metrics}}
    return {**made.to_dict(), "artifact": artifact.name, **calibrated}
