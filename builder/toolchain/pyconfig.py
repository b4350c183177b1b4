"""pyconfig.h of a macOS interpreter, from a native one as template and what the compiler says.

The template's own comments say what each macro is about ("you have the <sys/stat.h> header
file"), so the questions are read from it; nothing here lists headers or functions by hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

Macros = Mapping[str, str | None]
"""Macro name -> its text, or None where it is not defined."""

MAX_BYTES: Final = 1 << 20

_DEFINE: Final = re.compile(r"[ \t]*#[ \t]*define[ \t]+([A-Za-z_]\w*)(?:[ \t]+(.*?))?[ \t]*")
_UNDEF: Final = re.compile(r"[ \t]*/\*[ \t]*#[ \t]*undef[ \t]+([A-Za-z_]\w*)[ \t]*\*/[ \t]*")
_HEADER: Final = re.compile(r"have the <([\w./+-]+)> header\s+file")
_FUNCTION: Final = re.compile(r"have the [`']([a-z_]\w*)['’] function")
_SIZE: Final = re.compile(r"(SIZEOF|ALIGNOF)_(\w+)")
_TYPES: Final = {
    "_BOOL": "_Bool",
    "LONG_DOUBLE": "long double",
    "LONG_LONG": "long long",
    "MAX_ALIGN_T": "max_align_t",
    "VOID_P": "void *",
}

# Functions that libSystem has, and since when: an older baseline does without.
_SINCE: Final = {
    "aligned_alloc": (10, 15), "clock_getres": (10, 12), "clock_gettime": (10, 12),
    "clock_settime": (10, 12), "fdopendir": (10, 10), "fstatat": (10, 10), "futimens": (10, 13),
    "getentropy": (10, 12), "linkat": (10, 10), "mkdirat": (10, 10), "mkfifoat": (13, 0),
    "mknodat": (13, 0), "openat": (10, 10), "preadv": (11, 0), "ptsname_r": (10, 14),
    "pwritev": (11, 0), "readlinkat": (10, 10), "renameat": (10, 10), "symlinkat": (10, 10),
    "unlinkat": (10, 10), "utimensat": (10, 13), "faccessat": (10, 10), "fchmodat": (10, 10),
    "fchownat": (10, 10),
}  # fmt: skip

# What configure finds on macOS and neither a header nor libSystem's list of names can tell.
_DARWIN: Final[Macros] = {
    # With these two defined, the system's headers hide what is not POSIX.
    "_POSIX_C_SOURCE": None,
    "_XOPEN_SOURCE": None,
    "_XOPEN_SOURCE_EXTENDED": None,
    "_DARWIN_C_SOURCE": "1",
    "HAVE_BROKEN_SEM_GETVALUE": "1",
    "HAVE_DECL_RTLD_DEEPBIND": "0",
    "HAVE_DECL_RTLD_MEMBER": "0",
    "HAVE_DEV_PTC": None,
    "HAVE_DEV_PTMX": "1",
    "HAVE_GETHOSTBYNAME": "1",
    "HAVE_GETHOSTBYNAME_R": None,
    "HAVE_GETHOSTBYNAME_R_3_ARG": None,
    "HAVE_GETHOSTBYNAME_R_5_ARG": None,
    "HAVE_GETHOSTBYNAME_R_6_ARG": None,
    "HAVE_GETRANDOM": None,
    "HAVE_GETRANDOM_SYSCALL": None,
    "HAVE_GLIBC_MEMMOVE_BUG": None,
    "HAVE_LIBSENDFILE": None,
    "HAVE_LINUX_CAN_RAW_FD_FRAMES": None,
    "HAVE_LINUX_CAN_RAW_JOIN_FILTERS": None,
    "HAVE_LINUX_VM_SOCKETS_H": None,
    "HAVE_POSIX_FADVISE": None,
    "HAVE_POSIX_FALLOCATE": None,
    "HAVE_SOCKADDR_ALG": None,
    "HAVE_SOCKADDR_SA_LEN": "1",
    "HAVE_STAT_TV_NSEC": None,
    "HAVE_STAT_TV_NSEC2": "1",
    "HAVE_STRUCT_STAT_ST_BIRTHTIME": "1",
    "HAVE_STRUCT_STAT_ST_FLAGS": "1",
    "HAVE_STRUCT_STAT_ST_GEN": "1",
    "HAVE_SYS_SYSMACROS_H": None,
    "MAJOR_IN_SYSMACROS": None,
    "PTHREAD_SYSTEM_SCHED_SUPPORTED": "1",
    "Py_DEBUG": None,
    "Py_ENABLE_SHARED": None,
    "Py_TRACE_REFS": None,
    "WITH_DYLD": "1",
    "X87_DOUBLE_ROUNDING": None,
}
_X86_64: Final = ("HAVE_GCC_ASM_FOR_X64", "HAVE_GCC_ASM_FOR_X87")


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """What a pyconfig.h asks of the system: macro -> header, function, or C expression."""

    headers: Mapping[str, str]
    functions: Mapping[str, str]
    sizes: Mapping[str, str]


def questions_of(template: str) -> Questions:
    """The questions that the comments and macros of `template` (a pyconfig.h) put."""
    names = tuple(macros_of(template))
    return Questions(
        headers=dict(_commented(template, _HEADER)),
        functions=dict(_commented(template, _FUNCTION)),
        sizes={name: text for name in names if (text := _size_expression(name))},
    )


def macros_of(text: str) -> dict[str, str | None]:
    """Every macro that the pyconfig.h `text` defines or says it leaves undefined."""
    found: dict[str, str | None] = {}
    for line in text.splitlines():
        if match := _DEFINE.fullmatch(line):
            found[match[1]] = match[2] or ""
        elif match := _UNDEF.fullmatch(line):
            found.setdefault(match[1], None)
    return found


def darwin_macros(arch: str, *, free_threaded: bool) -> dict[str, str | None]:
    """The macros that are so on every macOS, or follow from `arch` and the kind of build."""
    assembly = dict.fromkeys(_X86_64, "1" if arch == "x86_64" else None)
    return {**_DARWIN, **assembly, "Py_GIL_DISABLED": "1" if free_threaded else None}


def function_macros(
    questions: Questions, symbols: frozenset[str], baseline: tuple[int, int]
) -> dict[str, str | None]:
    """The macros of functions: defined where libSystem has them at `baseline`."""
    return {
        macro: "1" if name in symbols and _SINCE.get(name, (0, 0)) <= baseline else None
        for macro, name in questions.functions.items()
    }


def with_macros(template: str, answers: Macros) -> str:
    """`template` with the macros of `answers` defined or undefined as they say.

    A macro that the template does not know is added at its end.
    """
    missing = dict(answers)
    lines = [_line(line, answers, missing) for line in template.splitlines()]
    added = [f"#define {name} {text}" for name, text in sorted(missing.items()) if text is not None]
    return "\n".join([*lines, *added]) + "\n"


def _line(line: str, answers: Macros, missing: dict[str, str | None]) -> str:
    match = _DEFINE.fullmatch(line) or _UNDEF.fullmatch(line)
    if match is None or match[1] not in answers:
        return line
    name = match[1]
    missing.pop(name, None)
    text = answers[name]
    return f"/* #undef {name} */" if text is None else f"#define {name} {text}".rstrip()


def _commented(template: str, pattern: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    subject: str | None = None
    for line in template.splitlines():
        if match := _DEFINE.fullmatch(line) or _UNDEF.fullmatch(line):
            if subject:
                yield match[1], subject
            subject = None
        elif found := pattern.search(line):
            subject = found[1]


def _size_expression(macro: str) -> str | None:
    match = _SIZE.fullmatch(macro)
    if match is None:
        return None
    kind = _TYPES.get(match[2]) or match[2].lower()
    # _Alignof of C11 gives what configure's offsetof trick gives, for these types.
    return f"{'sizeof' if match[1] == 'SIZEOF' else '_Alignof'}({kind})"
