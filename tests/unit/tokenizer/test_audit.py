"""The audit of published vocabularies on MASSIVE: the published medians, exactly; and what it refuses."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bloomery.core.artifact import Artifact
from bloomery.core.errors import BloomeryError, ConfigError
from bloomery.core.workspace import Workspace
from bloomery.tokenizer.audit import AuditConfig, audit, definitions, money_and_time, read_audit
from bloomery.tokenizer.token_costs import LanguageCost


@pytest.fixture(scope="module")
def massive(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two encodings on the dev partition of all languages."""
    folder = shared_data / "tokenizers"
    files = [folder / name for name in ("cl100k_base.tiktoken.xz", "o200k_base.tiktoken.gz")]
    made = audit(
        files,
        shared_data / "massive",
        config=AuditConfig(partition="dev"),
        workspace=tmp_path_factory.mktemp("massive"),
    )
    return read_audit(made)


def _rows(data: dict[str, Any], name: str) -> dict[str, dict[str, Any]]:
    one = next(one for one in data["tokenizers"] if one["name"] == name)
    return {row["language"]: row for row in one["languages"]}


@pytest.mark.slow
def test_massives_medians_are_those_that_were_published(massive: dict[str, Any], shared_data: Path):
    with (shared_data / "massive" / "median_tokens_check.tsv").open(encoding="utf-8", newline="") as stream:
        expected = list(csv.DictReader(stream, delimiter="\t"))
    cl100k, o200k = (_rows(massive, f"{name}_base") for name in ("cl100k", "o200k"))
    assert len(expected) == 51 == len(cl100k)
    for row in expected:
        found = cl100k[row["lang"]]
        assert found["median_tokens"] == float(row["cl100k_median_dev"]), row
        assert round(found["mean_tokens"], 2) == float(row["cl100k_mean_dev"]), row
        assert found["sentences"] == found["aligned"] == int(row["dev_rows"])
    assert [cl100k[language]["median_tokens"] for language in ("en", "hi", "my", "hy", "am")] == [7, 32, 72, 63, 54]
    assert [o200k[language]["median_tokens"] for language in ("en", "hi", "my", "hy", "am")] == [7, 10, 21, 12, 41]


@pytest.mark.slow
def test_what_else_holds_of_byte_level_tokenizers(massive: dict[str, Any]):
    for one in massive["tokenizers"]:
        rows = {row["language"]: row for row in one["languages"]}
        assert rows["en"]["premium"] == rows["en"]["median_premium"] == 1.0
        for row in rows.values():
            assert row["round_trip_failures"] == 0 and row["unknown_share"] == 0
            assert row["premium"] == row["tokens"] / rows["en"]["tokens"]
            assert row["premium_low"] <= row["premium"] <= row["premium_high"]
            assert (row["words"] is None) == (row["language"] in ("ja", "km", "my", "th", "zh"))
        scripts = {row["script"]: row for row in one["scripts"]}
        latin = [row for row in rows.values() if row["script"] == "Latin"]
        assert scripts["Latin"]["tokens"] == sum(row["tokens"] for row in latin)
        assert scripts["Latin"]["premium"] == scripts["Latin"]["tokens"] / (len(latin) * rows["en"]["tokens"])
        assert scripts["Japanese"]["median_tokens"] == rows["ja"]["median_tokens"]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "said.tsv"
    path.write_text("en\tde\tel\nwake me up\tweck mich auf\tξύπνα με\nstop\thalt\t\nplay music\tspiel Musik\tμουσική\n")
    return path


def test_an_audit_is_an_artifact_in_the_ledger_and_is_reused(
    ours: Path, llama2: Path, texts: Path, workspace: Workspace
):
    made = audit([ours, llama2], texts, workspace=workspace)
    assert made.kind == "audit" and made.metrics["languages"] == 3 and made.metrics["sentences"] == 8
    run = workspace.ledger.runs(stage="audit", limit=1)[0]
    assert run["state"] == "finished" and run["artifact"] == made.id
    assert audit([ours, llama2], texts, workspace=workspace).manifest["run"] == made.manifest["run"]
    data = read_audit(made)
    greek = _rows(data, ours.name)["el"]
    assert (greek["sentences"], greek["aligned"], data["texts"]["blank_left_out"]) == (2, 2, 1)
    assert data["definitions"]["premium"].startswith("Tokens of the aligned sentences over those of the reference")
    texts.write_text(texts.read_text().replace("halt", "anhalten"))
    assert audit([ours, llama2], texts, workspace=workspace).id != made.id


