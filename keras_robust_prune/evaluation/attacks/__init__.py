"""Attacks by name: `"pgd@0.05"` is PGD within an l-inf ball of radius 0.05.

An attack looks for the point of a ball at which a network is most wrong. Those that follow gradients do so on the
logits. All are seeded, run in batches and stay within the input range; every answer is judged afterwards by the
network's own outputs. One file holds one attack; `registry.py` holds their names.
"""

from __future__ import annotations

from keras_robust_prune.evaluation.attacks.apgd import APGD, APGD_DLR, APGD_TARGETED
from keras_robust_prune.evaluation.attacks.attack import Attack as Attack
from keras_robust_prune.evaluation.attacks.ensemble import ENSEMBLE
from keras_robust_prune.evaluation.attacks.fgsm import FGSM
from keras_robust_prune.evaluation.attacks.noise import NOISE
from keras_robust_prune.evaluation.attacks.pgd import PGD
from keras_robust_prune.evaluation.attacks.registry import ATTACKS as ATTACKS
from keras_robust_prune.evaluation.attacks.registry import register_attack as register_attack
from keras_robust_prune.evaluation.attacks.registry import ship
from keras_robust_prune.evaluation.attacks.square import SQUARE

ship(FGSM, PGD, APGD, APGD_DLR, APGD_TARGETED, SQUARE, NOISE, ENSEMBLE)
