"""What it took comes back from JSON, and what nobody said stays unknown."""

from __future__ import annotations

import json

from bloomery.adapt.making import Making
from bloomery.core.quantity import Quantity


def test_making_there_and_back():
    making = Making(labels=3, seconds=1.5, fits=2, labels_cost=Quantity.exact(2.0, "user"))
    assert Making.from_dict(json.loads(json.dumps(making.to_dict()))) == making
    assert not making.energy_joules.known
