"""What the author of a method sees: its interface, its messages, what it can request, what agents may decide."""
