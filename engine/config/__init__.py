"""The configuration of a run: its schema, and how files and overrides become one checked object."""
