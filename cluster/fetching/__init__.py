"""Public data sets: where they are published, and fetching them into the folder that ``data=NAME`` reads."""
