"""What a shell completes after ``strata``."""
