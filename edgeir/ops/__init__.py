"""The operators: one file per family; importing this package registers them all."""

__all__ = ["elementwise"]

from edgeir.ops import elementwise
from edgeir.ops import shape as shape
