"""Plain C++, used where it was built: a step of a whole decoder in one call, attention of a training step."""
