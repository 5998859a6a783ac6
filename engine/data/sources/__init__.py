"""Where data sets come from: files, the hub, what ships with Strata."""
