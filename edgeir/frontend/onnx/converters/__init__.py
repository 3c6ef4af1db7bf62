"""Converters of ONNX operators, one file per family. Importing this package registers all of them."""

from edgeir.frontend.onnx.converters import (
    activations,
    arithmetic,
    casts,
    convolution,
    creation,
    image,
    indexing,
    matrices,
    normalization,
    padding,
    pooling,
    quantization,
    rearrangement,
    recurrent,
    reductions,
    regions,
    shapes,
    signal,
    slicing,
    softmax,
)
