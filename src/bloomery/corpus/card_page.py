"""Card page: a card as Markdown with the YAML that Hugging Face's hub reads at its head ("Dataset cards").

Beside the corpus's shards as README.md it makes the folder a dataset that `datasets.load_dataset` and `hf:FOLDER` read.
This module does not know artifacts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bloomery.core.quantity import Quantity

_PLAIN = re.compile(r"[A-Za-z][\w./*<-]*")
# YAML 1.1 reads these as truth values or nothing: Norwegian's code is the best known of them.
_TRAPS = frozenset({"no", "yes", "on", "off", "y", "n", "true", "false", "null"})
# The identifiers of licenses that the hub knows (its documentation, "Licenses"), of those that we find.
_LICENSES = """
    afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd-2-clause bsd-3-clause bsl-1.0 cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0
    cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
    cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 gfdl gpl-2.0 gpl-3.0 isc lgpl-2.1 lgpl-3.0
    lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 osl-3.0 pddl postgresql unlicense wtfpl zlib
"""
_HUB_LICENSES = frozenset(_LICENSES.split())
_TRACE = 0.01
_ONLY = re.compile(r"-(?:only|or-later)$")


def front_matter(card: Mapping[str, Any], *, license_: str = "", title: str = "") -> dict[str, Any]:
    """What the YAML says."""
    all_bytes = sum(row["text_bytes"] for row in card["languages"].values())
    # An identifier errs on a few documents: what is said of the whole is what is more than a trace.
    least = 0 if card["languages_are"] == "metadata" else _TRACE * all_bytes
    languages = [k for k, row in card["languages"].items() if row["text_bytes"] >= least and not k.startswith("(")]
    found: dict[str, Any] = {
        "pretty_name": title or card["name"],
        "license": license_ or hub_license(card["licenses"]),
        "license_name": "mixed" if not license_ and hub_license(card["licenses"]) == "other" else "",
        "language": languages + (["code"] if card["programming_languages"] else []),
        "size_categories": [card["size_category"]],
        "task_categories": ["text-generation"],
        "tags": ["bloomery"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": split, "path": f"{split}-*.jsonl.zst"}
                    for split, row in card["splits"].items()
                    if row["documents"]
                ],
            }
        ],
    }
    return {key: value for key, value in found.items() if value}


def hub_license(licenses: Iterable[str]) -> str | list[str]:
    """The hub's identifiers of SPDX ones: one, or a list; "other" where the hub has no name, "unknown" for none."""
    named = list(licenses)
    if not named or set(named) == {"unknown"}:
        return "unknown"
    found = list(dict.fromkeys(_ONLY.sub("", name.lower()) for name in named))
    if any(name not in _HUB_LICENSES for name in found):
        return "other"
    return found[0] if len(found) == 1 else found


