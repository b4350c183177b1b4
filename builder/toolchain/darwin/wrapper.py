"""The compiler that a build for macOS sees: zig's, with the arguments put right and logged.

Started once for each compiler call, so it imports little and runs under ``python -I -S``. What
it changes in a command is decided by `rewritten`, which touches no file. Every call becomes one
JSON line in the file that WHEELFARM_TOOL_LOG names.
"""

from __future__ import annotations

import json
import os
import shlex
import sys

# Not from typing, whose import takes longer than the rest of this file.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MAX_LOG_BYTES = 32 << 20
"""The log stops growing here; a build that gets this far is logged no further."""
MAX_LINE_BYTES = 64 << 10
MAX_RESPONSE_BYTES = 4 << 20

CPLUSPLUS_SUFFIXES = (".cc", ".cpp", ".cxx", ".c++", ".cp", ".C", ".CPP", ".mm")
SOURCE_SUFFIXES = (*CPLUSPLUS_SUFFIXES, ".c", ".m", ".s", ".S", ".i", ".ii")

# What another compiler, or another machine, was meant with.
_DROPPED_WITH_VALUE = frozenset(
    ["-arch", "-isysroot", "--sysroot", "-target", "-bundle_loader", "-syslibroot"]
)
_DROPPED = frozenset(
    [
        *("-march=native", "-mtune=native", "-mcpu=native", "-stdlib=libc++"),
        *("-s", "-Wl,-s", "-Wl,-S", "-Wl,-x", "-Wl,-w", "-Wl,-search_paths_first"),
        *("-Wl,-no_warn_duplicate_libraries", "-Wl,-ld_classic", "-Wl,-no_fixup_chains"),
        *("-flat_namespace", "-lgcc", "-lgcc_s", "-pthread", "-fno-lto", "-fno-plt"),
    ]
)
_DROPPED_BY_START = (
    *("-mmacosx-version-min=", "-mmacos-version-min=", "--target=", "--sysroot="),
    *("-flto", "-fuse-ld=", "-fprofile-", "-ffat-lto-objects", "-Wl,-syslibroot,"),
    *("-Wl,-macosx_version_min,", "-Wl,-platform_version,", "-Wl,-bundle_loader,"),
)
_REPLACED = {"-bundle": "-shared", "-dynamiclib": "-shared", "-lstdc++": "-lc++"}

_FOLDER_FLAGS = ("-isystem", "-idirafter", "-iquote", "-I", "-L", "-F")
_WITH_VALUE = frozenset(
    [
        *("-o", "-x", "-D", "-U", "-l", "-u", "-T", "-MF", "-MT", "-MQ", "-include", "-imacros"),
        *("-Xlinker", "-Xclang", "-Xpreprocessor", "-Xassembler", "-framework", "-undefined"),
        *(
            "-iframework",
            "-weak_framework",
            "-install_name",
            "-exported_symbols_list",
            "-rpath",
            "-mllvm",
        ),
        *("-compatibility_version", "-current_version", "-unexported_symbols_list", "-e", "-z"),
        *_FOLDER_FLAGS,
    ]
)
_NO_LINK = frozenset(["-c", "-S", "-E", "-M", "-MM", "-fsyntax-only"])

# Folders of the machine that runs the build; nothing in them is for macOS.
_HOST_FOLDERS = (
    *("/usr/include", "/usr/lib", "/usr/lib32", "/usr/lib64", "/lib", "/lib32", "/lib64"),
    *("/usr/local/include", "/usr/local/lib", "/usr/local/opt", "/usr/X11", "/usr/X11R6"),
    *("/opt/local", "/opt/homebrew", "/sw", "/System", "/Library", "/usr/pkg"),
)

# clang 22 makes errors of what the compilers of most sdists' authors only warn of.
_LENIENT = (
    "-Wno-error=implicit-function-declaration",
    "-Wno-error=int-conversion",
    "-Wno-error=incompatible-pointer-types",
)


class Refused(Exception):  # noqa: N818 - said to a person, in the words of a compiler
    """A command that cannot work, and why."""


class Facts:
    """What the rules need to know of the target and of the machine that runs the build.

    `triple` is zig's name of the target; `include` the target's Python headers, which stand in for
    the folders `native_includes` of the build's own Python; `native_lib` holds its libpython.
    `sdk` is a macOS SDK or None. `root` is the build's own folder, which no object file names.
    """

    __slots__ = ("include", "native_includes", "native_lib", "root", "sdk", "triple")

    def __init__(
        self,
        *,
        triple: str,
        include: str,
        native_includes: Sequence[str] = (),
        native_lib: str | None = None,
        sdk: str | None = None,
        root: str | None = None,
    ) -> None:
        self.triple = triple
        self.include = include
        self.native_includes = frozenset(native_includes)
        self.native_lib = native_lib
        self.sdk = sdk
        self.root = root


