"""Which TensorFlow Lite runtime first ran an operator, by version of the operator.

A file's own field `min_runtime_version` comes from the same history, but skips what it does not know, and no version
marks int8 kernels of Dense layers that have a scale per output. Facts from the release history of the operators
(tflite/tools/versioning in LiteRT, 2.1; LiteRT 1.x counts as TFLite 2.18, 2.x as newer).
"""

from __future__ import annotations

# The runtimes of an operator's versions 1, 2, 3, ...
_HISTORY = """
ABS 1.13 2.4 2.5 2.6 2.12
ADD 1.5 1.14 2.4 2.6 2.13
ADD_N 1.14
ARG_MAX 1.9 1.14 2.9
ARG_MIN 1.9 1.14 2.9
AVERAGE_POOL_2D 1.5 1.14 2.3
BATCH_MATMUL 2.3 2.3 2.4 2.5
BATCH_TO_SPACE_ND 1.6 1.14 2.3 2.12
BROADCAST_ARGS 2.6
BROADCAST_TO 2.5 2.5 2.5
CAST 1.5 2.7 2.8 2.9 2.12 2.15 2.17
CEIL 1.14
CONCATENATION 1.5 1.14 2.3 2.14
CONV_2D 1.5 1.14 1.14 2.3 2.4 2.9 2.11 2.15
CONV_3D 2.5
CONV_3D_TRANSPOSE 2.6
COS 1.14
CUMSUM 2.4
DEPTH_TO_SPACE 2.1 2.5
DEPTHWISE_CONV_2D 1.5 1.12 1.14 2.2 2.3 2.3 2.11
DEQUANTIZE 1.13 1.14 1.15 2.2 2.7 2.18
DIV 1.6 2.3
DYNAMIC_UPDATE_SLICE 2.9 2.17 2.19 2.20
ELU 1.14
EMBEDDING_LOOKUP 1.13 1.14 1.14 2.18
EQUAL 1.14 1.14 2.3 2.13
EXP 1.7 2.12
EXPAND_DIMS 1.10
FILL 1.13 2.3 2.5 2.12
FLOOR 1.9
FLOOR_DIV 1.14 1.14 2.13
FLOOR_MOD 1.13 2.13
FULLY_CONNECTED 1.5 1.10 1.14 1.14 2.0 2.1 2.3 2.3 2.3 2.11 2.15 2.17 2.18
GATHER 1.6 1.14 1.15 2.4 2.5 2.13 2.15
GATHER_ND 1.14 2.3 2.5 2.13 2.16
GELU 2.9 2.9
GREATER 1.14 1.14
GREATER_EQUAL 1.14 1.14 2.13
HARD_SWISH 1.15
L2_NORMALIZATION 1.5 1.14
LEAKY_RELU 1.13 2.3
LESS 1.14 1.14 2.13
LESS_EQUAL 1.14 1.14
LOCAL_RESPONSE_NORMALIZATION 1.5
LOG 1.14 2.15
LOG_SOFTMAX 1.14 1.14
LOGICAL_AND 1.11
LOGICAL_NOT 1.11
LOGICAL_OR 1.11
LOGISTIC 1.14 1.14 2.3
LSTM 1.7 1.10 1.14 2.3
MAX_POOL_2D 1.5 1.14 2.3
MAXIMUM 1.14 1.14 2.3 2.3
MEAN 1.6 1.14 2.4
MINIMUM 1.14 1.14 2.3 2.3
MIRROR_PAD 1.13 2.3 2.12
MUL 1.5 1.14 1.15 2.3 2.6 2.11 2.13
NEG 1.9
NOT_EQUAL 1.14 1.14 2.3
ONE_HOT 1.11
PACK 1.11 1.14 2.3 2.13
PAD 1.5 1.14 2.4 2.6
PADV2 1.9 1.14 2.4 2.6
POW 1.10
PRELU 1.8
QUANTIZE 1.14 1.15 2.7
RANGE 1.13 2.14
RANK 1.14
REDUCE_ALL 2.6
REDUCE_ANY 1.11
REDUCE_MAX 1.11 1.14 2.5
REDUCE_MIN 1.11 1.14 2.5
REDUCE_PROD 1.11 2.6
RELU 1.5 2.1 2.5
RELU6 1.5 1.14 2.5
RELU_0_TO_1 2.10
RELU_N1_TO_1 1.5
RESHAPE 1.5
RESIZE_BILINEAR 1.7 1.14 2.2 2.5
RESIZE_NEAREST_NEIGHBOR 1.13 1.14 2.3 2.4
REVERSE_V2 1.14 2.2 2.5
ROUND 1.14
RSQRT 1.10 2.5 2.15
SELECT 1.14 1.14 2.12 2.12
SELECT_V2 2.2 2.12
SHAPE 1.10
SIGN 2.11 2.12
SIN 1.9
SLICE 1.14 1.14 1.14 2.4 2.5 2.14
SOFTMAX 1.5 1.14 2.3
SPACE_TO_BATCH_ND 1.6 1.14 2.3 2.12
SPACE_TO_DEPTH 1.5 1.14
SPLIT 1.5 1.14 1.14 2.3
SPLIT_V 1.13 2.3
SQRT 1.10
SQUARE 1.12
SQUARED_DIFFERENCE 1.13 2.5
SQUEEZE 1.6 2.5
STRIDED_SLICE 1.6 1.14 2.1 2.2 2.5 2.6 2.14 2.14
SUB 1.6 1.14 2.3 2.4 2.4
SUM 1.10 1.15
TANH 1.14 1.14 2.3
TILE 1.10 2.2 2.8
TOPK_V2 1.7 1.14 2.13
TRANSPOSE 1.6 1.14 1.15 2.3 2.4 2.12 2.14
TRANSPOSE_CONV 1.9 2.2 2.3 2.13 2.15
UNIDIRECTIONAL_SEQUENCE_LSTM 1.13 1.14 2.3 2.12
UNIDIRECTIONAL_SEQUENCE_RNN 1.14 1.14 2.3
UNPACK 1.11 1.14 2.2 2.3
WHERE 1.14 2.8
WHILE 1.15
ZEROS_LIKE 1.12
"""
_RUNTIMES = {name: tuple(found) for name, *found in map(str.split, _HISTORY.strip().splitlines())}
# The first release whose converter writes int8 kernels of Dense with a scale per output. Older runtimes read one scale.
PER_CHANNEL_DENSE = "2.17"

