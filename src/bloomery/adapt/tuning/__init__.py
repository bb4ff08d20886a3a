"""Tuning: a model trained on for a task, whole or by low-rank adapters in PEFT's format."""
