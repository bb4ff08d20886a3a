"""How documents are cut into chunks that know their place."""
