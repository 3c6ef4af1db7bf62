"""Imports point one way: a room imports only what the design allows."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Room → the rooms of ours and the outside packages that it may import. Standard library and `edgeir.errors`: everyone.
ROOMS: dict[str, tuple[set[str], set[str]]] = {
    "ir": (set(), {"numpy", "networkx", "ml_dtypes"}),
    "ops": ({"ir"}, {"numpy", "ml_dtypes"}),
    "frontend": ({"ir", "ops"}, {"numpy", "onnx", "google"}),
    "export": ({"ir", "ops"}, {"numpy", "onnx"}),
    "rewrite": ({"ir"}, {"numpy"}),
    "passmanager": ({"ir", "rewrite"}, {"numpy"}),
    "passes": ({"ir", "ops", "rewrite", "passmanager", "targets"}, {"numpy", "networkx"}),
    "training": ({"ir", "ops", "passmanager"}, {"numpy", "torch", "rich"}),
    "lowering": ({"ir", "ops", "schedules", "targets"}, {"numpy", "tvm", "tvm_ffi", "ml_dtypes"}),
    "schedules": ({"targets"}, {"numpy", "tvm", "tvm_ffi"}),
    "tuning": ({"ir", "ops", "lowering", "schedules", "targets"}, {"numpy", "tvm", "xgboost"}),
    "targets": (set(), set()),
    "devices": ({"runtime", "targets"}, {"numpy", "tvm", "tvm_ffi"}),
    "runtime": ({"targets"}, {"numpy", "tvm", "tvm_ffi", "ml_dtypes"}),
}


def _folder(room: str) -> Path:
    return ROOT / room if room in ("passes", "schedules", "targets") else ROOT / "edgeir" / room


def _imported(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide which room is meant"
            if node.module == "edgeir":
                names += [f"edgeir.{alias.name}" for alias in node.names]
            elif node.module:
                names.append(node.module)
    return names


def violations(room: str) -> list[str]:
    ours, outside = ROOMS[room]
    found = []
    for path in sorted(_folder(room).rglob("*.py")):
        for name in _imported(path):
            parts = name.split(".")
            if parts[0] == "edgeir":
                if len(parts) < 2 or parts[1] not in {room, "errors", *ours}:
                    found.append(f"{path.relative_to(ROOT)} imports {name}")
            elif parts[0] not in sys.stdlib_module_names and parts[0] not in outside:
                found.append(f"{path.relative_to(ROOT)} imports {name}")
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_room_imports_only_what_it_may(room: str) -> None:
    assert violations(room) == []


def test_the_rooms_of_the_table_exist() -> None:
    for room in ROOMS:
        assert (_folder(room) / "__init__.py").is_file(), room


def test_no_file_is_named_utils() -> None:
    assert not [path for path in ROOT.rglob("*util*.py") if ".venv" not in path.parts]
