"""`python -m keras_robust_prune.cli`."""

from keras_robust_prune.cli import main

if __name__ == "__main__":
    main()
