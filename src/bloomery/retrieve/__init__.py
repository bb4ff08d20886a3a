"""Retrieve: documents cut into chunks, indexed by words and by meaning, found again, cited.

bl.index("docs/", into="docs")
with bl.open_index("docs") as found:
    found.search("how is a corpus made?", k=5)
"""

from bloomery.retrieve.building import IndexReport, index
from bloomery.retrieve.chunk import Chunk, Filters, Hit, Retriever
from bloomery.retrieve.cutting.config import CutConfig
from bloomery.retrieve.opening import open_index, open_retriever
from bloomery.retrieve.store.config import IndexConfig, SearchConfig
from bloomery.retrieve.store.index import Index

__all__ = [
    "Chunk",
    "CutConfig",
    "Filters",
    "Hit",
    "Index",
    "IndexConfig",
    "IndexReport",
    "Retriever",
    "SearchConfig",
    "index",
    "open_index",
    "open_retriever",
]
