"""What is kept between rounds, and how it is written to disk."""
