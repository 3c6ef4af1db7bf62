"""The activation functions of recurrent layers as plain operators."""

from __future__ import annotations

from collections.abc import Callable

from edgeir.errors import EdgeIRError
from edgeir.ir import Value
from edgeir.ops.recurrent import Gate
from edgeir.passes.decomposition.arithmetic import Arithmetic

_FORMULAS: dict[str, Callable[[Arithmetic, Value, Gate], Value]] = {
    "relu": lambda a, x, f: a("relu", x),
    "tanh": lambda a, x, f: a("tanh", x),
    "sigmoid": lambda a, x, f: a("sigmoid", x),
    "affine": lambda a, x, f: a("add", a("mul", x, f.alpha), f.beta),
    "leakyrelu": lambda a, x, f: a("leaky_relu", x, alpha=f.alpha),
    "thresholdedrelu": lambda a, x, f: a("where", a("greater", x, f.alpha), x, 0.0),
    "scaledtanh": lambda a, x, f: a("mul", a("tanh", a("mul", x, f.beta)), f.alpha),
    "hardsigmoid": lambda a, x, f: a("clip", a("add", a("mul", x, f.alpha), f.beta), minimum=0.0, maximum=1.0),
    "elu": lambda a, x, f: a(
        "where", a("less", x, 0.0), a("mul", a("sub", a("exp", a("clip", x, maximum=0.0)), 1.0), f.alpha), x
    ),
    "softsign": lambda a, x, f: a("div", x, a("add", a("abs", x), 1.0)),
    # log(1 + e^x) without overflow: max(x, 0) + log(1 + e^−|x|).
    "softplus": lambda a, x, f: a("add", a("relu", x), a("log", a("add", a("exp", a("neg", a("abs", x))), 1.0))),
}


def activate(arithmetic: Arithmetic, function: Gate, x: Value) -> Value:
    """Adds the function.

    Raises:
        EdgeIRError: there is no such function.
    """
    if function.name not in _FORMULAS:
        raise EdgeIRError("unknown activation function", expected=" | ".join(_FORMULAS), got=function.name)
    return _FORMULAS[function.name](arithmetic, x, function)
