"""Changes of element type."""

from __future__ import annotations

from edgeir.training.tensor_conversion import REFERENCE_ONLY
from edgeir.training.torch_ops.registry import Call, Representation, Results, reference, torch_op


@torch_op("cast", accepts=frozenset({Representation.INTEGERS}), any_dtype=True)
def cast(call: Call) -> Results:
    """`Tensor.to`; gradients pass between floating types, and from whole numbers held as floats."""
    x, dtype = call.tensor(0), call.attributes["dtype"]
    source = call.type(0).dtype
    if x.is_floating_point() and "float" not in source:
        # A quantized tensor held as floats.
        if "float" in dtype and dtype not in REFERENCE_ONLY:
            return x.to(call.dtype(dtype))
        x = x.detach().nan_to_num().to(call.dtype(source))
    if dtype in REFERENCE_ONLY or source in REFERENCE_ONLY:
        return reference(Call(call.node, (x,), call.state))
    if dtype in ("int4", "uint4"):
        nibble = x.long() & 15
        return (nibble if dtype == "uint4" else (nibble ^ 8) - 8).to(call.dtype(dtype))
    return x.to(call.dtype(dtype))
