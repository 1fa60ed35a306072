"""Figures drawn from plain arrays and records; nothing here knows a run folder or a model."""
