from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tests.passmanager.sample_passes  # noqa: F401
from edgeir.errors import EdgeIRError, VerificationError
from edgeir.ir import Builder, Graph, load_graph
from edgeir.passmanager import (
    Dump,
    NumericCheck,
    PassContext,
    Pipeline,
    compare_outputs,
    example_inputs,
    find_culprit,
    load_reproducer,
    parse_pass,
)


def network() -> Graph:
    b = Builder("net")
    x = b.input("x", "float32[2, 8]")
    y = b.add(b.exp(x), np.zeros(8, np.float32))
    b.location = "bad"
    y = b.exp(b.mul(y, np.linspace(-1, 1, 32, dtype=np.float32).reshape(4, 1, 8)))
    b.location = ""
    return b.outputs(y=b.neg(b.exp(b.neg(y))))


def test_text_and_lists() -> None:
    text = "canonicalize,fold-constants{max-bytes=16},test-options{flag=true,sizes=[1,2]}"
    pipeline = Pipeline(text)
    assert str(pipeline) == text
    assert Pipeline([parse_pass("canonicalize"), "fold-constants{max-bytes=16}", list(pipeline)[2]]) == pipeline
    assert len(pipeline + Pipeline("dead-code")) == 4
    assert str(Pipeline("")) == "" and Pipeline([]).run(network()).passes == []


def test_report_observes_changes() -> None:
    graph = network()
    report = Pipeline("dead-code,canonicalize,canonicalize").run(graph)
    assert [record.changed for record in report.passes] == [False, True, False]
    assert [record.rewrites.total() for record in report.passes] == [0, 1, 0]
    assert report.passes[1].nodes_before == report.passes[1].nodes_after + 1
    assert report.rewrites == {"add-zero": 1}
    assert "canonicalize" in str(report) and report.seconds > 0


def test_rewrite_limit_spans_passes() -> None:
    graph = network()
    context = PassContext(rewrite_limit=2)
    Pipeline("canonicalize,fuse-operators").run(graph, context)
    assert context.rewrites == {"add-zero": 1, "fuse-operators": 1}
    graph.verify()


def test_dumps(tmp_path: Path) -> None:
    graph = network()
    dump = Dump(tmp_path / "ir", before=True, passes={"canonicalize"})
    Pipeline("dead-code,canonicalize").run(graph, PassContext(instruments=[dump]))
    assert [path.name for path in dump.written] == ["01-canonicalize-before.edgeir", "01-canonicalize-after.edgeir"]
    assert str(load_graph(dump.written[1])) == str(graph)
    changes = Dump(tmp_path / "changes", only_changes=True)
    Pipeline("dead-code,canonicalize").run(network(), PassContext(instruments=[changes]))
    assert [path.name for path in changes.written] == ["01-canonicalize-after.edgeir"]


def test_what_a_pass_lacks_is_said() -> None:
    pipeline = Pipeline("test-required{amount=1}")
    with pytest.raises(EdgeIRError, match="no calibration data"):
        pipeline.run(network(), PassContext(keep_reproducer=False))
    context = PassContext(calibration=[{"x": np.zeros((2, 8), np.float32)}], keep_reproducer=False)
    with pytest.raises(EdgeIRError, match="needs 'measured-latency'"):
        pipeline.run(network(), context)
    context.services = {"measured-latency": lambda graph: 1.0}
    pipeline.run(network(), context)
    with pytest.raises(EdgeIRError, match="target"):
        context.require_target("some-pass")
    assert context.random().random() == context.random().random()


def test_a_failing_pass_leaves_a_reproducer(tmp_path: Path) -> None:
    folder = tmp_path / "reproducer"
    context = PassContext(reproducer_folder=folder)
    with pytest.raises(EdgeIRError, match=r"pass test-failing \(number 2 of 3\) failed") as caught:
        Pipeline("canonicalize,test-failing,dead-code").run(network(), context)
    assert "cannot stand neg" in str(caught.value) and f"python -m edgeir.passmanager {folder}" in str(caught.value)
    graph, pipeline = load_reproducer(folder)
    expected = network()
    Pipeline("canonicalize").run(expected)
    assert str(graph) == str(expected)
    assert str(pipeline) == "test-failing,dead-code"
    with pytest.raises(EdgeIRError, match="cannot stand neg"):
        pipeline.run(graph, PassContext(keep_reproducer=False))


def test_an_invalid_graph_is_caught_after_the_pass_that_left_it(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="pass test-corrupting"):
        Pipeline("dead-code,test-corrupting").run(network(), PassContext(reproducer_folder=tmp_path))
    assert str(load_reproducer(tmp_path)[0]) == str(network())


def test_a_reproducer_runs_from_the_command_line(tmp_path: Path) -> None:
    from edgeir.passmanager import save_reproducer

    save_reproducer(network(), Pipeline("canonicalize,dead-code"), "none", tmp_path)
    command = [sys.executable, "-m", "edgeir.passmanager", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and "canonicalize" in done.stdout, done.stderr
    (tmp_path / "pipeline.txt").write_text("no-such-pass")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "unknown pass" in done.stderr


def test_numeric_check_sees_what_a_pass_did() -> None:
    report = Pipeline("canonicalize,test-breaking").run(network(), PassContext(instruments=[NumericCheck()]))
    good, bad = (record.agreement for record in report.passes)
    assert good is not None and good.max_error == 0 and good.cosine == pytest.approx(1) and good.top1 == 1
    assert bad is not None and bad.relative_error > 0.01 and bad.cosine < 1


def test_agreement_measures() -> None:
    reference = {"y": np.array([[1.0, 2.0], [3.0, 1.0]], np.float32)}
    moved = {"y": np.array([[1.0, 2.5], [1.0, 3.0]], np.float32)}
    agreement = compare_outputs([moved], [reference])
    assert agreement.max_error == 2 and agreement.relative_error == pytest.approx(2 / 3) and agreement.top1 == 0.5
    assert agreement.cosine == pytest.approx(12 / np.sqrt(15 * 17.25))
    nan = {"y": np.array([[np.nan, 2.0], [3.0, 1.0]], np.float32)}
    assert compare_outputs([nan], [nan]).max_error == 0
    assert compare_outputs([nan], [reference]).max_error == np.inf
    infinite = {"y": np.full((2, 2), np.inf, np.float32)}
    assert compare_outputs([infinite], [infinite]).max_error == 0
    assert compare_outputs([infinite], [reference]).max_error == np.inf


def test_example_inputs_are_seeded() -> None:
    graph = network()
    np.testing.assert_array_equal(example_inputs(graph, 1)["x"], example_inputs(graph, 1)["x"])
    assert (example_inputs(graph, 1)["x"] != example_inputs(graph, 2)["x"]).any()


def test_the_culprit_is_the_first_wrong_rewrite() -> None:
    graph = network()
    text = str(graph)
    culprit = find_culprit(graph, Pipeline("canonicalize,test-breaking,dead-code"))
    assert (culprit.index, culprit.rewrite, culprit.rule) == (1, 2, "wrong-exp")
    assert culprit.node is not None and culprit.node.endswith("@bad")
    assert "first wrong rewrite: number 2" in str(culprit)
    assert str(graph) == text


def test_no_culprit() -> None:
    culprit = find_culprit(network(), Pipeline("canonicalize,fuse-operators"))
    assert culprit.index is None and "no pass broke" in str(culprit)
