"""Which units to remove, and how what is left is repaired."""
