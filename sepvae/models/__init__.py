"""Source VAEs, the separation models built on them, and their losses."""
