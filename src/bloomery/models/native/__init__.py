"""A step of a whole decoder, for decoding or a prompt, in one native call: plain C++, used where it was built."""
