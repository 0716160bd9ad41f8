"""Which units go together, what they cost, and how they are masked, merged and cut."""
