"""What consumers of removed units become: least squares and distillation."""
