"""Datasets: the stems layout, rendering and composing of material, and mixtures made on the fly."""
