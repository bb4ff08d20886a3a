"""Evaluate: how good a model is, honestly: bits per byte on unseen text, beside what it has to beat."""

from bloomery.evaluate.bits_per_byte import BitsPerByte, bits_per_byte
from bloomery.evaluate.measure import MeasureConfig, measure, measure_inputs, read_scores

__all__ = ["BitsPerByte", "MeasureConfig", "bits_per_byte", "measure", "measure_inputs", "read_scores"]
