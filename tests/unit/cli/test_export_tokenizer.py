"""`bloomery export --tokenizer`: the files that sentencepiece and tiktoken read, or one line that says why not."""

from __future__ import annotations

import base64
import json

import sentencepiece
import tiktoken


def test_files_and_folders(call, tiny, tmp_path):
    home = ["--home", str(tiny.home), "--quiet"]
    made = json.loads(call("tokenize", *home, "--json", "--set", "tokenizer.vocab_size=300").out)["tokenizer"]
    ranks = tmp_path / "new" / "own.tiktoken"
    answer = json.loads(call("export", str(ranks), "--tokenizer", made["name"], "--json", *home).out)
    assert answer["form"] == "tiktoken" and answer["files"] == ["own.tiktoken", "own.tiktoken.json"]
    assert answer["bytes"] == sum(path.stat().st_size for path in ranks.parent.iterdir())
    said = json.loads((ranks.parent / "own.tiktoken.json").read_text())
    lines = [line.split() for line in ranks.read_bytes().splitlines()]
    theirs = tiktoken.Encoding(
        "own",
        pat_str=said["pat_str"],
        mergeable_ranks={base64.b64decode(token): int(rank) for token, rank in lines},
        special_tokens=said["special_tokens"],
    )
    assert theirs.n_vocab == answer["vocab_size"]
    call("export", str(tmp_path / "folder"), "--tokenizer", str(made["path"]), *home)
    again = call("export", str(tmp_path / "b.tiktoken"), "--tokenizer", str(tmp_path / "folder"), *home).out
    assert "b.tiktoken" in again and (tmp_path / "b.tiktoken").read_bytes() == ranks.read_bytes()
    (tmp_path / "texts").mkdir()
    for language, text in (("en", "one two\n"), ("de", "eins zwei\n")):
        (tmp_path / "texts" / f"{language}.txt").write_text(text)
    call("export", str(tmp_path / "again"), "--tokenizer", str(ranks), *home)
    named = [str(tmp_path / "folder"), str(ranks), str(tmp_path / "again")]
    rows = json.loads(call("audit", *named, "--texts", str(tmp_path / "texts"), "--json", *home).out)["audit"]
    assert [one["name"] for one in rows["tokenizers"]] == ["folder", "own", "again"]
    assert len({json.dumps(one["languages"]) for one in rows["tokenizers"]}) == 1
    (ranks.parent / "own.tiktoken.json").unlink()
    said = call.mistake("audit", str(ranks), "--texts", str(tmp_path / "texts"), *home)
    assert said.count("own.tiktoken holds") == 1 and "own.tiktoken.json should name" in said


def test_sentencepiece(call, tiny, tmp_path):
    home = ["--home", str(tiny.home), "--quiet"]
    kind = ["--set", "tokenizer.kind=unigram", "--set", "tokenizer.vocab_size=300"]
    made = json.loads(call("tokenize", *home, "--json", *kind).out)
    assert made["tokens"]["metrics"]["encoder"] == "tokenizers"
    call("export", str(tmp_path / "own.model"), "--tokenizer", made["tokenizer"]["name"], *home)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "own.model"))
    assert processor.decode(processor.encode("term1 term2 ✓")) == "term1 term2 ✓"


def test_mistakes(call, tiny, tmp_path):
    home = ["--home", str(tiny.home), "--quiet"]
    made = json.loads(call("tokenize", *home, "--json", "--set", "tokenizer.vocab_size=300").out)["tokenizer"]
    own = ["--tokenizer", made["name"]]
    assert "splits text by a pattern" in call.mistake("export", str(tmp_path / "x.model"), *own, *home)
    assert not (tmp_path / "x.model").exists()
    assert "alone" in call.mistake("export", str(tmp_path / "x"), *own, "--gguf", *home)
    assert "already exists" in call.mistake("export", str(tmp_path), *own, *home)
    assert "tokenizer-00" in call.mistake("export", str(tmp_path / "x"), "--tokenizer", "tokenizer-000000000000", *home)
