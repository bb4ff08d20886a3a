"""One embedded store: documents, chunks, postings, vectors; searched, changed, compacted, and whole after a kill."""
