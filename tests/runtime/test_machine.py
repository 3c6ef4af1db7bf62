"""Each reason against an artifact is one sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeir.errors import ArtifactError
from edgeir.runtime import Machine, Manifest
from edgeir.runtime.machine import check_machine, this_machine
from edgeir.targets import lookup

A76 = lookup("cortex-a76")
MANIFEST = Manifest(
    "model", (), (), A76, required_features=A76.required, versions={"tvm": "0.27.0.post1", "tvm_ffi": "0.1.14.post1"}
)
BOARD = Machine("the board", "aarch64", "linux", frozenset(A76.required), {"tvm": "0.27.3", "tvm_ffi": "0.1.14"})


def test_a_machine_with_all_that_is_required_passes() -> None:
    check_machine(MANIFEST, "artifact", BOARD)


def test_what_a_machine_cannot_tell_passes() -> None:
    check_machine(MANIFEST, "artifact", Machine("the board", "", "", None))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"architecture": "arm"}, "The artifact was made for another architecture."),
        ({"system": "darwin"}, "The artifact was made for another operating system."),
        ({"features": frozenset({"asimd"})}, "The board's CPU lacks asimddp, asimdhp, fphp, which the artifact's"),
        (
            {"versions": {"tvm": "0.28.0"}},
            "The artifact was made with apache-tvm 0.27.0.post1, and the board runs 0.28.0.",
        ),
        (
            {"versions": {"tvm": "1.27.0"}},
            "The artifact was made with apache-tvm 0.27.0.post1, and the board runs 1.27.0.",
        ),
        ({"versions": {"tvm_ffi": "0.2.14"}}, "The artifact was made with apache-tvm-ffi 0.1.14.post1, and the board"),
    ],
)
def test_a_reason_against_it_is_one_sentence(change: dict, sentence: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        check_machine(MANIFEST, "artifact", replace(BOARD, **change))
    assert caught.value.what.startswith(sentence)
    assert "\n" not in caught.value.what
    assert caught.value.where == "artifact"
    assert caught.value.hint


def test_this_machine_is_not_asked_for_the_features_of_another_architecture() -> None:
    manifest = replace(MANIFEST, target=lookup("riscv64-v"))
    assert this_machine(manifest).features is None
