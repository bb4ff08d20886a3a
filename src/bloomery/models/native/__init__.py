"""A step of a whole decoder, of tokens that are decoded or of a prompt's, in one native call: C++ without dependencies,
used where it was built."""
