"""What a compiler must know of a machine: triple, instruction set, registers and caches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from edgeir.errors import EdgeIRError


@dataclass(frozen=True)
class Gpu:
    """What a schedule must know of a GPU.

    Attributes:
        arch: the compiler's name of the architecture (`sm_87`); "" where the source is compiled on the device.
        shared_bytes: static shared memory of one block.
        registers: 32-bit registers of one block.
        max_threads: threads of one block.
        warp: threads that run in step.
        processors: streaming multiprocessors.
        tensor_cores: element types that its matrix units multiply (`float16`, `int8`).
    """

    arch: str
    shared_bytes: int = 48 * 1024
    registers: int = 65536
    max_threads: int = 1024
    warp: int = 32
    processors: int = 8
    tensor_cores: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """One machine to compile for. Plain data: nothing here needs TVM.

    Attributes:
        name: the preset or text that it was made from (`host`, `x86-64-v3`, `cortex-a72`).
        triple: LLVM target triple.
        cpu: LLVM `-mcpu` name, or "" for the triple's generic processor.
        features: LLVM feature names beyond `cpu`, each with its sign (`+avx512vnni`).
        required: CPU features that a machine must report before code for this target may be loaded, in the
            names that the operating system uses (`avx2`, `fma`, `asimd`).
        vector_bits: width of one SIMD register in bits (0: scalar machine).
        vector_registers: number of SIMD registers.
        unit_bits: width of the units that execute vectors, where that is known to be less than a register's: a vector
            of `vector_bits` then takes several steps; 0 otherwise.
        fma: whether one instruction multiplies and adds.
        fma_per_cycle: vector FMAs issued per cycle and core.
        fma_latency: cycles from an FMA to its dependent FMA.
        l1_bytes, l2_bytes, l3_bytes: data cache sizes per core (l3: shared); 0 where there is none.
        cores: default number of threads.
        kind: TVM target kind (`llvm`, `cuda`, `opencl`, `metal`, `webgpu`).
        gpu: the GPU where `kind` is one's; the other fields then describe the CPU beside it.
    """

    name: str
    triple: str
    cpu: str = ""
    features: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    vector_bits: int = 128
    vector_registers: int = 16
    unit_bits: int = 0
    fma: bool = False
    fma_per_cycle: int = 1
    fma_latency: int = 4
    l1_bytes: int = 32 * 1024
    l2_bytes: int = 512 * 1024
    l3_bytes: int = 0
    cores: int = 1
    kind: str = "llvm"
    gpu: Gpu | None = None

    @property
    def architecture(self) -> str:
        """The triple's first part in one spelling: `x86_64`, `aarch64`, `arm`, `riscv64`, `wasm32`, …"""
        return architecture_of(self.triple)

    def lanes(self, dtype_bits: int = 32) -> int:
        """Elements of `dtype_bits` bits in one SIMD register; 1 on a scalar machine."""
        return max(1, self.vector_bits // dtype_bits)

    def has(self, feature: str) -> bool:
        """Whether code for this target may use a CPU feature.

        Args:
            feature: the operating system's name (`avx512_vnni`, `asimddp`), as in `required`.
        """
        return feature in self.required

    def with_cores(self, cores: int) -> Target:
        """The same machine with another default number of threads (at least 1)."""
        if cores < 1:
            raise EdgeIRError("A target needs at least one core.", where="cores", expected="an integer ≥ 1", got=cores)
        return replace(self, cores=cores)

    def tvm_config(self) -> dict[str, Any]:
        """The dictionary that `tvm.target.Target` takes; a GPU's holds its CPU as `host`."""
        if self.gpu is not None:
            return {**_gpu_config(self.kind, self.gpu), "host": replace(self, kind="llvm", gpu=None).tvm_config()}
        config: dict[str, Any] = {"kind": self.kind, "mtriple": self.triple, "num-cores": self.cores}
        if self.cpu:
            config["mcpu"] = self.cpu
        features = list(self.features)
        if self.has("avx512_vnni") or self.has("avx_vnni"):
            # LLVM otherwise replaces vpdpwssd by a product and an addition where it believes that they are no slower.
            features.append("+fast-dpwssd")
        if features:
            config["mattr"] = features
        if self.triple.endswith("eabihf"):
            # LLVM takes the convention of float arguments from this alone, not from the triple.
            config["mfloat-abi"] = "hard"
        if self.architecture == "wasm32":
            # TVM knows no register width for wasm and warns at every compilation unless told.
            config["vector-width"] = self.vector_bits
        return config

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values; `from_dict` reads them back to an equal target."""
        return _plain(asdict(self))

    @staticmethod
    def from_dict(data: object) -> Target:
        """Read what `to_dict` wrote.

        Raises:
            EdgeIRError: `data` is not a mapping with exactly the fields of a target, each of its type.
        """
        names = [field.name for field in fields(Target)]
        if not isinstance(data, Mapping):
            raise EdgeIRError("A target must be a mapping.", expected=f"keys {names}", got=type(data).__name__)
        missing = [name for name in names if name not in data]
        unknown = sorted(str(key) for key in data if key not in names)
        if missing or unknown:
            raise EdgeIRError(
                "The description of a target has the wrong keys.",
                expected=f"keys {names}",
                got=f"missing {missing}, unknown {unknown}",
            )
        values = {field.name: _checked(field.name, str(field.type), data[field.name]) for field in fields(Target)}
        if (values["kind"] == "llvm") != (values["gpu"] is None):
            raise EdgeIRError(
                "A target's kind and its GPU contradict each other.",
                where="kind",
                expected="a gpu unless the kind is llvm",
                got=f"{values['kind']}, gpu {data['gpu']!r}",
            )
        return Target(**values)


def _gpu_config(kind: str, gpu: Gpu) -> dict[str, Any]:
    config: dict[str, Any] = {
        "kind": kind,
        "max_num_threads": gpu.max_threads,
        "thread_warp_size": gpu.warp,
        "max_shared_memory_per_block": gpu.shared_bytes,
    }
    return config | {"arch": gpu.arch, "max_threads_per_block": gpu.max_threads} if kind == "cuda" else config


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: list(value) if isinstance(value, tuple) else _plain(value) if isinstance(value, Mapping) else value
        for key, value in values.items()
    }


def _gpu(value: object) -> Gpu | None:
    if value is None:
        return None
    kinds = {field.name: str(field.type) for field in fields(Gpu)}
    if not isinstance(value, Mapping) or set(value) != set(kinds):
        raise EdgeIRError(
            "A field of a target has the wrong type.", where="gpu", expected=f"null or keys {list(kinds)}", got=value
        )
    return Gpu(**{name: _checked(name, kind, value[name]) for name, kind in kinds.items()})


def architecture_of(triple: str) -> str:
    """The architecture of an LLVM triple or of `platform.machine()`, in LLVM's most usual spelling."""
    first = triple.lower().split("-", 1)[0]
    if first in ("amd64", "x86_64", "x64"):
        return "x86_64"
    if first in ("arm64", "aarch64", "arm64e"):
        return "aarch64"
    if first in ("x86", "i386", "i486", "i586", "i686"):
        return "i386"
    if first.startswith(("armv", "thumbv")) or first in ("arm", "thumb"):
        return "arm"
    return first


def _checked(name: str, kind: str, value: object) -> Any:
    """`value` as the field's type (`str`, `int`, `bool` or a tuple of `str`), or an error that names the field."""
    if name == "gpu":
        return _gpu(value)
    good = False
    if kind == "str":
        good = isinstance(value, str) and (value != "" or name in ("cpu", "arch"))
    elif kind == "bool":
        good = isinstance(value, bool)
    elif kind == "int":
        good = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    elif isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if not good:
        expected = {"int": "an integer ≥ 0", "str": "a string", "bool": "true or false"}.get(kind, "a list of strings")
        raise EdgeIRError("A field of a target has the wrong type.", where=name, expected=expected, got=repr(value))
    return value
