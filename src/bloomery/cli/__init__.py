"""Command line: composes the floors below, and shows what they made."""
