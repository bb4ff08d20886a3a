"""bloomery: raw text in, a language model that you own out, every joule on the way written down."""

__version__ = "0.1.0"
