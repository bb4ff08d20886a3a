"""Several processes train one model: who they are, what each holds, and what happens when one of them ends."""
