"""Targets with a GPU, as data."""

from __future__ import annotations

import pytest

from edgeir.errors import EdgeIRError
from edgeir.targets import Target, lookup
from edgeir.targets.gpus import GPU_ALIASES, GPU_PRESETS


@pytest.mark.parametrize("name", [*GPU_PRESETS, *GPU_ALIASES])
def test_a_gpu_survives_json_and_tells_tvm_its_host(name: str) -> None:
    target = lookup(name)
    assert Target.from_dict(target.to_dict()) == target
    config = target.tvm_config()
    assert config["kind"] == target.kind
    assert config["host"]["kind"] == "llvm"
    assert config["host"]["mtriple"] == target.triple


def test_jetsons_have_an_arm_beside_the_gpu() -> None:
    orin = lookup("jetson-orin-nano")
    assert orin.gpu is not None
    assert (orin.gpu.arch, orin.architecture) == ("sm_87", "aarch64")


@pytest.mark.parametrize("change", [{"gpu": None}, {"gpu": {"arch": "sm_87"}}, {"gpu": 3}, {"kind": "llvm"}])
def test_a_damaged_gpu_is_refused(change: dict) -> None:
    with pytest.raises(EdgeIRError):
        Target.from_dict(lookup("cuda-sm_87").to_dict() | change)