def test_a_price_and_a_speed_make_money_and_seconds(ours: Path, llama2: Path, texts: Path, workspace: Workspace):
    config = AuditConfig(price={"": 2.0, llama2.name: 10}, tokens_per_second={ours.name: 50}, languages=("de",))
    data = read_audit(audit([ours, llama2], texts, config=config, workspace=workspace))
    row, dear = _rows(data, ours.name)["de"], _rows(data, llama2.name)["de"]
    assert set(_rows(data, ours.name)) == {"de", "en"}
    assert row["price_of_million_reference_tokens"] == 2.0 * row["premium"]
    assert dear["price_of_million_reference_tokens"] == 10 * dear["premium"]
    assert row["price_per_thousand_sentences"] == pytest.approx(2.0 * row["tokens"] / row["sentences"] / 1e6 * 1e3)
    assert row["seconds_per_sentence"] == pytest.approx(row["tokens"] / row["sentences"] / 50)
    assert row["characters_per_second"] == pytest.approx(50 * row["characters"] / row["tokens"])
    assert dear["seconds_per_sentence"] is None and dear["seconds_per_reference_second"] == dear["premium"]


def test_pairs_are_compared_with_their_own_english(ours: Path, tmp_path: Path, workspace: Workspace):
    sides = {
        "deu-eng.deu": "hallo\n",
        "deu-eng.eng": "hello\n",
        "fra-eng.fra": "feu\nnon\n",
        "fra-eng.eng": "fire\nno\n",
    }
    folder = tmp_path / "pairs"
    folder.mkdir()
    for name, text in sides.items():
        (folder / f"set.{name}").write_text(text)
    rows = _rows(read_audit(audit([ours], folder, workspace=workspace)), ours.name)
    from bloomery.tokenizer.tokenizer import Tokenizer

    codec = Tokenizer.load(ours)
    lengths = {text: len(codec.encode(text)) for text in ("hello", "fire", "no", "hallo", "feu", "non")}
    assert rows["deu"]["premium"] == lengths["hallo"] / lengths["hello"]
    assert rows["fra"]["premium"] == (lengths["feu"] + lengths["non"]) / (lengths["fire"] + lengths["no"])
    assert rows["eng"]["sentences"] == 3


def test_every_number_has_a_definition_or_says_what_it_is():
    said = definitions()
    assert set(said) <= set(LanguageCost.__dataclass_fields__) and len(said) >= 15
    bare = set(LanguageCost.__dataclass_fields__) - set(said)
    assert bare == {"language", "script", "sentences", "mean_tokens", "max_tokens", "tokens"} | (bare & {"words"}) | {
        name for name in bare if name.startswith(("premium", "tokens_per"))
    }
    for name in ("price_of_million_reference_tokens", "seconds_per_sentence"):
        assert name in (money_and_time.__doc__ or "")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"reference": "xx"}, 'no language "xx"'),
        ({"languages": ("xx",)}, 'no language "xx"'),
        ({"price": {"": -1}}, "positive number"),
        ({"price": {"": True}}, "positive number"),
        ({"price": {"claude": 3}}, "names claude, which is not audited"),
        ({"tokens_per_second": {"": "fast"}}, "positive number"),
        ({"partition": "dev"}, "no parallel text|no sentence is of partition"),
    ],
)
def test_mistakes_are_one_line(ours: Path, texts: Path, workspace: Workspace, config: dict[str, Any], said: str):
    with pytest.raises(BloomeryError, match=said) as error:
        audit([ours], texts, config=AuditConfig(**config), workspace=workspace)
    assert "\n" not in error.value.one_line()


def test_what_is_no_audit_is_not_read(ours: Path, fake_artifact: Callable[[str, Path], Artifact], texts: Path):
    with pytest.raises(ConfigError, match="not an audit"):
        read_audit(fake_artifact("tokenizer", ours))
    with pytest.raises(ConfigError, match="no tokenizer"):
        audit([], texts)


def test_audit_json_is_plain_json(ours: Path, texts: Path, workspace: Workspace):
    made = audit([ours], texts, workspace=workspace)
    assert json.loads(made.file("audit.json").read_bytes()) == read_audit(made)
