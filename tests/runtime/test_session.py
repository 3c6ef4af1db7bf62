"""Running artifacts: names, dtypes, shapes, threads, and whose memory the outputs are."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeir.errors import EdgeIRError
from edgeir.runtime import Artifact, Session, TensorSpec
from edgeir.runtime.dtypes import DTYPES, numpy_dtype
from edgeir.runtime.library import tvm_runtime
from edgeir.targets import host_cores

X = np.random.default_rng(1).standard_normal((4, 8)).astype(np.float32)


def test_run_agrees_with_numpy(linear: Path, weights: np.ndarray) -> None:
    session = Session(linear)
    outputs = session.run({"x": X})
    assert list(outputs) == ["y", "z/0"]
    np.testing.assert_allclose(outputs["y"], X @ weights, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(outputs["z/0"], outputs["y"] + 1)
    assert [str(spec) for spec in session.inputs] == ["x: float32[4, 8]"]
    assert [spec.name for spec in session.outputs] == ["y", "z/0"]


def test_any_memory_order(linear: Path) -> None:
    session = Session(linear)
    expected = session.run({"x": X})["y"]
    wide = np.zeros((8, 16), np.float32)
    wide[::2, ::2] = X
    read_only = X.copy()
    read_only.setflags(write=False)
    for x in (np.asfortranarray(X), wide[::2, ::2], X[::-1].copy()[::-1], read_only):
        np.testing.assert_array_equal(session.run({"x": x})["y"], expected)


def test_python_numbers(linear: Path) -> None:
    session = Session(linear)
    np.testing.assert_array_equal(session.run({"x": X.tolist()})["y"], session.run({"x": X})["y"])
    ones = session.run({"x": np.ones((4, 8), np.float32)})["y"]
    np.testing.assert_array_equal(session.run({"x": [[1] * 8] * 4})["y"], ones)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "Missing inputs: x"),
        ({"X": X}, "Missing inputs: x"),
        ({"x": X, "y": X}, "Unknown inputs: y"),
        ({"x": X.astype(np.float64)}, "got: float64 of shape"),
        ({"x": X.astype(">f4")}, "got: >f4 of shape"),
        ({"x": X.astype(np.int32)}, "got: int32 of shape"),
        ({"x": X[None]}, "expected: float32 of shape \\(4, 8\\)\n  got: float32 of shape \\(1, 4, 8\\)"),
        ({"x": X[:, :1]}, "got: float32 of shape \\(4, 1\\)"),
        ({"x": np.float32(0)}, "got: float32 of shape \\(\\)"),
        ({"x": [[0.0] * 8] * 3}, "got: float32 of shape \\(3, 8\\)"),
        ({"x": [[1e300] * 8] * 4}, "cannot hold"),
        ({"x": [[True] * 8] * 4}, "got: bool"),
        ({"x": [[1.0], [1.0, 2.0]]}, "inhomogeneous"),
        ({"x": "text"}, "got: <U4"),
        ({"x": None}, "got: object"),
    ],
)
def test_wrong_input(linear: Path, inputs: dict, message: str) -> None:
    session = Session(linear)
    with pytest.raises(EdgeIRError, match=message):
        session.run(inputs)
    session.run({"x": X})


def test_outputs_stay_valid(linear: Path) -> None:
    session = Session(linear)
    first = session.run({"x": X})
    kept = {name: array.copy() for name, array in first.items()}
    for scale in range(5):
        other = session.run({"x": X * np.float32(scale)})
        assert not any(np.shares_memory(a, b) for a in first.values() for b in other.values())
    del session
    for name, array in kept.items():
        np.testing.assert_array_equal(first[name], array)


def test_input_constant_and_repeated_output_are_not_aliased(make_session: Callable) -> None:
    from tvm import relax, topi

    constant = np.arange(4, dtype=np.float32)

    def body(builder, x):
        y = builder.emit_te(lambda a: topi.multiply(a, 2.0), x)
        return [x, relax.const(constant), y, y]

    spec = TensorSpec("x", "float32", (4,))
    outputs = [TensorSpec(name, "float32", (4,)) for name in ("same", "constant", "once", "again")]
    session = make_session([spec], outputs, body)
    x = np.ones(4, np.float32)
    for array in session.run({"x": x}).values():
        array[...] = -1
    assert x.tolist() == [1] * 4
    result = session.run({"x": x})
    assert result["same"].tolist() == [1] * 4
    assert result["constant"].tolist() == constant.tolist()
    result["once"][...] = 5
    assert result["again"].tolist() == [2] * 4
    session.run({"x": x * 3})
    assert result["same"].tolist() == [1] * 4


def test_every_dtype_passes_through(make_session: Callable) -> None:
    from tvm import te

    names = list(DTYPES)
    inputs = [TensorSpec(f"in/{name}", name, (3, 2)) for name in names]
    outputs = [TensorSpec(f"out/{name}", name, (2, 3)) for name in names]

    def transpose(a):
        return te.compute((2, 3), lambda i, j: a[j, i])

    def body(builder, *variables):
        return [builder.emit_te(transpose, variable) for variable in variables]

    session = make_session(inputs, outputs, body)
    rng = np.random.default_rng(3)
    values = {
        f"in/{name}": rng.integers(0, 2 if name == "bool" else 8, (3, 2)).astype(numpy_dtype(name)) for name in names
    }
    for result in (session.run(values), session.run(values)):
        for name in names:
            output = result[f"out/{name}"]
            assert output.dtype == values[f"in/{name}"].dtype
            np.testing.assert_array_equal(output, values[f"in/{name}"].T)
    bad = {**values, "in/int8": [[1, 2], [3, 4], [5, 300]]}
    with pytest.raises(EdgeIRError, match="int8 cannot hold"):
        session.run(bad)
    with pytest.raises(EdgeIRError, match="int4 cannot hold"):
        session.run({**values, "in/int4": [[1, 2], [3, 4], [5, 8]]})
    with pytest.raises(EdgeIRError, match="got: float64"):
        session.run({**values, "in/int32": [[1.0, 2.0]] * 3})


def test_scalar_empty_and_no_outputs(make_session: Callable) -> None:
    from tvm import topi

    inputs = [TensorSpec("s", "float32", ()), TensorSpec("e", "float32", (0, 3))]
    outputs = [TensorSpec("t", "float32", ()), TensorSpec("f", "float32", (0, 3))]

    def body(builder, s, e):
        return [builder.emit_te(lambda a: topi.add(a, 1.0), s), e]

    result = make_session(inputs, outputs, body).run({"s": 2, "e": np.zeros((0, 3), np.float32)})
    assert result["t"].shape == () and result["t"] == 3
    assert result["f"].shape == (0, 3)
    assert make_session(inputs[:1], [], lambda builder, s: []).run({"s": 0.5}) == {}


def test_one_output_without_a_tuple(make_session: Callable) -> None:
    from tvm import topi

    spec, out = TensorSpec("x", "float32", (2,)), TensorSpec("y", "float32", (2,))
    session = make_session([spec], [out], lambda builder, x: builder.emit_te(lambda a: topi.add(a, 1.0), x))
    for value in (1, 2):
        assert session.run({"x": [value, value]})["y"].tolist() == [value + 1] * 2


@pytest.mark.parametrize("threads", [0, -1, host_cores() + 1, True, 1.0, "2"])
def test_threads_out_of_range(linear: Path, threads: object) -> None:
    with pytest.raises(EdgeIRError, match="number of threads"):
        Session(linear, threads=threads)  # pyright: ignore[reportArgumentType]


def test_thread_count_holds_for_each_session(linear: Path) -> None:
    counts = sorted({1, host_cores()})
    sessions = [Session(linear, threads=count) for count in counts]
    workers: list[int] = []

    def body() -> None:
        used = tvm_runtime().get_global_func("runtime.NumThreads")
        for session in sessions + sessions[::-1]:
            session.run({"x": X})
            workers.append(used())

    # A thread of its own, because a pool made before in this one could be smaller.
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert [session.threads for session in sessions] == counts
    assert workers == counts + counts[::-1]


def test_threads_do_not_bind_the_caller(linear: Path) -> None:
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("this system has no affinity masks")
    before = os.sched_getaffinity(0)
    after: list[set[int]] = []

    def body() -> None:
        Session(linear, threads=1).run({"x": X})
        after.append(os.sched_getaffinity(0))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert after == [before]
    assert os.environ.get("TVM_BIND_THREADS") in (None, "0", "1")


def test_artifact_replaced_under_a_live_session(make_session: Callable) -> None:
    """The dynamic linker knows libraries by name; the second session must not get the first one's code."""
    from tvm import topi

    spec, out = TensorSpec("x", "float32", (2,)), TensorSpec("y", "float32", (2,))
    old = make_session([spec], [out], lambda builder, x: [builder.emit_te(lambda a: topi.add(a, 1.0), x)])
    other = make_session([spec], [out], lambda builder, x: [builder.emit_te(lambda a: topi.add(a, 5.0), x)]).artifact
    Artifact.write(old.artifact.path, other.library, other.manifest, *other.load_golden())
    new = Session(old.artifact.path)
    x = np.zeros(2, np.float32)
    assert (old.run({"x": x})["y"][0], new.run({"x": x})["y"][0]) == (1, 5)


def test_two_sessions_and_many_callers(linear: Path, weights: np.ndarray) -> None:
    sessions = [Session(linear), Session(linear)]
    failures: list[BaseException] = []

    def body(seed: int) -> None:
        rng = np.random.default_rng(seed)
        try:
            for _ in range(200):
                x = rng.standard_normal((4, 8)).astype(np.float32)
                y = sessions[seed % 2].run({"x": x})["y"]
                np.testing.assert_allclose(y, x @ weights, rtol=1e-4, atol=1e-4)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=body, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
