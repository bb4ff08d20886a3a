"""Statistics: what scores show and what they do not: intervals, tests, what n can show, agreement, one sentence."""

from bloomery.core.wilson import wilson
from bloomery.corpus.annotation.agreement import Agreement, fleiss_kappa, krippendorff_alpha
from bloomery.evaluate.statistics.bootstrap import bootstrap_mean, bootstrap_ratio
from bloomery.evaluate.statistics.holm import holm
from bloomery.evaluate.statistics.interval import Interval
from bloomery.evaluate.statistics.kappa import Kappa, kappa
from bloomery.evaluate.statistics.mcnemar import McNemar, binary_difference, mcnemar
from bloomery.evaluate.statistics.means import estimate, mean, naive_clustered_error, rate
from bloomery.evaluate.statistics.paired import PairedDifference, paired_difference, sign_flip_p
from bloomery.evaluate.statistics.power import (
    Detectable,
    detectable_paired,
    detectable_paired_binary,
    detectable_unpaired,
    detectable_unpaired_binary,
    needed_paired,
    needed_paired_binary,
    needed_unpaired,
    needed_unpaired_binary,
)
from bloomery.evaluate.statistics.prediction_powered import PredictionPowered, prediction_powered_mean
from bloomery.evaluate.statistics.verdict import Verdict, adjusted, compare_all, compare_pair, judge_difference

__all__ = [
    "Agreement",
    "Detectable",
    "Interval",
    "Kappa",
    "McNemar",
    "PairedDifference",
    "PredictionPowered",
    "Verdict",
    "adjusted",
    "binary_difference",
    "bootstrap_mean",
    "bootstrap_ratio",
    "compare_all",
    "compare_pair",
    "detectable_paired",
    "detectable_paired_binary",
    "detectable_unpaired",
    "detectable_unpaired_binary",
    "estimate",
    "fleiss_kappa",
    "holm",
    "judge_difference",
    "kappa",
    "krippendorff_alpha",
    "mcnemar",
    "mean",
    "naive_clustered_error",
    "needed_paired",
    "needed_paired_binary",
    "needed_unpaired",
    "needed_unpaired_binary",
    "paired_difference",
    "prediction_powered_mean",
    "rate",
    "sign_flip_p",
    "wilson",
]
