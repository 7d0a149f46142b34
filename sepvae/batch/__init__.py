"""Batches: which files are meant, workers that separate them, and the report on what became of each."""
