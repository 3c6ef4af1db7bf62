from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import ClassVar

import pytest

from edgeir.errors import EdgeIRError
from edgeir.ir import Graph
from edgeir.passmanager import Pass, PassContext, find_pass, register_pass, registered_passes, registry


class Silent(Pass):
    """A base for passes that do nothing."""

    def run(self, graph: Graph, context: PassContext) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Clashing(Silent):
    """Has the name of a built-in pass."""

    name: ClassVar[str] = "dead-code"


@dataclass(frozen=True)
class ThirdParty(Silent):
    """As an installed package would offer it."""

    name: ClassVar[str] = "test-third-party"


def point(name: str) -> EntryPoint:
    return EntryPoint(name, f"{__name__}:{name}", registry.ENTRY_POINT_GROUP)


def test_built_in_passes_are_found() -> None:
    expected = {"canonicalize", "fold-constants", "common-subexpressions", "dead-code", "fuse-operators"}
    expected |= {"fold-pad", "fold-batch-norm", "fold-scale", "fold-bias", "project-recurrent", "unroll-recurrent"}
    assert expected <= set(registered_passes())
    assert list(registered_passes()) == sorted(registered_passes())


def test_entry_points_register(monkeypatch: pytest.MonkeyPatch) -> None:
    registered_passes()
    monkeypatch.setattr(registry, "_PASSES", dict(registry._PASSES))
    monkeypatch.setattr(EntryPoint, "load", lambda self: globals()[self.name])
    registry.load_entry_points([point("ThirdParty")])
    assert find_pass("test-third-party") is ThirdParty
    with pytest.raises(EdgeIRError, match="two passes are called 'dead-code'"):
        registry.load_entry_points([point("Clashing")])


def test_an_entry_point_that_cannot_be_imported_is_named() -> None:
    with pytest.raises(EdgeIRError, match="no_such_module"):
        registry.load_entry_points([EntryPoint("x", "no_such_module:X", registry.ENTRY_POINT_GROUP)])


def test_clashes_and_bad_names_raise() -> None:
    with pytest.raises(EdgeIRError, match="two passes"):
        register_pass(Clashing)

    class Bad(Silent):
        name = "Not_Kebab"

    with pytest.raises(EdgeIRError, match="kebab-case"):
        register_pass(Bad)


def test_registering_the_same_class_again_is_harmless() -> None:
    cls = find_pass("dead-code")
    assert register_pass(cls) is cls