class Command:
    """What a compiler call is about: `links`, `output`, `inputs`, `cplusplus`."""

    __slots__ = ("cplusplus", "inputs", "links", "output")

    def __init__(self, tool: str, args: Sequence[str]) -> None:
        self.inputs: list[str] = []
        self.output: str | None = None
        language = ""
        pending = ""
        for arg in args:
            if pending:
                self.output = arg if pending == "-o" else self.output
                language = arg if pending == "-x" else language
                pending = ""
            elif arg in _WITH_VALUE:
                pending = arg
            elif arg.startswith("-o") and len(arg) > 2:
                self.output = arg[2:]
            elif arg.startswith("-x"):
                language = arg[2:]
            elif not arg.startswith("-") or arg == "-":
                self.inputs.append(arg)
        self.links = bool(self.inputs) and not _NO_LINK.intersection(args)
        self.cplusplus = tool == "c++" or language == "c++" or self._speaks_cplusplus(args)

    def _speaks_cplusplus(self, args: Sequence[str]) -> bool:
        if any(name.endswith(CPLUSPLUS_SUFFIXES) for name in self.inputs):
            return True
        return self.links and ("-lc++" in args or "-lstdc++" in args)


def rewritten(tool: str, args: Sequence[str], facts: Facts) -> list[str]:
    """The arguments for zig in place of ``tool args`` (`tool` is ``cc`` or ``c++``).

    Raises Refused for a framework when there is no SDK.
    """
    kept = list(_put_right(args, facts))
    command = Command(tool, kept)
    kept = ["c++" if command.cplusplus else "cc", "-target", facts.triple, *kept]
    if command.inputs:
        kept += _added(command, facts)
        kept += _install_name(command, kept)
    return kept


def _put_right(args: Sequence[str], facts: Facts) -> Iterator[str]:
    words = iter(args)
    for arg in words:
        if arg in _DROPPED_WITH_VALUE:
            next(words, None)
        elif arg in _DROPPED or arg.startswith(_DROPPED_BY_START):
            continue
        elif arg.startswith(("-framework", "-weak_framework", "-Wl,-framework")):
            _need_sdk(arg, words, facts)
            yield from _framework(arg, words)
        elif flag := _folder_flag(arg):
            folder = arg[len(flag) :] or next(words, "")
            yield from _folder(flag, folder, facts)
        elif arg in _WITH_VALUE:
            yield from _pair(arg, next(words, None))
        else:
            yield _REPLACED.get(arg, arg)


def _pair(flag: str, value: str | None) -> Iterator[str]:
    joined = flag + (value or "")
    if flag == "-l" and joined in _REPLACED:
        yield _REPLACED[joined]
        return
    yield flag
    if value is not None:
        yield value


def _folder_flag(arg: str) -> str | None:
    return next((flag for flag in _FOLDER_FLAGS if arg.startswith(flag)), None)


def _folder(flag: str, folder: str, facts: Facts) -> Iterator[str]:
    absolute = os.path.abspath(folder)
    if flag in ("-L", "-F"):
        if absolute == facts.native_lib or _on_host(absolute):
            return
    elif absolute in facts.native_includes:
        folder = facts.include
    elif _on_host(absolute):
        return
    yield from (flag, folder)


def _on_host(folder: str) -> bool:
    return any(folder == host or folder.startswith(host + "/") for host in _HOST_FOLDERS)


def _need_sdk(arg: str, words: Iterator[str], facts: Facts) -> None:
    if facts.sdk is None:
        name = arg.rpartition(",")[2] if "," in arg else next(words, "?")
        raise Refused(
            f"framework '{name}' is Apple's and not part of this toolchain; "
            "a macOS SDK has to be given for it"
        )


def _framework(arg: str, words: Iterator[str]) -> Iterator[str]:
    if "," in arg:
        yield arg
    else:
        yield from (arg, next(words, ""))


def _added(command: Command, facts: Facts) -> Iterator[str]:
    if facts.root:
        yield f"-ffile-prefix-map={facts.root}=."
    yield from ("-g0", "-fno-sanitize=undefined")
    if not command.cplusplus:
        yield from _LENIENT
    if command.links:
        yield from _added_to_link(command)
    if facts.sdk:
        yield from _sdk_flags(facts.sdk, links=command.links)


def _added_to_link(command: Command) -> Iterator[str]:
    # zig makes a libc++ of its own for each level of optimisation it is asked to link at, for
    # half a minute each: one level for all links, unless the call compiles too.
    if not any(name.endswith(SOURCE_SUFFIXES) for name in command.inputs):
        yield "-O2"
    # Room for a repair tool to write longer library names into the finished file.
    yield "-Wl,-headerpad_max_install_names"


def _install_name(command: Command, args: Sequence[str]) -> Iterator[str]:
    # A bundle has none, a library's is its output path unless said: a folder of this build.
    named = any("-install_name" in arg for arg in args)
    if command.links and "-shared" in args and command.output and not named:
        yield f"-Wl,-install_name,@rpath/{os.path.basename(command.output)}"


