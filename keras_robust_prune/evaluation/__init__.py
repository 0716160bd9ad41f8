"""What was kept: accuracy, robustness against attacks, agreement."""
