"""What an arm is given."""

from __future__ import annotations

from dataclasses import replace

from bloomery.adapt.comparison.compare import opened_settings
from bloomery.evaluate.sample import Sample


def test_labels_are_the_choices_or_what_recurs(made):
    with opened_settings(made.task.config, made.workspace) as (_, settings, _):
        setting = settings[""]
    assert setting.labels == ("yes", "no")
    free = replace(setting, config=replace(setting.config, choices=()))
    bare = [replace(one, choices=()) for one in setting.train]
    assert replace(free, train=bare).labels == ("no", "yes")
    own = [Sample(id=str(n), input="?", targets=(str(n),)) for n in range(30)]
    assert replace(free, train=own).labels == ()