def _sdk_flags(sdk: str, *, links: bool) -> Iterator[str]:
    frameworks = f"{sdk}/System/Library/Frameworks"
    yield from ("-idirafter", f"{sdk}/usr/include", "-iframework", frameworks)
    if links:
        yield from ("-F", frameworks, f"-L{sdk}/usr/lib")


def expanded(args: Iterable[str]) -> Iterator[str]:
    """`args` with the words of each response file (``@file``) in its place, one level deep.

    Raises Refused for one that is too long; a name that is no file stays as it is.
    """
    for arg in args:
        if arg.startswith("@") and os.path.isfile(arg[1:]):
            with open(arg[1:], encoding="utf-8", errors="surrogateescape") as file:
                text = file.read(MAX_RESPONSE_BYTES + 1)
            if len(text) > MAX_RESPONSE_BYTES:
                raise Refused(f"response file {arg[1:]!r} is longer than {MAX_RESPONSE_BYTES}")
            yield from shlex.split(text)
        else:
            yield arg


def facts_of(folder: str) -> Facts:
    """The facts of the toolchain in `folder`, and of the build by its environment variables."""
    with open(os.path.join(folder, "target.json"), encoding="utf-8") as file:
        target = json.load(file)
    return Facts(
        triple=target["zig_target"],
        include=os.path.join(folder, "include"),
        native_includes=os.environ.get("WHEELFARM_NATIVE_INCLUDES", "").split(os.pathsep),
        native_lib=os.environ.get("WHEELFARM_NATIVE_LIB"),
        sdk=os.environ.get("WHEELFARM_SDK") or None,
        root=os.environ.get("WHEELFARM_BUILD_ROOT") or None,
    )


def log_call(record: dict[str, object]) -> None:
    """Append `record` to the log as one line, as long as the log is not full."""
    name = os.environ.get("WHEELFARM_TOOL_LOG")
    line = json.dumps(record).encode() + b"\n"
    if not name:
        return
    if len(line) > MAX_LINE_BYTES:
        line = json.dumps({**record, "args": [], "cut": True}).encode() + b"\n"
    handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        if os.fstat(handle).st_size + len(line) <= MAX_LOG_BYTES:
            os.write(handle, line)  # one write, so that parallel calls do not mix
    finally:
        os.close(handle)


def run(program: str, args: Sequence[str]) -> int:
    """Run `program`; give its exit status, or 128 and the signal, as a shell does."""
    status = os.spawnv(os.P_WAIT, program, [program, *args])  # noqa: S606
    return status if status >= 0 else 128 - status


def compile_or_link(tool: str, args: Sequence[str], folder: str, zig: str) -> int:
    """Run one call of ``cc`` or ``c++``, and log it."""
    words = list(expanded(args))
    command = Command(tool, words)
    record: dict[str, object] = {
        "tool": tool,
        "args": words,
        "cwd": os.getcwd(),
        "output": command.output,
        "links": command.links,
        "cplusplus": command.cplusplus,
    }
    try:
        status = run(zig, rewritten(tool, words, facts_of(folder)))
    except Refused as error:
        sys.stderr.write(f"{tool}: error: {error}\n")
        status = 1
    _drop_empty(command.output, status)
    log_call({**record, "status": status})
    return status


def _drop_empty(output: str | None, status: int) -> None:
    # A linker that dies leaves a file of no bytes, which a later step would take for a module.
    if status and output and os.path.isfile(output) and os.path.getsize(output) == 0:
        os.unlink(output)


def main(argv: Sequence[str]) -> int:
    """Run the tool ``argv[1]`` with the rest of `argv`; give its exit status."""
    tool, args = argv[1], argv[2:]
    zig = os.environ.get("WHEELFARM_ZIG", "")
    if not zig:
        sys.stderr.write(f"{tool}: error: this compiler runs only inside a wheelfarm build\n")
        return 1
    if tool in ("cc", "c++"):
        return compile_or_link(tool, args, os.path.dirname(os.path.abspath(__file__)), zig)
    status = _other_tool(tool, args, zig)
    log_call({"tool": tool, "args": list(args), "status": status})
    return status


def _other_tool(tool: str, args: Sequence[str], zig: str) -> int:
    if tool in ("ar", "ranlib"):
        return run(zig, [tool, *args])
    if tool == "strip":
        return 0  # everything is compiled with -g0: there is nothing to take out
    sys.stderr.write(f"{tool}: error: this toolchain cannot change a linked file\n")
    return 1


def _exit(status: int) -> None:
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    try:
        _exit(main(sys.argv))
    except (Refused, OSError, ValueError, KeyError) as problem:
        sys.stderr.write(f"{sys.argv[1]}: error: {problem}\n")
        _exit(1)
