"""The number of threads that TVM's thread pool uses."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from edgeir.errors import EdgeIRError
from edgeir.runtime.library import tvm_runtime
from edgeir.targets import host_cores

# TVM keeps one pool for each thread that calls it, and so must the memory of how it was last configured.
_configured = threading.local()

_SHARE_ALL_CORES = -3  # TVM's affinity mode "every worker may run on every listed core"


def checked_threads(threads: object) -> int:
    """`threads` if it is a number from 1 to the cores that this process may use.

    Raises:
        EdgeIRError: it is not.
    """
    cores = host_cores()
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= cores:
        raise EdgeIRError(
            "The number of threads is out of range.",
            where="threads",
            expected=f"an integer from 1 to {cores}, the cores that this process may use",
            got=repr(threads),
        )
    return threads


def use_threads(threads: int) -> None:
    """Let parallel kernels that this Python thread calls use `threads` threads, the calling one included.

    A pool's size is fixed by the first use of TVM in the thread; it is made as large as the machine then. If other
    code made a smaller pool before, a `RuntimeWarning` says so and the smaller number holds.
    """
    if getattr(_configured, "threads", 0) == threads:
        return
    runtime = tvm_runtime()
    configure = runtime.get_global_func("runtime.config_threadpool")
    with _unbound_workers():
        if not hasattr(_configured, "threads"):
            # The first call makes the pool, for as many workers as its list of cores is long.
            largest = max(threads, host_cores())
            configure(_SHARE_ALL_CORES, largest, [str(core) for core in range(largest)])
        # The list's length also bounds what kernels see, and a list of one core makes them run without the pool.
        configure(_SHARE_ALL_CORES, threads, [str(core) for core in range(threads)])
    _configured.threads = threads
    possible = int(runtime.get_global_func("runtime.NumThreads")())
    if possible < threads:
        warnings.warn(
            f"TVM's thread pool was made before with {possible} threads in this Python thread, and cannot grow to "
            f"{threads}; set TVM_NUM_THREADS before the first use of TVM",
            RuntimeWarning,
            stacklevel=3,
        )


@contextmanager
def _unbound_workers() -> Iterator[None]:
    """Keep TVM from binding the calling thread and its workers to cores, unless the user asked for that.

    TVM reads the variable at each configuration; it would otherwise bind the caller's own thread as well.
    """
    if "TVM_BIND_THREADS" in os.environ:
        yield
        return
    os.environ["TVM_BIND_THREADS"] = "0"
    try:
        yield
    finally:
        del os.environ["TVM_BIND_THREADS"]
