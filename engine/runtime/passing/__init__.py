"""How messages pass between processes: packed, and through memory that both of them see where they share a machine."""