# What the GPU delegate takes up; anything else is handed back to the CPU, with a copy each way.
_ON_GPU = """
ABS ADD ADD_N AVERAGE_POOL_2D BATCH_MATMUL CAST CONCATENATION CONV_2D COS DEPTHWISE_CONV_2D DEPTH_TO_SPACE
    DEQUANTIZE DIV ELU EQUAL EXP FLOOR FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER GELU GREATER GREATER_EQUAL HARD_SWISH
    LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND LOGISTIC LSTM MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG
    NOT_EQUAL ONE_HOT PACK PAD POW PRELU QUANTIZE REDUCE_MAX REDUCE_MIN REDUCE_PROD RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1
    RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SELECT_V2 SIGN SIN SLICE SOFTMAX SPACE_TO_BATCH_ND
    SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE STRIDED_SLICE SUB SUM TANH TILE TRANSPOSE
    TRANSPOSE_CONV UNPACK
"""
ON_GPU = frozenset(_ON_GPU.split())
GPU_RANK = 4


def runtime_of(operator: str, version: int) -> str | None:
    """The first runtime with this version of an operator, such as `"2.11"`; None if it is not known.

    Example:
        >>> runtime_of("CONV_2D", 6), runtime_of("CONV_2D", 99)
        ('2.9', None)
    """
    found = _RUNTIMES.get(operator, ())
    return found[version - 1] if version <= len(found) else None


def as_numbers(runtime: str) -> tuple[int, ...]:
    """`"2.16.1"` as numbers that compare.

    Raises:
        ValueError: it is no version.

    Example:
        >>> as_numbers("2.9") < as_numbers("2.16.1")
        True
    """
    try:
        return tuple(int(part) for part in runtime.split("."))
    except (AttributeError, ValueError) as error:
        raise ValueError(
            f"{runtime!r} is no runtime version. Give one such as '2.16', as text."
        ) from error
