"""Lightning modules and the entry point that runs a recipe."""
