"""The page of a card: its head as Hugging Face's own library reads it, and strangers' words that stay words."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from huggingface_hub import DatasetCard

from bloomery.core.quantity import Quantity
from bloomery.corpus.card_page import card_page, front_matter, hub_license

COUNT = {"documents": 3, "text_bytes": 300}
CARD: dict[str, Any] = {
    "format": 1,
    "name": "corpus-0123456789ab",
    "id": "0123",
    "created": "2026-11-26T05:00:00+00:00",
    "made_by": {"bloomery": "0.1.0", "python": "3.11", "git": "none"},
    "seconds": 12.5,
    "failed_attempts": 0,
    "energy_joules": Quantity.exact(5.0, "counter").to_dict(),
    "size_category": "n<1K",
    "splits": {
        "train": {"documents": 3, "text_bytes": 300, "characters": 290},
        "validation": {"documents": 0, "text_bytes": 0, "characters": 0},
    },
    "documents": 3,
    "distinct_documents": 2,
    "looked_at": 5,
    "dropped": {"duplicate": 2},
    "duplicates": 2,
    "problems": {"broken_json": 1},
    "sources": {"a|b <script>alert(1)</script>": COUNT},
    "sites": {"different": 1, "documents": {"site.net": 3}},
    "languages": {"no": COUNT, "de": COUNT},
    "languages_are": "metadata",
    "programming_languages": {"Python": COUNT},
    "licenses": {"MIT": COUNT, "Apache-2.0": COUNT},
    "personal": {"asked": {"email": {"action": "mask", "found": 7}}, "documents_changed": 2},
    "mix": {},
    "rules": {
        "profile": "gopher",
        "rules": [{"rule": "r", "keeps": ">= 50", "is": "a source", "documents_dropped": 4}],
    },
    "report": {},
    "examples": [{"id": "77", "source": "web/a", "text": "```\n---\n# not a heading\n````"}],
    "config": {"sources": ["web"], "note": "```"},
}


def test_the_head_is_what_the_hubs_library_reads():
    page = card_page(CARD, title="Of ore: a corpus")
    data = DatasetCard(page).data.to_dict()
    assert data["language"] == ["no", "de", "code"]  # Norwegian, not false
    assert data["license"] == ["mit", "apache-2.0"] and data["size_categories"] == ["n<1K"]
    assert data["pretty_name"] == "Of ore: a corpus" and data["task_categories"] == ["text-generation"]
    files = [{"split": "train", "path": "train-*.jsonl.zst"}]
    assert data["configs"] == [{"config_name": "default", "data_files": files}]
    head = page.split("---\n")[1]
    assert yaml.safe_load(head) == front_matter(CARD, title="Of ore: a corpus")
    assert DatasetCard(card_page(CARD, license_="cc-by-4.0")).data.to_dict()["license"] == "cc-by-4.0"


def test_traces_that_an_identifier_found_are_no_language_of_the_whole():
    languages = {"de": {"documents": 990, "text_bytes": 9950}, "la": {"documents": 2, "text_bytes": 50}}
    said = {"languages": languages, "languages_are": "identified by py3langid", "programming_languages": {}}
    assert front_matter({**CARD, **said})["language"] == ["de"]
    assert front_matter({**CARD, **said, "languages_are": "metadata"})["language"] == ["de", "la"]
    mixed = front_matter({**CARD, "licenses": {"MIT": COUNT, "unknown": COUNT}})
    assert (mixed["license"], mixed["license_name"]) == ("other", "mixed")


def test_every_part_is_there_and_strangers_words_are_no_markup():
    page = card_page(CARD)
    for heading in (
        "Languages",
        "Sources and licenses",
        "What was taken out",
        "Personal data",
        "Examples",
        "How it was",
    ):
        assert f"\n## {heading}" in page
    assert "<script>" not in page and r"a\|b \<script\>" in page
    assert "| duplicate | 2 | 40.00% |" in page and "| email | mask | 7 |" in page and "| r | \\>= 50 | 4 |" in page
    assert "\n`````text\n```\n---\n# not a heading\n````\n`````\n" in page  # a fence longer than any in the text
    assert page.count("```json") == 1 and "12.5 s, 5 J" in page and "2 of them are different" in page
    assert "## Mix" not in page


def test_a_mix_says_asked_and_got():
    row = {"asked": 0.25, "there": 0.1, "got": 0.24, "epochs": 2.4, "documents": 9, "bytes": 99}
    mix = {"unit": "bytes", "unit_is": "UTF-8 bytes of text", "shuffled": True, "seed": 3, "documents": 9}
    mix |= {"distinct_documents": 5, "left_out_documents": 1, "notes": ["held"], "sources": {"books": row}}
    page = card_page({**CARD, "mix": mix})
    assert "| books | 10.00% | 25.00% | 24.00% | 2.40 |" in page and "UTF-8 bytes of text; seed 3" in page


@pytest.mark.parametrize(
    ("licenses", "said"),
    [
        ([], "unknown"),
        (["unknown"], "unknown"),
        (["MIT"], "mit"),
        (["GPL-3.0-only"], "gpl-3.0"),
        (["GPL-3.0-only", "GPL-3.0-or-later"], "gpl-3.0"),
        (["MIT", "unknown"], "other"),
        (["MIT OR Apache-2.0"], "other"),
    ],
)
def test_licenses_have_the_hubs_names(licenses: list[str], said: str):
    assert hub_license(licenses) == said
