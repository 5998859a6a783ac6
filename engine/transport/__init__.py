"""What crosses the network between clients and servers: stages of compression and privacy, robust means, attacks."""
