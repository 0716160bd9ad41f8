"""What every test shares: a quiet TensorFlow on the CPU, and no window for plots."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("MPLBACKEND", "agg")

# Programs with flags of their own, which measure and are no tests.
collect_ignore = ["benchmarks"]
