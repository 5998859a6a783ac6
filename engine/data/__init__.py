"""Data sets, how they are split over clients, and how clients form teams."""
