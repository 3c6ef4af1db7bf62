"""The artifact folder: `model.so`, `manifest.json` and `golden.npz`."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeir.errors import ArtifactError
from edgeir.runtime.dtypes import carrier_dtype, numpy_dtype
from edgeir.runtime.library import installed_versions
from edgeir.runtime.machine import Machine, check_machine, this_machine
from edgeir.runtime.manifest import FORMAT, Manifest, TensorSpec

LIBRARY = "model.so"
MANIFEST = "manifest.json"
GOLDEN = "golden.npz"
_FILES = frozenset((LIBRARY, MANIFEST, GOLDEN))

_COPY_AGAIN = "copy the artifact again, or compile the model again"


@dataclass(frozen=True)
class Artifact:
    """A compiled model on disk.

    Attributes:
        path: the folder.
        manifest: what it says of itself.
    """

    path: Path
    manifest: Manifest

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Artifact:
        """Read the folder's manifest. The other files are looked at by `check`.

        Raises:
            ArtifactError: there is no such folder, or its manifest is absent, damaged or of another version.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise ArtifactError(
                "An artifact is a folder.",
                where=str(folder),
                expected=f"a folder with {LIBRARY}, {MANIFEST} and {GOLDEN}",
                got="a file" if folder.exists() else "nothing there",
            )
        return Artifact(folder, Manifest.load(folder / MANIFEST))

    @property
    def library(self) -> Path:
        """The shared library with code and constants."""
        return self.path / LIBRARY

    @property
    def golden(self) -> Path:
        """The file with one pair of inputs and outputs."""
        return self.path / GOLDEN

    def check(self) -> None:
        """Compare both files with their hashes, and the target with this machine, without running any of its code.

        Raises:
            ArtifactError: a file is absent or changed, or this machine lacks what the code needs.
        """
        self.check_files()
        self.check_machine()

    def check_files(self) -> None:
        """Compare `model.so` and `golden.npz` with the hashes in the manifest.

        Raises:
            ArtifactError: one is absent or changed.
        """
        for path, expected in (
            (self.library, self.manifest.library_sha256),
            (self.golden, self.manifest.golden_sha256),
        ):
            got = _sha256(path)
            if got != expected:
                raise ArtifactError(
                    f"The artifact's {path.name} was changed after it was written.",
                    where=str(path),
                    expected=f"sha256 {expected}",
                    got=f"sha256 {got}",
                    hint=_COPY_AGAIN,
                )

    def check_machine(self, machine: Machine | None = None) -> None:
        """Compare the target with a machine's system, architecture, CPU features and versions of TVM's runtime.

        Args:
            machine: the machine; the one that this process runs on if None.

        Raises:
            ArtifactError: the code could not run there.
        """
        check_machine(self.manifest, str(self.path), machine or this_machine(self.manifest))

    def load_golden(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """The golden inputs and the outputs that they should give, by name.

        Raises:
            ArtifactError: the file is absent, or does not hold the arrays that the manifest describes.
        """
        try:
            with np.load(self.golden, allow_pickle=False) as archive:
                arrays = {key: archive[key] for key in archive.files}
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise _bad_golden(self.golden, str(error)) from error
        inputs = _golden_arrays(self.golden, arrays, "input", self.manifest.inputs)
        outputs = _golden_arrays(self.golden, arrays, "output", self.manifest.outputs)
        return inputs, outputs

    @staticmethod
    def write(
        path: str | os.PathLike[str],
        library: str | os.PathLike[str],
        manifest: Manifest,
        golden_inputs: Mapping[str, np.ndarray],
        golden_outputs: Mapping[str, np.ndarray],
    ) -> Artifact:
        """Make an artifact folder beside the place and rename it there, so that nobody ever sees half of it.

        Args:
            path: the folder to make. An artifact that is there already is replaced; nothing else is.
            library: the shared library, as `export_library` wrote it; it is copied.
            manifest: its hashes, `required_features` (if empty) and `versions` are filled in here. `versions` given
                there win, so that the compile side can name its LLVM.
            golden_inputs, golden_outputs: one array for each input and output of the manifest.

        Raises:
            ArtifactError: `path` holds something else than an artifact, or an array does not match the manifest.
        """
        folder = Path(os.path.abspath(path))
        _refuse_foreign(folder)
        arrays = {
            **_checked_arrays("input", manifest.inputs, golden_inputs),
            **_checked_arrays("output", manifest.outputs, golden_outputs),
        }
        folder.parent.mkdir(parents=True, exist_ok=True)
        # A sibling is on the same file system, so that renaming it is one step.
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as workplace:
            fresh = Path(workplace) / "new"
            fresh.mkdir()
            shutil.copyfile(library, fresh / LIBRARY)
            np.savez(fresh / GOLDEN, **arrays)  # pyright: ignore[reportArgumentType]
            full = Manifest(
                **{
                    **{key: getattr(manifest, key) for key in Manifest.__dataclass_fields__},
                    "required_features": manifest.required_features or manifest.target.required,
                    "versions": {**installed_versions(), **manifest.versions},
                    "library_sha256": _sha256(fresh / LIBRARY),
                    "golden_sha256": _sha256(fresh / GOLDEN),
                }
            )
            (fresh / MANIFEST).write_text(full.to_text(), encoding="utf-8", newline="\n")
            # What was written must be readable: a manifest of wrong types stops here, not on the device.
            artifact = Artifact(folder, Manifest.load(fresh / MANIFEST))
            _put(fresh, folder, Path(workplace) / "old")
        return artifact


def _put(fresh: Path, folder: Path, aside: Path) -> None:
    """Rename `fresh` to `folder`; what was there goes `aside`, and comes back if that fails."""
    if not folder.exists():
        os.replace(fresh, folder)
        return
    os.replace(folder, aside)
    try:
        os.replace(fresh, folder)
    except OSError:
        os.replace(aside, folder)
        raise


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ArtifactError(
            f"The artifact's {path.name} cannot be read.", where=str(path), got=error.strerror, hint=_COPY_AGAIN
        ) from error


def _refuse_foreign(folder: Path) -> None:
    """Raise unless `folder` is absent, empty, or an artifact with nothing else inside."""
    if not os.path.lexists(folder):
        return
    problem = ""
    if folder.is_symlink() or not folder.is_dir():
        problem = "something that is not a folder"
    else:
        names = {entry.name for entry in folder.iterdir()}
        if names - _FILES:
            problem = f"a folder with other files: {', '.join(sorted(names - _FILES)[:5])}"
        elif names and not _says_artifact(folder / MANIFEST):
            problem = f"a folder whose {MANIFEST} is absent or another program's"
    if problem:
        raise ArtifactError(
            "The path is taken by something that is not an EdgeIR artifact.",
            where=str(folder),
            expected="a path where nothing is, an empty folder, or an artifact to replace",
            got=problem,
            hint="give another path, or remove it yourself",
        )


def _says_artifact(manifest: Path) -> bool:
    """Whether a manifest claims to be ours; a damaged or older one may be replaced as well."""
    try:
        data = json.loads(manifest.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(data, dict) and data.get("format") == FORMAT


def _checked_arrays(
    kind: str, specs: tuple[TensorSpec, ...], arrays: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Entries of `golden.npz`: `input_0`, `output_0`, … because a tensor's name may hold any character."""
    wanted = [spec.name for spec in specs]
    if sorted(wanted) != sorted(arrays):
        raise ArtifactError(
            f"The golden {kind}s do not match the manifest.", where=f"golden {kind}s", expected=wanted, got=list(arrays)
        )
    entries = {}
    for index, spec in enumerate(specs):
        array = np.asarray(arrays[spec.name])
        if array.dtype != numpy_dtype(spec.dtype) or array.shape != spec.shape:
            raise ArtifactError(
                f"A golden {kind} does not match the manifest.",
                where=spec.name,
                expected=f"{spec.dtype} of shape {spec.shape}",
                got=f"{array.dtype} of shape {array.shape}",
            )
        entries[f"{kind}_{index}"] = np.array(array, order="C").view(carrier_dtype(spec.dtype))
    return entries


def _golden_arrays(
    path: Path, arrays: Mapping[str, np.ndarray], kind: str, specs: tuple[TensorSpec, ...]
) -> dict[str, np.ndarray]:
    found = {}
    for index, spec in enumerate(specs):
        array = arrays.get(f"{kind}_{index}")
        if array is None or array.dtype != carrier_dtype(spec.dtype) or array.shape != spec.shape:
            got = "nothing" if array is None else f"{array.dtype} of shape {array.shape}"
            raise _bad_golden(path, f"{kind}_{index}: {got}", f"{spec.dtype} of shape {spec.shape}")
        found[spec.name] = array.view(numpy_dtype(spec.dtype))
    return found


def _bad_golden(path: Path, got: str, expected: str | None = None) -> ArtifactError:
    return ArtifactError(
        "The golden file does not hold what the manifest says.",
        where=str(path),
        expected=expected or "an .npz file of plain arrays",
        got=got,
        hint=_COPY_AGAIN,
    )
