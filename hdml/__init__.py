"""Hardness-aware deep metric learning: the learning half of the product, and the only package that imports torch."""

__version__ = "0.1.0"
