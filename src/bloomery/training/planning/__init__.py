"""Planning: a corpus, a machine and one budget in; sizes, steps, costs and the expected loss out, unspent."""
