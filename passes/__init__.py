"""The built-in passes: one pass, one file, one class. Importing this package registers them all."""

from __future__ import annotations

import importlib
import pkgutil

import edgeir.ops  # noqa: F401  passes name operators

for _module in pkgutil.walk_packages(__path__, prefix=f"{__name__}."):
    importlib.import_module(_module.name)
