"""TVM's own tuner, MetaSchedule, on the convolutions of a network, in a process of its own.

MetaSchedule as it comes builds no candidate: each of its builder's processes imports TVM's CUDA intrinsics, which takes
longer than a candidate may. Here candidates are built in the process of the search, in a thread for each core, and
linked by the linker alone, as EdgeIR does; the search, its cost model, the runner and how long it times are TVM's.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
import tempfile
import time
import types
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.networks import Shapes
from edgeir.tuning.worker import import_tvm

ROUND = 64
"""Trials in a round, between two decisions: TVM's default."""

ENDLESS = 1_000_000
PREPARE_SECONDS = 600.0


@dataclass
class Progress:
    """What was done by the end of a round, in which candidates are searched, then built, then run.

    Attributes:
        seconds: since the search began.
        trials: candidates that were built and run, failed ones included.
        errors: how each ended ("none" if well) → number.
        build_seconds, run_seconds: the part of the time for building, and for running; the rest is the search.
    """

    seconds: float = 0.0
    trials: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    build_seconds: float = 0.0
    run_seconds: float = 0.0

    def count(self, error: str) -> None:
        """Counts a candidate."""
        self.trials += 1
        self.errors[error] = self.errors.get(error, 0) + 1


class MetaSchedule:
    """A search in a process of its own, which starts with `measure`. A context manager.

    Args:
        model: ONNX file.
        shapes: input name → sizes, for every input.
        threads: threads that kernels use.
        trials: measured between two decisions, in a round.
    """

    def __init__(self, model: Path, shapes: Shapes, threads: int, trials: int = ROUND) -> None:
        self._trials = trials
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._folder = tempfile.TemporaryDirectory(prefix="edgeir-metaschedule-")
        arguments = (other, str(model), shapes, threads, trials, self._folder.name)
        # Not a daemon: MetaSchedule's runner is a child of this process.
        self._process = context.Process(target=_serve, args=arguments)
        self._process.start()
        other.close()

    def __enter__(self) -> MetaSchedule:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._process.kill()
        self._process.join()
        self._folder.cleanup()

    def prepare(self) -> int:
        """Waits until the search can begin; the number of kernels.

        Raises:
            RuntimeError: something failed; the text says what.
        """
        return int(self._receive(PREPARE_SECONDS)["kernels"])

    def measure(self, seconds: float) -> Progress:
        """Searches for some seconds; what was done by the end of the last round within them.

        Raises:
            RuntimeError: no round ended in that time, or something failed.
        """
        self._connection.send("start")
        end = time.monotonic() + seconds
        progress: Progress | None = None
        while (left := end - time.monotonic()) > 0 and self._connection.poll(left):
            progress = Progress(**self._receive(0))
        if progress is None:
            raise RuntimeError(f"not one round of {self._trials} trials ended in {seconds:g} s")
        return progress

    def _receive(self, timeout: float) -> dict[str, Any]:
        if not self._connection.poll(timeout):
            raise RuntimeError(f"no answer in {timeout:g} s")
        try:
            answer = self._connection.recv()
        except EOFError:
            self._process.join(5)
            raise RuntimeError(f"the process ended with code {self._process.exitcode}") from None
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer


def _serve(connection: Connection, model: str, shapes: Shapes, threads: int, trials: int, folder: str) -> None:
    """The process's main function."""
    # MetaSchedule prints a table of all tasks each round, from C++ too.
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    # TVM's runner, a child of this process, reads it when its pool of threads starts.
    os.environ["TVM_NUM_THREADS"] = str(threads)
    try:
        _import_for_cpus()
        _search(connection, _convolutions(model, shapes, threads), trials, folder)
    except (EOFError, BrokenPipeError):
        return
    except BaseException as error:
        with suppress(OSError):
            connection.send({"error": f"{type(error).__name__}: {' '.join(str(error).split())[-300:]}"})


def _import_for_cpus() -> None:
    """Imports TVM and its intrinsics for CPUs, without what takes half a minute and serves no CPU."""
    cuda = "tvm.s_tir.tensor_intrin.cuda"
    sys.modules[cuda] = types.ModuleType(cuda)
    import_tvm()
    importlib.import_module("tvm.s_tir.tensor_intrin")


