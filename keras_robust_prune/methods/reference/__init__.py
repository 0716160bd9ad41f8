"""Methods that ours is compared with, whole: the paper's, its greedy form and its baseline."""
