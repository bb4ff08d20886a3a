"""Vectors of texts: by our own encoders, or by an endpoint; kept, so that no text is embedded twice."""
