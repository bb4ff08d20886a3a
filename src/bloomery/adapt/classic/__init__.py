"""Classic models: what labels alone are worth, without a language model, as arms of the same comparison."""

from bloomery.adapt.classic.fitting import ClassicConfig, fit_classic
from bloomery.adapt.classic.model import ClassicModel, load_classic

__all__ = ["ClassicConfig", "ClassicModel", "fit_classic", "load_classic"]
