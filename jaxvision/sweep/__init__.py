"""Running the trials of an ablation: each in a process of its own, in turn or by Ray."""
