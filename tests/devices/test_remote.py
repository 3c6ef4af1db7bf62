"""Devices behind TVM's RPC, with a server on this machine's loopback address."""

from __future__ import annotations

import time
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


@pytest.mark.parametrize("name", ["rpc://10.0.0.7:9090/pi4", "rpc://[::1]:9090", "tracker://10.0.0.7:9190/pi4"])
def test_names_of_devices(name: str) -> None:
    device = device_named(name)
    assert isinstance(device, RemoteDevice)
    assert device.name == name


@pytest.mark.parametrize("text", ["rpc://", "rpc://host", "rpc://host:port/key", "tracker://h:9190", "rpc://h:99999/k"])
def test_malformed_names_are_refused(text: str) -> None:
    with pytest.raises(EdgeIRError, match="rpc://HOST:PORT"):
        device_named(text)


def test_a_tracker_hands_out_a_device(tmp_path: Path) -> None:
    from edgeir.commands.devices import start_server, start_tracker, tracker_rows

    artifact = edgeir.compile(network(), "host", output=tmp_path / "net")
    tracker = start_tracker("127.0.0.1", 9500)
    place = f"127.0.0.1:{tracker.port}"
    running = start_server("127.0.0.1", 9600, "board", place)
    try:
        until = time.monotonic() + 60
        while not any(row["free"] for row in tracker_rows(place)):
            assert time.monotonic() < until, "the device did not register"
            time.sleep(0.1)
        for _ in range(2):
            assert verify_on(device_named(f"tracker://{place}/board"), artifact.path).passed
        with pytest.raises(EdgeIRError, match="cannot be reached") as caught:
            verify_on(device_named(f"tracker://{place}/other"), artifact.path)
        assert "the tracker has board" in str(caught.value)
        # The same text with the other scheme names a server, which a tracker is not.
        with pytest.raises(EdgeIRError, match="cannot be reached"):
            verify_on(device_named(f"rpc://{place}/board"), artifact.path)
    finally:
        for server in (running, tracker):
            server.terminate()
    with pytest.raises(EdgeIRError, match="cannot be reached"):
        verify_on(device_named(f"tracker://{place}/board"), artifact.path)


@pytest.mark.parametrize("text", ["", "pi", "qemu-arm", "/nowhere"])
def test_unknown_devices_are_refused(text: str) -> None:
    with pytest.raises(EdgeIRError, match="no such device"):
        device_named(text)


def test_code_that_dies_there_is_a_sentence(tmp_path: Path) -> None:
    if host().architecture != "x86_64" or "avx512_fp16" in cpu_features():
        pytest.skip("needs an x86 CPU without arithmetic on 16-bit floats")
    from edgeir.commands.devices import start_server

    builder = Builder("half")
    x = builder.input("x", "float16[64]")
    graph = builder.outputs(y=builder.relu(builder.add(builder.mul(x, x), x)))
    artifact = edgeir.compile(graph, "x86-64-v4+avx512fp16", output=tmp_path / "half")
    running = start_server("127.0.0.1", 9400, "board", None)
    try:
        device = device_named(f"rpc://127.0.0.1:{running.port}/board")
        # The server cannot tell its CPU's features. It serves the next client all the same.
        for _ in range(2):
            with pytest.raises(ArtifactError, match="The device ended the session"):
                verify_on(device, artifact.path)
        assert verify_on(device, edgeir.compile(network(), "host", output=tmp_path / "net").path).passed
    finally:
        running.terminate()