def card_page(card: Mapping[str, Any], *, license_: str = "", title: str = "") -> str:
    """The Markdown of a card; `license_` and `title` are the publisher's own words."""
    parts = [
        "---",
        *_yaml(front_matter(card, license_=license_, title=title)),
        "---",
        "",
        f"# {_inline(title or card['name'])}",
        "",
        *_summary(card),
        *_sources(card),
        *_taken_out(card),
        *_mix(card),
        *_personal(card),
        *_examples(card),
        *_made(card),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _summary(card: Mapping[str, Any]) -> list[str]:
    rows = [
        (split, f"{row['documents']:,}", f"{row['text_bytes']:,}", f"{row['characters']:,}", f"`{split}-*.jsonl.zst`")
        for split, row in card["splits"].items()
        if row["documents"]
    ]
    lines = [
        f"{card['documents']:,} documents for language models, one JSON object a line with `id` (of the text's"
        " SHA-256), `text`, `source` and `metadata`.",
        "",
        *_table(("split", "documents", "text, UTF-8 bytes", "characters", "files"), rows),
    ]
    if card["distinct_documents"] != card["documents"]:
        lines += [f"{card['distinct_documents']:,} of them are different: some stand more than once (see Mix).", ""]
    lines += ["## Languages", "", f"By documents' {card['languages_are']}.", ""] if card["languages"] else []
    lines += _counts("language", card["languages"]) if card["languages"] else []
    if card["programming_languages"]:
        lines += ["Programming languages:", "", *_counts("language", card["programming_languages"])]
    return lines


def _sources(card: Mapping[str, Any]) -> list[str]:
    lines = ["## Sources and licenses", "", *_counts("source", card["sources"])]
    sites = card["sites"]
    if sites["different"]:
        rows = [(site, f"{count:,}") for site, count in sites["documents"].items()]
        lines += [f"Sites, {sites['different']:,} in all:", "", *_table(("site", "documents"), rows)]
    lines += _counts("license", card["licenses"])
    if "unknown" in card["licenses"]:
        lines += ["Where the license is unknown, the source names none: that is no permission.", ""]
    return lines


def _taken_out(card: Mapping[str, Any]) -> list[str]:
    dropped = card["dropped"]
    lines = ["## What was taken out", "", f"{card['looked_at']:,} records were looked at.", ""]
    if dropped:
        share = max(1, card["looked_at"])
        rows = [(reason, f"{count:,}", f"{count / share:.2%}") for reason, count in dropped.items()]
        lines += _table(("reason", "documents", "share"), rows)
        lines += [
            f"Duplicates: {card['duplicates']:,}. Each is in `dropped.jsonl.zst` of the corpus with its reason.",
            "",
        ]
    rules = card["rules"].get("rules", [])
    if rules:
        rows = [(one["rule"], one["keeps"], f"{_count(one):,}", one["is"]) for one in rules]
        lines += [f"Rules ({card['rules'].get('profile') or 'no profile'}):", ""]
        lines += _table(("rule", "keeps", "took", "source"), rows)
    if card["problems"]:
        rows = [(reason, f"{count:,}") for reason, count in card["problems"].items()]
        lines += ["Problems in the sources:", "", *_table(("problem", "times"), rows)]
    return lines


def _count(rule: Mapping[str, Any]) -> int:
    return rule.get("documents_dropped", rule.get("lines_taken", 0))


def _mix(card: Mapping[str, Any]) -> list[str]:
    mix = card["mix"]
    if not mix:
        return []
    order = "in random order" if mix["shuffled"] else "in the order in which they were read"
    lines = [
        "## Mix",
        "",
        f"Training documents stand {order}, {mix['documents']:,} of them, {mix['distinct_documents']:,} different;"
        f" {mix['left_out_documents']:,} were left out. Shares are of {mix['unit_is']}; seed {mix['seed']}.",
        "",
    ]
    for kind in ("sources", "languages", "domains"):
        if kind in mix:
            rows = [
                (name, f"{row['there']:.2%}", f"{row['asked']:.2%}", f"{row['got']:.2%}", f"{row['epochs']:.2f}")
                for name, row in mix[kind].items()
            ]
            names = (kind.removesuffix("s"), "there was", "asked for", "got", "epochs")
            lines += _table(names, rows)
    return [*lines, *(line for note in mix.get("notes", ()) for line in (f"{_inline(note)}.", ""))]


def _personal(card: Mapping[str, Any]) -> list[str]:
    asked = card["personal"]["asked"]
    lines = ["## Personal data", ""]
    if not asked:
        return [*lines, "Nothing was done about personal data in the documents.", ""]
    rows = [(kind, row["action"], f"{row['found']:,}") for kind, row in asked.items()]
    said = "Found by pattern and check digits, which misses some; what is not listed was kept."
    return [*lines, *_table(("kind", "what was done", "found"), rows), said, ""]


def _examples(card: Mapping[str, Any]) -> list[str]:
    if not card["examples"]:
        return []
    lines = ["## Examples", ""]
    said = "Chosen by a hash of their text, cut; addresses, numbers and keys of persons are masked whatever the corpus"
    lines += [f"{said} keeps. Names of people are not found by pattern.", ""]
    for one in card["examples"]:
        longest = max((len(run) for run in re.findall(r"`+", one["text"])), default=0)
        fence = "`" * max(3, longest + 1)
        lines += [f"{_inline(one['source'])} (`{one['id']}`):", "", f"{fence}text", one["text"], fence, ""]
    return lines


def _made(card: Mapping[str, Any]) -> list[str]:
    made, energy = card["made_by"], Quantity.from_dict(card["energy_joules"])
    seconds = "unknown" if card["seconds"] is None else f"{card['seconds']:,.1f} s"
    config = json.dumps(card["config"], indent=1, ensure_ascii=False, sort_keys=True)
    return [
        "## How it was made",
        "",
        f"With bloomery {made['bloomery']} (git {made['git']}, Python {made['python']}), {card['created']}: {seconds},"
        f" {energy.text('J')}, {card['failed_attempts']} failed attempts included. Corpus `{card['id']}`.",
        "",
        "```json",
        config.replace("```", "\\u0060\\u0060\\u0060"),
        "```",
        "",
    ]


def _counts(name: str, counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    total = max(1, sum(row["text_bytes"] for row in counts.values()))
    rows = [
        (one, f"{row['documents']:,}", f"{row['text_bytes']:,}", f"{row['text_bytes'] / total:.2%}")
        for one, row in counts.items()
    ]
    return _table((name, "documents", "UTF-8 bytes", "share"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return [*lines, *(f"| {' | '.join(_inline(cell) for cell in row)} |" for row in rows), ""]


def _inline(text: str) -> str:
    """A stranger's words within a line: nothing in them is Markdown or HTML."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    kept = re.fullmatch(r"`[^`]*`", text)
    return text if kept else re.sub(r"([\\`*_\[\]<>|#&])", r"\\\1", text)


def _yaml(value: Any, indent: str = "") -> list[str]:
    """Lists, tables and strings as YAML."""
    if isinstance(value, Mapping):
        lines = []
        for key, one in value.items():
            nested = isinstance(one, (list, Mapping))
            lines += [f"{indent}{key}:", *_yaml(one, indent)] if nested else [f"{indent}{key}: {_scalar(one)}"]
        return lines
    lines = []
    for one in value:
        if isinstance(one, Mapping):
            first, *rest = _yaml(one, indent + "  ")
            lines += [f"{indent}- {first.strip()}", *rest]
        else:
            lines.append(f"{indent}- {_scalar(one)}")
    return lines


def _scalar(value: Any) -> str:
    text = str(value)
    plain = _PLAIN.fullmatch(text) and text.lower() not in _TRAPS
    return text if plain else json.dumps(text, ensure_ascii=True)
