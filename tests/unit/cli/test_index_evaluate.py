"""`bloomery index evaluate`: measures with intervals from BEIR's files."""

from __future__ import annotations

import json

import pytest

from bloomery.cli.main import main

pytest.importorskip("ir_measures")


def test_evaluate(tmp_path, capsys):
    texts = ["iron ore", "coal seam", "rain falls"]
    rows = [{"_id": f"d{n}", "title": "", "text": text} for n, text in enumerate(texts)]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "queries.jsonl").write_text('{"_id": "1", "text": "iron"}\n{"_id": "2", "text": "rain or coal seam"}\n')
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n1\td0\t1\n2\td2\t1\n")
    home = ["--home", str(tmp_path / "home"), "--quiet"]
    assert main(["index", str(tmp_path / "corpus.jsonl"), "--id-field", "_id", "--into", "i", *home]) == 0
    capsys.readouterr()
    files = ["--queries", str(tmp_path / "queries.jsonl"), "--qrels", str(tmp_path / "qrels.tsv")]
    assert main(["index", "evaluate", "i", *files, "--json", *home]) == 0
    told = json.loads(capsys.readouterr().out)["measures"]["lexical"]
    assert told["RR"]["value"] == pytest.approx(0.75) and told["R@10"]["value"] == 1.0
    assert main(["index", "evaluate", "i", *files, *home]) == 0
    assert "nDCG@10" in capsys.readouterr().out
