"""Free answers: found by patterns as lm-evaluation-harness finds them, judged by scorers by name."""

from __future__ import annotations

import re
from typing import Any

import pytest

from bloomery.core.errors import ConfigError
from bloomery.evaluate.sample import Answered, Sample
from bloomery.evaluate.tasks import Task, find_task
from bloomery.evaluate.tasks.scoring import Judging, extracted

ANSWERS = [
    "He has 3 + 4 = 7 apples.\n#### 7",
    "#### 1,234.",
    "so it is $12.50",
    "#### -3\n\nQuestion: more\n#### 8",
    "no number",
    "",
    "7",
    "It is 7.\n#### 8",
]


@pytest.mark.parametrize("text", ANSWERS)
@pytest.mark.parametrize("target", ["so\n#### 7", "#### 1234", "#### 12.50", "#### -3"])
def test_gsm8k_as_lm_eval_scores_it(text: str, target: str):
    from lm_eval.api.metrics import exact_match_hf_evaluate
    from lm_eval.filters.extraction import RegexFilter

    ignore = [",", "\\$", "(?s).*#### ", "\\.$"]
    filters = {
        "strict_match": RegexFilter("#### (\\-?[0-9\\.\\,]+)"),
        "flexible_match": RegexFilter("(-?[$0-9.,]{2,})|(-?[0-9]+)", group_select=-1),
    }
    sample = Sample(id="1", input="q", targets=(target,))
    found, _ = Judging(find_task("gsm8k")).scores(sample, Answered(sample_id="1", text=text))
    for name, one in filters.items():
        filtered = next(iter(one.apply([[text]], [{}])))[0]
        expected = exact_match_hf_evaluate([filtered], [target], regexes_to_ignore=ignore, ignore_case=True)
        assert found[name] == expected["exact_match"], name


def test_patterns():
    pattern = re.compile(r"(?:is (\d+))|<(\w+)>")
    assert extracted("is 3, no: <four>", pattern, "first") == "3"
    assert extracted("is 3, no: <four>", pattern, "last") == "four"
    assert extracted("nothing", pattern, "last") == "" and extracted(" as is ", None, "last") == " as is "


@pytest.mark.parametrize(
    "options",
    [{"pattern": "("}, {"take": "best"}, {"scorer": "exakt"}, {"no_such_setting": 1}, {"ignore": 3}],
)
def test_options_that_make_no_sense(options: dict):
    task = Task(name="t", kind="generation", metrics=("exact_match",), options={"exact_match": options})
    with pytest.raises(ConfigError) as caught:
        Judging(task)
    assert "\n" not in caught.value.one_line()


def test_code_runs_against_its_tests():
    task = find_task("humaneval")
    metadata = {"prefix": "def add(a, b):\n", "tests": "def check(f):\n    assert f(1, 2) == 3\n", "entry_point": "add"}
    sample = Sample(id="1", input="", metadata=metadata)
    scores = [
        Judging(task).scores(sample, Answered(sample_id="1", text=text))[0]["passes"]
        for text in ("    return a + b\n", "    return a - b\n")
    ]
    assert scores == [1.0, 0.0]


def test_what_a_scorer_lacks():
    def lacks(metric: str, **sample: Any) -> str:
        task = Task(name="t", kind="generation", metrics=(metric,))
        return Judging(task).lacks(Sample(id="1", input="q", **sample))

    assert "tests" in lacks("code") and lacks("code", metadata={"tests": "assert True"}) == ""
    for metric in ("exact_match", "exact", "f1", "numeric"):
        assert metric in lacks(metric) and lacks(metric, targets=("4",)) == ""
    assert lacks("exact", targets=(" ",)) and not lacks("f1", targets=("",))  # SQuAD 2: nothing may be right
    assert lacks("json_schema") == ""  # any JSON will do


def test_the_figure_of_all_samples_is_not_the_mean_of_theirs():
    import sacrebleu

    task = Task(name="t", kind="generation", metrics=("chrf", "exact"), answer_pattern="<(.*)>")
    pairs = [("the iron is hot", "the iron is very hot"), ("strike", "strike while it is hot")]
    samples = [Sample(id=f"{n}", input="q", targets=(target,)) for n, (_, target) in enumerate(pairs)]
    found = Judging(task).corpus(samples, [f"so: <{text}>" for text, _ in pairs])
    theirs = sacrebleu.corpus_chrf([a for a, _ in pairs], [[b for _, b in pairs]]).score
    assert set(found) == {"chrf"} and found["chrf"]["value"] == pytest.approx(theirs)
