"""Calls that children are on beside each other: on one link, or where their server does not wait for all of them."""
