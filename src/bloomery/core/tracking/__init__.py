"""Tracking: a run's events to TensorBoard, Weights & Biases or MLflow, for whoever looks at curves there."""

from bloomery.core.tracking.config import TrackConfig
from bloomery.core.tracking.tracker import Tracker, open_trackers

__all__ = ["TrackConfig", "Tracker", "open_trackers"]
