"""Oracles, baselines, gates and the report that gathers them."""
