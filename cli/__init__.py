"""The ``hdml`` command: a thin skin over hdml, indexing and app."""
