"""How long a network will take on a device, from a table of measured layers.

    import keras_robust_prune as krp

    krp.latency.probes(model, "probes", dtype="int8")   # small .tflite files, and run.sh for a phone
    table = krp.latency.measure("probes")               # times them here
    table.save("host.csv")
    krp.latency.predict(model, table)                   # milliseconds

Half of the multiplications is not half of the time: kernels compute tiles of 4 to 32 channels, and small layers are
bound by overhead. So layers are timed, not counted: every kernel of the network, at a grid of widths, as a file of its
own. Between two entries the table goes up to the next whole tile, for kernels are staircases, and in proportion; beyond
its entries it refuses. `krp.latency.tile(device, dtype)` says which widths waste nothing.
"""

from keras_robust_prune.latency.files import measure, probes, read_phone
from keras_robust_prune.latency.kernels import Kernel, kernels_of
from keras_robust_prune.latency.prediction import Latency, predict
from keras_robust_prune.latency.table import LatencyTable
from keras_robust_prune.latency.tiles import tile

__all__ = [
    "Kernel",
    "Latency",
    "LatencyTable",
    "kernels_of",
    "measure",
    "predict",
    "probes",
    "read_phone",
    "tile",
]
