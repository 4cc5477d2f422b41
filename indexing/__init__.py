"""Galleries of photos as searchable indexes; never imports torch."""
