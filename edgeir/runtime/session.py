"""Running an artifact."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgeir.errors import ArtifactError
from edgeir.runtime.artifact import Artifact
from edgeir.runtime.dtypes import carrier_dtype, numpy_dtype
from edgeir.runtime.gpu import CUDA, on_device, require_cuda
from edgeir.runtime.inputs import converted, wrong_names
from edgeir.runtime.library import Library, allocate, reader
from edgeir.runtime.manifest import Manifest, TensorSpec
from edgeir.runtime.threads import checked_threads, use_threads
from edgeir.targets import host_cores


class Session:
    """A compiled model, ready to run on this machine's CPU or, if it was compiled for one, its CUDA device.

    Args:
        path: the artifact's folder.
        threads: number of threads for parallel kernels; without it the manifest's number, or the number of cores
            that this process may use if that is less.

    Raises:
        ArtifactError: the artifact is damaged or made for another machine; none of its code has run then.
        EdgeIRError: `threads` is out of range.
    """

    def __init__(self, path: str | os.PathLike[str], threads: int | None = None) -> None:
        self._artifact = Artifact.load(path)
        self._artifact.check()
        manifest = self._artifact.manifest
        self._threads = min(manifest.threads, host_cores()) if threads is None else checked_threads(threads)
        gpu = manifest.target.gpu is not None
        if gpu:
            require_cuda(manifest.target, str(self._artifact.path))
        library = Library(self._artifact.library, CUDA) if gpu else Library(self._artifact.library)
        if library.arity != len(manifest.inputs):
            raise ArtifactError(
                "The library does not match its manifest.",
                where=str(self._artifact.library),
                expected=f"{len(manifest.inputs)} inputs",
                got=f"{library.arity} inputs",
            )
        self._library = library
        self._main = library.main
        buffers = [allocate(spec.dtype, spec.shape) for spec in manifest.inputs]
        self._arguments = tuple(tensor for tensor, _ in buffers)
        if gpu:
            self._main = on_device(library.main, self._arguments)
        self._inputs = {
            spec.name: (spec, numpy_dtype(spec.dtype), spec.shape, array)
            for spec, (_, array) in zip(manifest.inputs, buffers, strict=True)
        }
        self._readers = tuple((spec.name, reader(spec.dtype)) for spec in manifest.outputs)
        # The input buffers and the virtual machine's registers serve one run at a time.
        self._lock = threading.Lock()
        self._outputs_checked, self._bare = False, False

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Name, dtype and shape of every input, in the model's order."""
        return self._artifact.manifest.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Name, dtype and shape of every output, in the model's order."""
        return self._artifact.manifest.outputs

    @property
    def artifact(self) -> Artifact:
        """The artifact on disk."""
        return self._artifact

    @property
    def manifest(self) -> Manifest:
        """All that the artifact says of itself."""
        return self._artifact.manifest

    @property
    def threads(self) -> int:
        """Number of threads that parallel kernels are asked to use."""
        return self._threads

    def run(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Run the model once. Several threads may call it; the runs of one session take turns.

        Args:
            inputs: an array for each input, of exactly its dtype and shape (in any memory order). Python numbers and
                lists of them, which have no dtype, are taken where the dtype can hold them: a float may be rounded,
                an integer must fit.

        Returns:
            A new array for each output, which nothing changes later.

        Raises:
            EdgeIRError: a name is missing or unknown, or an array has the wrong dtype or shape.
            ArtifactError: the library failed, or gave something else than its manifest says.
        """
        slots = self._inputs
        if inputs.keys() != slots.keys():
            raise wrong_names(tuple(slots), inputs)
        with self._lock:
            for name, (spec, dtype, shape, buffer) in slots.items():
                value = inputs[name]
                if type(value) is not np.ndarray or value.dtype != dtype or value.shape != shape:
                    value = converted(value, spec)
                buffer[...] = value
            use_threads(self._threads)
            try:
                result = self._main(*self._arguments)
            except Exception as error:
                raise ArtifactError(
                    "The artifact's library failed while running.",
                    where=str(self._artifact.library),
                    details=str(error).strip(),
                ) from error
            if not self._outputs_checked:
                self._check_outputs(result)
            if self._bare:
                result = (result,)
            # Copies: the library may return one of its constants, an input, or the same tensor twice.
            return {name: read(tensor) for (name, read), tensor in zip(self._readers, result, strict=True)}

    def _check_outputs(self, result: Any) -> None:
        # A main with one output may return it with or without a tuple around.
        bare = hasattr(result, "dtype")
        got = [f"{tensor.dtype}{list(tensor.shape)}" for tensor in ([result] if bare else result)]
        expected = [f"{carrier_dtype(spec.dtype).name}{list(spec.shape)}" for spec in self.outputs]
        if got != expected:
            raise ArtifactError(
                "The library's outputs do not match its manifest.",
                where=str(self._artifact.library),
                expected=", ".join(expected),
                got=", ".join(got),
            )
        self._bare = bare
        self._outputs_checked = True
