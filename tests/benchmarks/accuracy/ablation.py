"""What each ingredient of `robust` is worth: switched off one at a time, beside the references.

    python -m tests.benchmarks ablation --shared=../shared --cases=mnist_mlp:units:.5

One line per variant: accuracy (2,000 images) and PGD-20 accuracy (300) of the cut network, on *training* data:
what is decided by this table rests on no test image. The row of tfmot removes single weights, as many as the target
says, and leaves the network as large as it was.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator

from absl import flags

from keras_robust_prune import backends
from keras_robust_prune.keras_io.reading import build, read
from keras_robust_prune.methods.budgets import Uniform
from keras_robust_prune.methods.by_cost import ByCost
from keras_robust_prune.methods.problem import Method, Problem, PruningState
from keras_robust_prune.methods.registry import method_for
from keras_robust_prune.methods.repair.distillation import Distillation
from keras_robust_prune.methods.repair.least_squares import LeastSquares
from keras_robust_prune.methods.robust import Robust
from keras_robust_prune.methods.selectors import AtRandom, LeastNorm
from keras_robust_prune.surgery.cutting import cut
from keras_robust_prune.surgery.plan import Plan
from keras_robust_prune.synthesis.kinds import Synthesis
from tests.benchmarks import zoo
from tests.benchmarks.benchmark import Benchmark

DEFAULT = ["mnist_mlp:units:.5", "mnist_mlp:units:.75"]
DEFAULT += ["mnist_robust_cnn:units:.75", "mnist_robust_cnn:macs:.75"]
CASES = flags.DEFINE_list("cases", DEFAULT, "network:measure:target of every case.")
VARIANTS = flags.DEFINE_list("variants", [], "Which variants; all if empty.")
SEEDS = flags.DEFINE_list("seeds", ["0"], "Which seeds.")


@dataclasses.dataclass(frozen=True)
class TfmotMasks:
    """tfmot's magnitude masks on every kernel, without the training they are made for."""

    name: str = "tfmot magnitude masks"

    def steps(self, problem: Problem) -> Iterator[PruningState]:
        """One state with an empty plan."""
        sparsity = backends.tfmot().sparsity.keras
        schedule = sparsity.ConstantSparsity(problem.target, begin_step=0, frequency=1)
        model = sparsity.prune_low_magnitude(build(problem.graph), schedule)
        masked = {}
        for layer in model.layers:
            if hasattr(layer, "pruning_obj"):
                layer.pruning_step.assign(0)
                layer.pruning_obj.conditional_mask_update()
                for weight, mask_of, _ in layer.pruning_vars:
                    name = weight.name.split("/")[-1].split(":")[0]
                    masked[layer.layer.name, name] = (weight * mask_of).numpy()
        plan = Plan.empty(problem.groups)
        yield PruningState(1, problem.graph.with_weights(masked), plan)


def variants() -> dict[str, tuple[Method, dict[str, object]]]:
    """Compositions and changes of the problem, by what is different."""
    solved, trained = LeastSquares(), Distillation()
    return {
        "robust": (Robust(), {}),
        "no distillation": (Robust(repair=(solved,)), {}),
        "no least squares": (Robust(repair=(trained,)), {}),
        "no repair": (Robust(repair=()), {}),
        "no perturbed inputs": (Robust(repair=(solved, Distillation(perturb=False))), {}),
        "noise instead of inversion": (Robust(synthesis=Synthesis(invert=False)), {}),
        "uniform budgets": (Robust(budget=Uniform()), {}),
        "budgets without BatchNorm's memory": (Robust(budget=ByCost(activity=False)), {}),
        "budgets by local costs": (Robust(budget=ByCost(at_outputs=False)), {}),
        "random choice with repair": (Robust(selector=AtRandom()), {}),
        "norm choice with repair": (Robust(selector=LeastNorm()), {}),
        "four steps": (Robust(), {"step": "quarter"}),
        "weights alone (T0)": (Robust(), {"calibration": "weights"}),
        "norm": (method_for("norm"), {}),
        "random": (method_for("random"), {}),
        "paper": (method_for("paper"), {}),
        "tfmot magnitude masks": (TfmotMasks(), {}),
    }


def cases() -> Iterator[dict[str, str]]:
    """Every variant of every case; budgets by units are uniform as they are."""
    for seed in SEEDS.value:
        for case in CASES.value:
            network, measure, target = case.split(":")
            for variant in VARIANTS.value or variants():
                if "budgets" not in variant or measure != "units":
                    yield {
                        "network": network,
                        "measure": measure,
                        "target": target,
                        "variant": variant.strip(),
                        "seed": seed,
                    }


def measure_variant(
    network: str, measure: str, target: str, variant: str, seed: str
) -> Iterator[dict[str, float]]:
    """Accuracy, PGD accuracy and seconds of one variant."""
    x, y = zoo.load_data(network, 2000, "train")
    graph = read(zoo.file_of(network))
    method, changes = variants()[variant]
    if changes.get("step") == "quarter":
        changes = {"step": float(target) / 4}
    problem = zoo.problem(network, graph, measure, target, seed, **changes)
    began = time.monotonic()
    *_, state = method.steps(problem)
    seconds = time.monotonic() - began
    small = cut(state.graph, problem.groups, state.plan)
    accuracy, pgd = zoo.measured(small, network, x, y, attacked=300)
    yield {"accuracy": accuracy, "PGD-20": pgd, "seconds": seconds}


BENCHMARK = Benchmark(
    cases=cases,
    measure=measure_variant,
    quick={"cases": ["credit_mlp:units:.5"], "variants": ["norm", "random"]},
    chart=("accuracy", "PGD-20"),
)


if __name__ == "__main__":
    BENCHMARK.run(__spec__.name)
