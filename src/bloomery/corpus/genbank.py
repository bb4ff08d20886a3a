"""GenBank: one flat-file record's lines in, its sequence and annotations out.

The layout is that of the GenBank release notes: keywords in columns 1 to 12, features with their key at column 6 and
location and qualifiers at column 22, sequence lines after ORIGIN. This module does not know files.
"""

from __future__ import annotations

import re
from typing import Any

from bloomery.corpus.document import readable

_FEATURE = re.compile(r" {5}(\S+) +(\S.*)")
_QUALIFIER = re.compile(r"/([^=\s]+)(?:=(.*))?$")
_DATE = re.compile(r"\d\d-[A-Z]{3}-\d{4}")
_MAX_VALUE = 100_000


def genbank_record(lines: list[str]) -> tuple[str, dict[str, Any]]:
    """(sequence, metadata) of a record's lines, its // left out.

    Metadata: id (its version, else accession, else locus), name, description, molecule_type, topology, division, date,
    accessions, keywords, organism, taxonomy, features (type, location, qualifiers). A sequence that the record only
    points to (CONTIG) is empty.
    """
    known = _locus(lines[0])
    section: str = ""
    fields: dict[str, list[str]] = {}
    features: list[str] = []
    sequence: list[str] = []
    for line in lines[1:]:
        if line[:1] not in (" ", ""):
            section = line.split()[0]
            if section not in ("FEATURES", "ORIGIN"):
                fields.setdefault(section, []).append(line[12:])
        elif section == "FEATURES":
            features.append(line)
        elif section == "ORIGIN":
            sequence.append(re.sub(r"[\d\s]", "", line))
        elif section == "SOURCE" and line.strip().startswith("ORGANISM"):
            section = "ORGANISM"
            fields[section] = [line[12:]]
        elif section in fields:
            fields[section].append(line[12:])
    known |= _annotations(fields)
    known["features"] = _features(features)
    return "".join(sequence), {key: value for key, value in known.items() if value}


def _locus(line: str) -> dict[str, Any]:
    parts = line.split()
    date = _DATE.search(line)
    known: dict[str, Any] = {"name": parts[1] if len(parts) > 1 else "", "date": date[0] if date else ""}
    if len(parts) > 4 and parts[3] in ("bp", "aa"):
        rest = [part for part in parts[4:] if part != known["date"]]
        known["topology"] = next((part for part in rest if part in ("linear", "circular")), "")
        rest = [part for part in rest if part not in ("linear", "circular")]
        known["molecule_type"] = rest[0] if len(rest) > 1 else ""
        known["division"] = rest[-1] if rest else ""
    return known


def _annotations(fields: dict[str, list[str]]) -> dict[str, Any]:
    def joined(name: str) -> str:
        return readable(" ".join(part.strip() for part in fields.get(name, []))).strip()[:_MAX_VALUE]

    accessions = joined("ACCESSION").split()
    version = joined("VERSION").split()
    organism = fields.get("ORGANISM", [])
    known: dict[str, Any] = {
        "id": (version or accessions or [""])[0],
        "accessions": accessions,
        "description": joined("DEFINITION").removesuffix("."),
        "keywords": [word for part in joined("KEYWORDS").rstrip(".").split(";") if (word := part.strip())],
        "organism": readable(organism[0]).strip() if organism else "",
        "source_organism": joined("SOURCE"),
    }
    lineage = " ".join(part.strip() for part in organism[1:]).rstrip(".")
    known["taxonomy"] = [name for part in readable(lineage).split(";") if (name := part.strip())]
    return known


def _features(lines: list[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    qualifier = ""
    for line in lines:
        start = _FEATURE.match(line)
        text = readable(line[21:].strip())
        if start is not None:
            found.append({"type": readable(start[1]), "location": readable(start[2]).strip(), "qualifiers": {}})
            qualifier = ""
        elif not found or not text:
            continue
        elif (begin := _QUALIFIER.match(text)) and not _open(found[-1]["qualifiers"], qualifier):
            qualifier = begin[1]
            found[-1]["qualifiers"].setdefault(qualifier, []).append(begin[2] or "")
        elif qualifier:
            values = found[-1]["qualifiers"][qualifier]
            glue = "" if qualifier == "translation" else " "
            values[-1] = (values[-1] + glue + text)[:_MAX_VALUE]
        else:
            found[-1]["location"] += text
    for feature in found:
        feature["qualifiers"] = {key: [_unquoted(v) for v in values] for key, values in feature["qualifiers"].items()}
    return found


def _open(qualifiers: dict[str, list[str]], name: str) -> bool:
    """The last value is quoted and its end has not come yet, so that a slash does not begin another."""
    values = qualifiers.get(name)
    return bool(values) and values[-1].startswith('"') and values[-1].count('"') % 2 == 1


def _unquoted(value: str) -> str:
    return value[1:-1].replace('""', '"') if len(value) > 1 and value[0] == value[-1] == '"' else value
