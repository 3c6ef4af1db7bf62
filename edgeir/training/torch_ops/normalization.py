"""batch_norm, layer_norm, softmax and log_softmax."""

from __future__ import annotations

import torch
from torch.nn import functional

from edgeir.training.torch_ops.registry import Call, Results, torch_op


@torch_op("batch_norm")
def batch_norm(call: Call) -> Results:
    """With the given statistics; in training mode, if the module asks for it, with the batch's, which update them."""
    x, scale, bias, mean, variance = call.tensors()
    epsilon = call.attributes["epsilon"]
    if call.state.training and call.state.batch_statistics:
        return functional.batch_norm(
            x, mean, variance, scale, bias, training=True, momentum=call.state.momentum, eps=epsilon
        )
    if not (mean.requires_grad or variance.requires_grad):
        return functional.batch_norm(x, mean, variance, scale, bias, eps=epsilon)
    # torch's function gives no gradient of the statistics.
    shape = (-1, *(1,) * (x.ndim - 2))
    scale, bias, mean, variance = (t.reshape(shape) for t in (scale, bias, mean, variance))
    return (x - mean) / torch.sqrt(variance + epsilon) * scale + bias


@torch_op("layer_norm")
def layer_norm(call: Call) -> Results:
    """torch's function; scale and bias that broadcast are applied after it."""
    x, scale, bias = call.tensor(0), call.tensor(1), call.optional(2)
    shape, epsilon = list(x.shape[call.attributes["axis"] :]), call.attributes["epsilon"]
    if list(scale.shape) == shape and (bias is None or list(bias.shape) == shape):
        return functional.layer_norm(x, shape, scale, bias, epsilon)
    y = functional.layer_norm(x, shape, eps=epsilon) * scale
    return y if bias is None else y + bias


@torch_op("softmax")
def softmax(call: Call) -> Results:
    """`torch.softmax`."""
    return torch.softmax(call.tensor(0), call.attributes["axis"])


@torch_op("log_softmax")
def log_softmax(call: Call) -> Results:
    """`torch.log_softmax`."""
    return torch.log_softmax(call.tensor(0), call.attributes["axis"])