def _search(connection: Connection, tasks: Sequence[Any], trials: int, folder: str) -> None:
    """Prepares, waits for the word, and searches until killed."""
    from tvm.s_tir import meta_schedule

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    contexts, weights = meta_schedule.relax_integration.extracted_tasks_to_tune_contexts(
        list(tasks), folder, num_threads=cores, seed=0
    )
    progress, began = Progress(), [0.0]

    def report() -> None:
        progress.seconds = time.perf_counter() - began[0]
        connection.send(asdict(progress))

    builder, runner = _builder(progress, cores, folder), _runner(progress, report)
    connection.send({"kernels": len(contexts)})
    connection.recv()
    began[0] = time.perf_counter()
    meta_schedule.tune_tasks(
        tasks=contexts,
        task_weights=weights,
        work_dir=folder,
        max_trials_global=ENDLESS,
        num_trials_per_iter=trials,
        builder=builder,
        runner=runner,
        database="memory",
    )


def _convolutions(model: str, shapes: Shapes, threads: int) -> list[Any]:
    """The fused convolutions that TVM's importer and its pipeline for tuning make of a model."""
    import onnx
    import tvm
    from tvm import relax
    from tvm.relax.frontend.onnx import from_onnx
    from tvm.s_tir import meta_schedule

    from edgeir.targets import lookup

    target = tvm.target.Target(lookup("host").with_cores(threads).tvm_config())
    proto: Any = onnx.load(model)
    passes = relax.transform
    with target:
        module = tvm.transform.Sequential(
            [passes.DecomposeOpsForInference(), passes.CanonicalizeBindings(), relax.get_pipeline("zero")]
        )(from_onnx(proto, shape_dict={name: list(shape) for name, shape in shapes.items()}))
    tasks = meta_schedule.relax_integration.extract_tasks(module, target)
    return [task for task in tasks if "conv2d" in task.task_name]


def _builder(progress: Progress, cores: int, folder: str) -> Any:
    """A builder in this process; failures are results, as of TVM's."""
    import tvm
    from tvm.ir.utils import derived_object
    from tvm.s_tir.meta_schedule.builder import BuilderResult, PyBuilder
    from tvm.s_tir.transform import RemoveWeightLayoutRewriteBlock

    from edgeir.targets import lookup
    from edgeir.tuning.link import link_function

    link = link_function(lookup("host"))
    pool = ThreadPoolExecutor(cores)

    def build(item: Any) -> Any:
        try:
            # What TVM's default build function does.
            module = RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)(item.mod)
            built: Any = tvm.compile(module, target=item.target)
            place = tempfile.mkdtemp(dir=folder)
            path = os.path.join(place, "kernel.so")
            built.export_library(path, fcompile=link, workspace_dir=place)
        except Exception as error:
            return BuilderResult(None, f"{type(error).__name__}: {error}")
        return BuilderResult(path, None)

    @derived_object
    class InProcessBuilder(PyBuilder):
        def build(self, build_inputs: Sequence[Any]) -> list[Any]:
            start = time.perf_counter()
            results = list(pool.map(build, build_inputs))
            progress.build_seconds += time.perf_counter() - start
            for _ in range(sum(result.artifact_path is None for result in results)):
                progress.count("build")
            return results

    return InProcessBuilder()


def _runner(progress: Progress, report: Any) -> Any:
    """TVM's local runner with TVM's settings; tells of each round when it has run."""
    from tvm.ir.utils import derived_object
    from tvm.s_tir.meta_schedule.runner import LocalRunner, PyRunner

    local: Any = LocalRunner()

    @derived_object
    class ReportingRunner(PyRunner):
        def run(self, runner_inputs: Sequence[Any]) -> list[Any]:
            start = time.perf_counter()
            futures = list(local.run(runner_inputs))
            for future in futures:
                progress.count("none" if future.result().error_msg is None else "run")
            progress.run_seconds += time.perf_counter() - start
            report()
            return futures

    return ReportingRunner()
