"""Which change to make: schedules and strategies, one step at a time."""
