"""The nouns that hold the house together: Artifact, Run, Ledger, Recipe, and the errors."""
