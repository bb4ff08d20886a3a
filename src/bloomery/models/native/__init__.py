"""A decode step of a whole decoder in one native call: C++ without dependencies, used where it was built."""
