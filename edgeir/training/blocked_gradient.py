"""An error where `backward` comes to a value that no gradient passes through."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from edgeir.errors import EdgeIRError
from edgeir.ir.values import Node


class _Blocked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, anchor: Tensor, tensor: Tensor, node: str, op: str, name: str) -> Tensor:
        ctx.message = (node, op, name)
        return tensor.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        node, op, name = ctx.message
        raise EdgeIRError(
            f"no gradient passes through {op}",
            where=node,
            got=f"%{name} depends on the parameters only through it",
            hint="let the loss read a value before it (capture=…)",
        )


def attach_error(tensor: Tensor, node: Node, name: str) -> Tensor:
    """The tensor, whose `backward` raises an EdgeIRError that names the node."""
    anchor = torch.zeros((), requires_grad=True)
    return _Blocked.apply(anchor, tensor, str(node), node.op, name)  # type: ignore[no-any-return]
