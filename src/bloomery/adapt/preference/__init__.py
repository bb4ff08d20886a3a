"""Preference optimisation: DPO, IPO, KTO, ORPO."""

from bloomery.adapt.preference.config import PreferenceConfig
from bloomery.adapt.preference.prefer import prefer
from bloomery.adapt.preference.preferences import Judged, Preference, read_judged, read_preferences

__all__ = ["Judged", "Preference", "PreferenceConfig", "prefer", "read_judged", "read_preferences"]
