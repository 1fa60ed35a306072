"""Training: from a run to a run folder."""
