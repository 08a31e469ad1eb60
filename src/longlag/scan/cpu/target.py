"""From LLVM IR to machine code for this processor: compiled once, and kept on disk.

llvmlite carries LLVM inside its wheel, so no compiler is needed on the user's machine.
"""

import ctypes
import hashlib
import os
import stat
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm

_LOCK = threading.Lock()
if hasattr(os, "register_at_fork"):  # a process forked while another thread compiles can compile
    os.register_at_fork(
        before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_LOCK.release
    )
_FORMAT = 3
"""Goes up when the same IR must be compiled anew."""

SPEED = 3
"""LLVM's level of optimisation in making machine code; 0 takes an eighth of the time."""


@dataclass(frozen=True)
class Host:
    """The processor that kernels are compiled for.

    Attributes:
        cpu: LLVM's name for it.
        features: LLVM's feature string.
        vector_bytes: width of a vector register: 64 with AVX-512, 32 with AVX2, else 16.
        registers: number of vector registers.
        fma: whether it multiplies and adds in one instruction.
    """

    cpu: str
    features: str
    vector_bytes: int
    registers: int
    fma: bool

    def lanes(self, item_bytes: int) -> int:
        """Numbers of that size in one vector."""
        return self.vector_bytes // item_bytes


@cache
def host() -> Host:
    """The processor of this process, as LLVM sees it."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features()
    arm = "aarch64" in llvm.get_process_triple() or "arm64" in llvm.get_process_triple()
    if features.get("avx512f"):
        features["prefer-256-bit"] = False  # vectors are as wide as the kernels say
    if features.get("avx512f"):
        width, registers = 64, 32
    elif features.get("avx2") and features.get("fma"):
        width, registers = 32, 16
    else:
        width, registers = 16, 32 if arm else 16
    fma = arm or bool(features.get("fma"))
    return Host(llvm.get_host_cpu_name(), features.flatten(), width, registers, fma)


@cache
def _machine() -> Any:
    this = host()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine(
        cpu=this.cpu, features=this.features, opt=SPEED, reloc="pic", codemodel="jitdefault",
        jit=True,
    )  # fmt: skip


_ENGINES: dict[str, Any] = {}
"""By key, the engine of each module. Engines must outlive the addresses that they gave out."""


def compile_functions(text: str, signatures: dict[str, Sequence[Any]]) -> dict[str, Any]:
    """Compile a module and return its functions as ctypes functions without result.

    Args:
        text: the module, as LLVM IR.
        signatures: by function name, the ctypes types of its arguments.

    The object code is kept in a private folder, under a name that depends on the IR, the
    processor and the versions; an entry that is damaged or from elsewhere is compiled anew.
    """
    addresses = addresses_of(text, tuple(signatures))
    return {
        name: ctypes.CFUNCTYPE(None, *types)(addresses[name]) for name, types in signatures.items()
    }


def addresses_of(text: str, names: Sequence[str]) -> dict[str, int]:
    """Compile a module, as :func:`compile_functions` does, and return where its functions are.

    Args:
        text: the module, as LLVM IR.
        names: of the functions.
    """
    with _LOCK:
        key = _key(text)
        engine = _ENGINES.get(key)
        if engine is None:
            engine = _ENGINES[key] = _load(_cached(key, text))
        return {name: engine.get_function_address(name) for name in names}


def _compile(text: str) -> bytes:
    machine = _machine()
    module = llvm.parse_assembly(text)
    module.triple = llvm.get_process_triple()
    module.data_layout = str(machine.target_data)
    module.verify()
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=1))
    _passes(builder).run(module, builder)
    return machine.emit_object(module)


_PASSES = ("sroa", "simplify_cfg", "new_gvn", "instruction_combine", "simplify_cfg")
"""What is left to do for kernels, whose loops are as they should be: variables become registers,
equal values one. The usual passes take five times as long and make them no faster."""


def _passes(builder: Any) -> Any:
    """The passes over a module; the usual ones of a llvmlite (before 0.45) that has not all."""
    manager: Any = llvm.create_new_module_pass_manager()
    try:
        adding = [getattr(manager, f"add_{name}_pass") for name in _PASSES]
    except AttributeError:
        return builder.getModulePassManager()
    for add in adding:
        add()
    return manager


def _load(code: bytes) -> Any:
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _engine_machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    engine.run_static_constructors()
    return engine


def _engine_machine() -> Any:
    # An engine takes its target machine with it, so each has one of its own.
    this = host()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine(cpu=this.cpu, features=this.features, opt=3, jit=True)


def _key(text: str) -> str:
    """The name of an entry: all that the object code depends on."""
    this, versions = host(), (llvmlite.__version__, llvm.llvm_version_info)
    parts = (_FORMAT, SPEED, *versions, llvm.get_process_triple(), this.cpu, this.features, text)
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()


def _cached(key: str, text: str) -> bytes:
    """The object code, from disk where an entry is there and whole."""
    folder = _folder()
    if folder is None:
        return _compile(text)
    path = folder / f"{key}.o"
    kept = _read(path)
    if kept is not None:
        return kept
    code = _compile(text)
    _write(path, code)
    return code


def _folder() -> Path | None:
    """The private folder of compiled kernels; None where there can be none."""
    base = os.environ.get("LONGLAG_CACHE") or os.environ.get("XDG_CACHE_HOME")
    try:
        folder = (Path(base) if base else Path.home() / ".cache") / "longlag" / "kernels"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except (OSError, RuntimeError):
        return None
    if hasattr(os, "getuid") and (
        status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o022
    ):
        return None  # others could put code there
    return folder


def _read(path: Path) -> bytes | None:
    """The object code of an entry: digest, then code; None where it is not whole or another's."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, code = data[:32], data[32:]
    return code if code and _digest(path, code) == digest else None


def _digest(path: Path, code: bytes) -> bytes:
    return hashlib.sha256(path.stem.encode() + code).digest()


def _write(path: Path, code: bytes) -> None:
    """Put an entry there whole, or not at all; a cache that cannot be written is no error."""
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".kernel-")
        with os.fdopen(handle, "wb") as file:
            file.write(_digest(path, code) + code)
        os.replace(temporary, path)
    except OSError:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
