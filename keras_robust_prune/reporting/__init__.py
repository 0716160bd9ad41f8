"""What users see: how far the work is, tables of text, and what was measured."""
