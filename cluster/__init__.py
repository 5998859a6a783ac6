"""The composition root: the ``strata`` command, tracking, display. The only package that imports all others."""
