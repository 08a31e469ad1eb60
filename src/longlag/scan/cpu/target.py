"""From LLVM IR to machine code for this processor: compiled once, and kept on disk.

llvmlite carries LLVM inside its wheel, so no compiler is needed on the user's machine.
"""

import ctypes
import hashlib
import os
import re
import stat
import tempfile
import threading
import warnings
from collections.abc import Sequence
from contextlib import suppress
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
        arm: whether it is an ARM of 64 bits; else it is an x86.
    """

    cpu: str
    features: str
    vector_bytes: int
    registers: int
    fma: bool
    arm: bool

    @property
    def avx512(self) -> bool:
        """Whether it is an x86 with AVX-512, for vectors of 16 and 32 bytes too."""
        return self.vector_bytes == 64 and "+avx512vl" in self.features

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
    return Host(llvm.get_host_cpu_name(), features.flatten(), width, registers, fma, arm)


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


ARGUMENTS: dict[int, int] = {}
"""By address, how many arguments a compiled function has."""

_DEFINED = re.compile(r'^define \w+ @"?([\w.]+)"?\(([^)]*)\)', re.MULTILINE)


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
        found = {name: engine.get_function_address(name) for name in names}
        for name, arguments in _DEFINED.findall(text):
            if name in found:
                ARGUMENTS[found[name]] = arguments.count(",") + bool(arguments)
        return found


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
    made = (_FORMAT, SPEED, *_PASSES, *versions)
    parts = (*made, llvm.get_process_triple(), this.cpu, this.features, text)
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
    """The private folder of compiled kernels; None where there can be none, which is said once."""
    try:
        return _private_folder()
    except (OSError, RuntimeError) as error:
        _say(str(error))
        return None


@cache
def _say(problem: str) -> None:
    warnings.warn(
        f"compiled kernels are not kept ({problem}), so each process compiles them anew; name a "
        "folder for them that only you can write to in LONGLAG_CACHE",
        RuntimeWarning,
        stacklevel=2,
    )


def _private_folder() -> Path:
    """The folder, made where it is missing.

    Code in it is run, so nobody but this user and the administrator may put anything there, nor
    in another's place: that is asked of the folder and of all that it lies in.

    Raises:
        OSError, RuntimeError: there can be no such folder.
    """
    name = "LONGLAG_CACHE" if os.environ.get("LONGLAG_CACHE") else "XDG_CACHE_HOME"
    base = Path(os.environ.get(name) or Path.home() / ".cache")
    if not base.is_absolute():
        raise OSError(f"{name} is {os.fspath(base)!r}, expected an absolute path")
    # Links on the way are the user's own affair; what they lead to is checked.
    folder = Path(os.path.realpath(base)) / "longlag" / "kernels"
    for part in (*reversed(folder.parents), folder):
        try:
            status = os.lstat(part)
        except FileNotFoundError:
            with suppress(FileExistsError):  # made by another process by now
                os.mkdir(part, 0o700)
            status = os.lstat(part)
        problem = _problem(part, status, private=part == folder)
        if problem:
            raise OSError(f"{part} {problem}")
    return folder


def _problem(part: Path, status: os.stat_result, private: bool) -> str:
    """Why another user could change what lies in a folder; "" where none can."""
    if not stat.S_ISDIR(status.st_mode):
        return "is no folder"
    if not hasattr(os, "getuid") or part == part.parent:
        return ""  # who owns the root owns all
    if status.st_uid != os.getuid() and (private or status.st_uid != 0):
        return f"belongs to user {status.st_uid}"
    if not status.st_mode & 0o022:
        return ""
    # In a folder like /tmp others can add to what is there, and not replace it.
    sticky, group_alone = status.st_mode & stat.S_ISVTX, not status.st_mode & 0o002
    if not private and (sticky or (group_alone and _is_own_group(status.st_gid))):
        return ""
    return f"can be written by others (mode {stat.S_IMODE(status.st_mode):o})"


def _is_own_group(group: int) -> bool:
    """Whether a group has this user alone, as many systems give one to each."""
    import grp
    import pwd

    try:
        name, entry = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(group)
    except KeyError:
        return False
    return entry.gr_name == name and {*entry.gr_mem} <= {name}


def _read(path: Path) -> bytes | None:
    """The object code of an entry: digest, then code; None where it is not whole or another's."""
    try:
        with open(path, "rb", opener=_open_itself) as file:
            if not _is_own_file(os.fstat(file.fileno())):
                return None
            data = file.read()
    except OSError:
        return None
    digest, code = data[:32], data[32:]
    return code if code and _digest(path, code) == digest else None


def _open_itself(name: str, flags: int) -> int:
    """Open what is there and nothing that it leads to, without waiting for a pipe's writer."""
    return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


def _is_own_file(status: os.stat_result) -> bool:
    if not stat.S_ISREG(status.st_mode):
        return False
    if not hasattr(os, "getuid"):
        return True
    return status.st_uid == os.getuid() and not status.st_mode & 0o022


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
