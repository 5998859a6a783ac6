"""Where the tiers live: in this process, or in Ray actors on one machine or many."""
