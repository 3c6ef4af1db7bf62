"""Devices behind TVM's RPC, with a server on this machine's loopback address."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import edgeir
import edgeir.ops
from edgeir.devices import RemoteDevice, device_named, verify_on
from edgeir.errors import ArtifactError, EdgeIRError
from edgeir.ir import Builder, Graph
from edgeir.targets import cpu_features, host


def network() -> Graph:
    builder = Builder("net")
    x = builder.input("x", "float32[4, 8]")
    w = np.random.default_rng(0).standard_normal((8, 16)).astype(np.float32)
    y = builder.matmul(x, w)
    return builder.outputs(y=builder.relu(y), half=builder.cast(y, dtype="bfloat16", saturate=True))


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The name of a device whose server listens on the loopback address."""
    from tvm import rpc

    # On all interfaces it would serve the network, and TVM's RPC runs whatever it is sent.
    running = rpc.Server(host="127.0.0.1", port=9200, port_end=9400, key="board", silent=True)
    yield f"rpc://127.0.0.1:{running.port}/board"
    running.terminate()


def test_an_artifact_runs_there(server: str, tmp_path: Path) -> None:
    artifact = edgeir.compile(network(), "host", output=tmp_path / "net")
    device = device_named(server)
    # Twice: the server has one client at a time, so the first session must be gone.
    for threads in (None, 1):
        report = verify_on(device, artifact.path, threads)
        assert report.passed, str(report)
    x = np.random.default_rng(1).standard_normal((4, 8)).astype(np.float32)
    results = device.run(artifact, {"x": x})
    expected = edgeir.Session(artifact.path).run({"x": x})
    assert list(results) == list(expected)
    for name, array in expected.items():
        assert results[name].dtype == array.dtype
        np.testing.assert_array_equal(results[name], array)


def test_foreign_artifacts_are_refused(server: str, tmp_path: Path) -> None:
    other = "x86-64-v2" if host().architecture == "aarch64" else "cortex-a72"
    try:
        artifact = edgeir.compile(network(), other, output=tmp_path / "net")
    except EdgeIRError as error:
        pytest.skip(str(error))
    with pytest.raises(ArtifactError, match="made for another architecture"):
        verify_on(device_named(server), artifact.path)


def test_another_key_and_another_port_are_told(server: str, tmp_path: Path) -> None:
    artifact = edgeir.compile(network(), "host", output=tmp_path / "net")
    for name in (server.replace("/board", "/other"), "rpc://127.0.0.1:1/board"):
        with pytest.raises(EdgeIRError, match="cannot be reached") as caught:
            verify_on(device_named(name), artifact.path)
        assert caught.value.where == name


def test_names_of_devices() -> None:
    assert RemoteDevice.parse("rpc://10.0.0.7:9090/pi4") == RemoteDevice("10.0.0.7", 9090, "pi4")
    assert RemoteDevice.parse("rpc://board.local:9090") == RemoteDevice("board.local", 9090, "")
    assert RemoteDevice.parse("rpc://[::1]:9090/key").name == "rpc://[::1]:9090/key"


@pytest.mark.parametrize("text", ["rpc://", "rpc://host", "rpc://host:port/key", "rpc://:9090/key", "rpc://h:99999/k"])
def test_malformed_names_are_refused(text: str) -> None:
    with pytest.raises(EdgeIRError, match="rpc://host:port/key"):
        device_named(text)


@pytest.mark.parametrize("text", ["", "pi", "qemu-arm", "/nowhere"])
def test_unknown_devices_are_refused(text: str) -> None:
    with pytest.raises(EdgeIRError, match="no such device"):
        device_named(text)


def test_code_that_dies_there_is_a_sentence(tmp_path: Path) -> None:
    if host().architecture != "x86_64" or "avx512_fp16" in cpu_features():
        pytest.skip("needs an x86 CPU without arithmetic on 16-bit floats")
    from tvm import rpc

    builder = Builder("half")
    x = builder.input("x", "float16[64]")
    graph = builder.outputs(y=builder.relu(builder.add(builder.mul(x, x), x)))
    artifact = edgeir.compile(graph, "x86-64-v4+avx512fp16", output=tmp_path / "half")
    # TVM's server stops when a session dies, so this one is not shared. It cannot tell its CPU's features.
    running = rpc.Server(host="127.0.0.1", port=9400, port_end=9500, key="board", silent=True)
    try:
        with pytest.raises(ArtifactError, match="The device ended the session"):
            verify_on(device_named(f"rpc://127.0.0.1:{running.port}/board"), artifact.path)
    finally:
        running.terminate()
