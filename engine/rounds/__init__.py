"""The rules of a round, free of Ray: cohorts, tiers, costs, records."""
