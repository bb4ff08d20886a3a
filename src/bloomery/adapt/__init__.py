"""Adapt: a model made fit for a task, by prompts, retrieval, fine-tuning or a classic model instead, and compared."""
