"""Training of graphs with PyTorch: `GraphModule` runs a graph in torch and gives its new weights back."""

from edgeir.errors import EdgeIRError

try:
    import torch as _torch  # noqa: F401
except ImportError as _error:
    raise EdgeIRError(
        "training needs PyTorch", got=str(_error), hint="install the extra: pip install 'edgeir[train]'"
    ) from _error

from edgeir.training.module import GraphModule, update_from

__all__ = ["GraphModule", "update_from"]
