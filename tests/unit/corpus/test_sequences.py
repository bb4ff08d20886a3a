"""Sequences: the records that Biopython reads, with their offsets; what is broken has its offset and reason."""

from __future__ import annotations

import gzip
import random
import tarfile
from pathlib import Path
from typing import Any

import pytest
from Bio import SeqIO

from bloomery.corpus.config import CurateConfig
from bloomery.corpus.document import Document
from bloomery.corpus.problems import Problems
from bloomery.corpus.sequences import alphabet, read_sequences
from bloomery.corpus.span import Span, plan


@pytest.fixture(scope="module")
def bio(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bio")
    with tarfile.open(shared_data / "bio" / "bio.tar.xz") as tar:
        tar.extractall(folder, filter="data")
    return folder


def _read(path: Path, span: Span | None = None, **config: Any) -> tuple[list[Document], list[tuple[str, str]]]:
    drops: list[tuple[str, str]] = []
    problems = Problems(dropped=lambda reason, where, _: drops.append((reason, where)))
    return list(read_sequences(path, CurateConfig(**config), problems, span=span)), drops


@pytest.mark.parametrize(
    "name",
    [
        "lambda_virus.fa",
        "esm_few_proteins.fasta",
        "esm_P62593_betalactamase_variants.fasta",
        "biopython/ls_orchid.fasta",
        "biopython/multi_ex.fasta",
        "biopython/NC_000932.faa",
        "biopython/NC_001802.fna",
    ],
)
def test_fasta_is_as_biopython_reads_it(bio: Path, name: str):
    documents, drops = _read(bio / name)
    with (bio / name).open() as stream:
        records = list(SeqIO.parse(stream, "fasta"))
    assert [d.text for d in documents] == [str(record.seq) for record in records]
    assert [d.metadata["id"] for d in documents] == [record.id for record in records]
    assert drops == []
    data = (bio / name).read_bytes()
    assert all(data[d.metadata["offset"] :].startswith(b">" + d.metadata["id"].encode()) for d in documents)


def _fastq(path: Path, count: int) -> None:
    rng = random.Random(3)
    lines = []
    for n in range(count):
        size = rng.randrange(1, 90)
        quality = "".join(chr(rng.randrange(33, 127)) for _ in range(size))
        lines.append(f"@read{n} some words\n{''.join(rng.choices('ACGTN', k=size))}\n+\n{quality}\n")
    path.write_text("".join(lines))


def test_fastq_is_as_biopython_reads_it(tmp_path: Path):
    path = tmp_path / "a.fastq"
    _fastq(path, 400)
    (tmp_path / "b.fq.gz").write_bytes(gzip.compress(path.read_bytes()))
    with path.open() as stream:
        records = list(SeqIO.parse(stream, "fastq"))
    for file in (path, tmp_path / "b.fq.gz"):
        documents, drops = _read(file)
        assert drops == []
        assert [d.text for d in documents] == [str(record.seq) for record in records]
        scores = [record.letter_annotations["phred_quality"] for record in records]
        assert [[ord(c) - 33 for c in d.metadata["quality"]] for d in documents] == scores
        assert documents[0].metadata["mean_quality"] == pytest.approx(sum(scores[0]) / len(scores[0]), abs=1e-3)
        assert documents[0].metadata["description"] == "some words"


@pytest.mark.parametrize("name", ["biopython/NC_000932.gb", "biopython/NC_005816.gb"])
def test_genbank_is_as_biopython_reads_it(bio: Path, name: str):
    documents, drops = _read(bio / name)
    with (bio / name).open() as stream:
        record = SeqIO.read(stream, "genbank")
    assert drops == [] and len(documents) == 1
    known = documents[0].metadata
    assert documents[0].text.upper() == str(record.seq).upper()
    assert (known["id"], known["name"], known["description"]) == (record.id, record.name, record.description)
    for key in ("organism", "taxonomy", "date", "topology", "molecule_type", "accessions"):
        assert known[key] == record.annotations[key], key
    assert known["division"] == record.annotations["data_file_division"]
    assert [feature["type"] for feature in known["features"]] == [feature.type for feature in record.features]
    for ours, theirs in zip(known["features"], record.features, strict=True):
        assert ours["qualifiers"].keys() == theirs.qualifiers.keys()
        for key in ("gene", "product", "translation", "db_xref", "note", "locus_tag"):
            assert ours["qualifiers"].get(key) == theirs.qualifiers.get(key), key


def test_broken_records_are_refused_with_their_offset(tmp_path: Path):
    path = tmp_path / "a.fastq"
    path.write_bytes(b"@a\nACGT\n+\nIIII\n@b\nACGT\n+\nIIIIII\n@c\nAC\nGT\n+\nII\nII\n@d\nACGT\n@e\nAC\n+\nII\n")
    documents, drops = _read(path)
    assert [d.metadata["id"] for d in documents] == ["a", "c", "e"]
    assert drops == [("broken_record", f"{path}, offset 15"), ("broken_record", f"{path}, offset 49")]
    path = tmp_path / "a.fasta"
    path.write_bytes(b"junk\n>a\nACGT\n>b\n\n>c\nAC<>GT\n>d\nAC GT\n>e x\n" + b"A" * 3000 + b"\n>f\nTT")
    documents, drops = _read(path, max_document_bytes=2048)
    assert [(d.metadata["id"], d.text) for d in documents] == [("a", "ACGT"), ("d", "ACGT"), ("f", "TT")]
    reasons = ["not_a_record", "empty_record", "not_a_sequence", "sequence_too_long"]
    assert [reason for reason, _ in drops] == reasons
    path = tmp_path / "a.gb"
    path.write_bytes(
        b"GBXXX.SEQ header\n\nLOCUS   x 4 bp DNA\nORIGIN\n 1 acgt\nLOCUS   y 4 bp DNA\nORIGIN\n 1 acgt\n//\n"
    )
    documents, drops = _read(path)
    assert [d.metadata["name"] for d in documents] == ["y"]
    assert [reason for reason, _ in drops] == ["not_a_record", "broken_record"]


@pytest.mark.parametrize("kind", ["fastq", "fasta"])
def test_spans_joined_are_the_file(tmp_path: Path, bio: Path, kind: str):
    path = tmp_path / f"a.{kind}"
    if kind == "fastq":
        _fastq(path, 400)
    else:
        path.write_bytes((bio / "biopython/ls_orchid.fasta").read_bytes())
    whole, _ = _read(path)
    for step in (500, 1999, 20_000):
        parts, end = [], 0
        for span in plan(path.stat().st_size, step):
            if end is None or (span.stop is not None and end >= span.stop):
                continue
            found, _ = _read(path, span)
            if span.begin != end:
                found, _ = _read(path, span := Span(end, span.stop))
            parts += found
            end = span.end
        assert parts == whole


@pytest.mark.parametrize(
    ("text", "kind"), [("acgtnn", "dna"), ("ACGU", "rna"), ("MKVLAAGE", "protein"), ("", "protein")]
)
def test_the_alphabet_goes_by_the_letters(text: str, kind: str):
    assert alphabet(text) == kind
