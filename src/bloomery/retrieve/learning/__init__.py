"""Learning: an embedding model and a reranker of one's own, from questions whose passages are known."""

from bloomery.retrieve.learning.judgements import Judgements as Judgements
from bloomery.retrieve.learning.mining import MiningConfig as MiningConfig
from bloomery.retrieve.learning.mining import hard_negatives as hard_negatives
from bloomery.retrieve.learning.stage import EmbedderConfig as EmbedderConfig
from bloomery.retrieve.learning.stage import RerankerConfig as RerankerConfig
from bloomery.retrieve.learning.stage import train_embedder as train_embedder
from bloomery.retrieve.learning.stage import train_reranker as train_reranker
