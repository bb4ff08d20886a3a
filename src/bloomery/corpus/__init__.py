"""Documents in, a corpus out: read, deduplicated, split and decontaminated, with the reason for every drop."""

from bloomery.corpus.config import CurateConfig
from bloomery.corpus.curate import curate, curate_inputs
from bloomery.corpus.dedup_config import DedupConfig
from bloomery.corpus.document import Document
from bloomery.corpus.filter_config import FilterConfig
from bloomery.corpus.peek import Peek, peek
from bloomery.corpus.personal_config import PersonalConfig
from bloomery.corpus.picture_sources import PicturesConfig
from bloomery.corpus.pictures import PICTURES, Picture, curate_pictures, curate_pictures_inputs, read_pictures
from bloomery.corpus.shards import read_documents

__all__ = [
    "PICTURES",
    "CurateConfig",
    "DedupConfig",
    "Document",
    "FilterConfig",
    "Peek",
    "PersonalConfig",
    "Picture",
    "PicturesConfig",
    "curate",
    "curate_inputs",
    "curate_pictures",
    "curate_pictures_inputs",
    "peek",
    "read_documents",
    "read_pictures",
]
