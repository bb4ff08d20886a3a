"""GenBank records: what Biopython's samples do not hold; the samples themselves are in test_sequences."""

from __future__ import annotations

from bloomery.corpus.genbank import genbank_record

RECORD = """
LOCUS       AB000001                 12 bp    DNA     linear   BCT 01-JAN-2000
DEFINITION  A sequence of
            two lines.
ACCESSION   AB000001 AB000002
VERSION     AB000001.1
KEYWORDS    one; two.
SOURCE      Some bacterium
  ORGANISM  Some bacterium
            Bacteria; Somewhere;
            Something.
REFERENCE   1  (bases 1 to 12)
  AUTHORS   A. Body
FEATURES             Location/Qualifiers
     CDS             join(1..3,
                     7..12)
                     /note="a ""quoted"" word and
                     /a slash that begins no qualifier"
                     /pseudo
                     /db_xref="x:1"
                     /db_xref="x:2"
ORIGIN
        1 acgtac gtacgt
"""


def test_lines_go_on_and_quotes_close():
    sequence, known = genbank_record(RECORD.strip().splitlines())
    assert sequence == "acgtacgtacgt"
    assert known["description"] == "A sequence of two lines"
    assert known["accessions"] == ["AB000001", "AB000002"]
    assert known["keywords"] == ["one", "two"]
    assert known["taxonomy"] == ["Bacteria", "Somewhere", "Something"]
    assert known["features"] == [
        {
            "type": "CDS",
            "location": "join(1..3,7..12)",
            "qualifiers": {
                "note": ['a "quoted" word and /a slash that begins no qualifier'],
                "pseudo": [""],
                "db_xref": ["x:1", "x:2"],
            },
        }
    ]


def test_a_record_that_says_nothing_is_empty():
    assert genbank_record(["LOCUS"]) == ("", {})
