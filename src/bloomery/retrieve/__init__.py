"""Retrieve: documents cut into chunks, indexed by words and by meaning, found again, cited."""
