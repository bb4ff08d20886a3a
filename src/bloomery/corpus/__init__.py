"""Documents in, a corpus out: read, deduplicated, split and decontaminated, with the reason for every drop."""

from bloomery.corpus.config import CurateConfig
from bloomery.corpus.curate import curate, curate_inputs
from bloomery.corpus.document import Document
from bloomery.corpus.shards import read_documents

__all__ = ["CurateConfig", "Document", "curate", "curate_inputs", "read_documents"]
