"""What LLVM's tools say of a binary: llvm-objdump, llvm-nm, llvm-readelf, llvm-readobj, parsed.

Debian has them in its package llvm. ``llvm-objdump --arch=all`` shows every slice of a fat file;
llvm-otool, whatever it is asked, the first. Fields and words are those of `builder.binaries.image`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

TOOLS: Final = ("llvm-objdump", "llvm-nm", "llvm-readelf", "llvm-readobj")
_SECONDS: Final = 300
_KINDS: Final = {
    "LC_LOAD_DYLIB": "load",
    "LC_LOAD_WEAK_DYLIB": "weak",
    "LC_REEXPORT_DYLIB": "reexport",
    "LC_LOAD_UPWARD_DYLIB": "upward",
    "LC_LAZY_LOAD_DYLIB": "lazy",
}
_CPUS: Final = {
    ("X86_64", "ALL"): "x86_64",
    ("X86_64", "H"): "x86_64h",
    ("ARM64", "ALL"): "arm64",
    ("ARM64", "E"): "arm64e",
    ("I386", "ALL"): "i386",
}
_MACHINES: Final = {
    "Advanced Micro Devices X86-64": "x86_64",
    "Intel 80386": "i686",
    "AArch64": "aarch64",
    "ARM": "armv7l",
    "PowerPC64": "ppc64le",
    "IBM S/390": "s390x",
    "RISC-V": "riscv64",
}
_PE_MACHINES: Final = {"I386": "x86", "AMD64": "amd64", "ARM64": "arm64", "ARMNT": "arm"}
_SYMBOL: Final = re.compile(
    r" *\d+: [0-9a-f]+ +\S+ (?P<kind>\S+) +(?P<bind>\S+) +(?P<seen>\S+) +"
    r"(?:\[.*?\] +)?(?P<at>\S+) (?P<name>\S+)"
)
_VISIBLE: Final = frozenset({"DEFAULT", "PROTECTED"})
_NEED: Final = re.compile(r"^  0x\w+: Version: 1  File: (.*)  Cnt: \d+$")
_VERSION: Final = re.compile(r"^  0x\w+:   Name: (\S+)  Flags: ")


def missing_tools() -> list[str]:
    """Those of the tools that this machine does not have."""
    return [tool for tool in TOOLS if shutil.which(tool) is None]


def macho(path: Path) -> list[dict[str, Any]]:
    """Fields of `MachSlice` for each slice of the Mach-O file at `path`, in the file's order."""
    headers = _slices(_run("llvm-objdump", "--macho", "--private-headers", "--arch=all", path))
    symbols = _slices(_run("llvm-nm", "--arch=all", "--extern-only", "--format=posix", path))
    tries = _slices(_run("llvm-objdump", "--macho", "--exports-trie", "--arch=all", path))
    parts = zip(headers, symbols, tries, strict=True)
    return [_load_commands(head) | _mach_symbols(table, trie) for head, table, trie in parts]


def elf(path: Path) -> dict[str, Any]:
    """Fields of `ElfFile`, of the ELF file at `path`."""
    text = _run("llvm-readelf", "-W", "-h", "-l", "-d", "-V", "--dyn-syms", path)
    stack = re.search(r"^  GNU_STACK .* (\S*[RWE][RWE ]*) 0x\w+$", text, re.MULTILINE)
    return {
        "arch": _MACHINES[_after(text, r"^  Machine: +(.*)$") or ""],
        "filetype": "ET_" + (_after(text, r"^  Type: +(\w+)") or ""),
        "little_endian": "complement, little endian" in text,
        "interpreter": _after(text, r"Requesting program interpreter: (.*)\]"),
        "soname": _after(text, r"\(SONAME\) .*: \[(.*)\]$"),
        "version_needs": _version_needs(text),
        "executable_stack": stack is not None and "E" in stack[1],
        **_search_paths(text),
        **_elf_symbols(text),
    }


def pe(path: Path) -> dict[str, Any]:
    """Fields of `PeFile`, of the PE file at `path`."""
    text = _run("llvm-readobj", "--file-headers", "--coff-imports", "--coff-exports", path)
    machine = _after(text, r"^  Machine: IMAGE_FILE_MACHINE_(\w+)") or ""
    now, delayed = _imports(text, "Import"), _imports(text, "DelayImport")
    return {
        "arch": _PE_MACHINES[machine],
        "filetype": "DLL" if "    IMAGE_FILE_DLL (" in text else "EXE",
        "dependencies": [name for name, _ in now],
        "delayed": [name for name, _ in delayed],
        "exports": set(re.findall(r"^Export \{\n.*\n  Name: (\S+)$", text, re.MULTILINE)),
        "undefined": {symbol for _, symbols in [*now, *delayed] for symbol in symbols},
        "managed": "CLRRuntimeHeaderSize: 0x0\n" not in text,
    }


def _run(tool: str, *arguments: str | Path) -> str:
    command = [tool, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=_SECONDS)
    return done.stdout.decode("utf-8", "surrogateescape")


def _after(text: str, pattern: str) -> str | None:
    found = re.search(pattern, text, re.MULTILINE)
    return found[1] if found else None


# --- Mach-O ------------------------------------------------------------------------------------


def _slices(text: str) -> list[str]:
    """The part of a tool's answer for each slice; a thin file's bears no heading."""
    parts = re.split(r"^\S.* \((?:for )?architecture \S+\):$\n", text, flags=re.MULTILINE)
    return parts[1:] if len(parts) > 1 else parts


def _load_commands(text: str) -> dict[str, Any]:
    head, *commands = re.split(r"^Load command \d+$", text, flags=re.MULTILINE)
    words = head.strip().splitlines()[-1].split()
    by_kind = [(_after(part, r"^ *cmd (\S+)$") or "", part) for part in commands]
    names = [(kind, _after(part, r"^ *(?:name|path) (.*) \(offset")) for kind, part in by_kind]
    return {
        "arch": _CPUS[words[1], words[2]],
        "filetype": f"MH_{words[4]}",
        "minimum": _minimum(by_kind),
        "install_name": next((name for kind, name in names if kind == "LC_ID_DYLIB"), None),
        "dependencies": [(name, _KINDS[kind]) for kind, name in names if kind in _KINDS],
        "rpaths": [name for kind, name in names if kind == "LC_RPATH"],
        "signed": any(k == "LC_CODE_SIGNATURE" and "datasize 0\n" not in p for k, p in by_kind),
    }


def _minimum(commands: list[tuple[str, str]]) -> tuple[str | None, tuple[int, ...] | None]:
    """Platform and minimum OS; None and None when no command says so."""
    for kind, part in commands:
        if kind == "LC_BUILD_VERSION":
            return _after(part, r"^ *platform (\S+)$"), _numbers(_after(part, r"minos (\S+)$"))
        if kind == "LC_VERSION_MIN_MACOSX":
            return "macos", _numbers(_after(part, r"^ *version (\S+)$"))
    return None, None


def _numbers(version: str | None) -> tuple[int, ...]:
    return (*map(int, (version or "").split(".")), 0, 0)[:3]


def _mach_symbols(table: str, trie: str) -> dict[str, Any]:
    """Exports by the trie, which dyld reads; by the symbol table where LLVM finds no trie."""
    rows = [line.rsplit(" ", 3) for line in table.splitlines() if line.count(" ") >= 3]
    listed = {row[0] for row in rows if row[1] != "U"}
    exported = set(re.findall(r"^(?:0x\w+|\[re-export\]) +(\S+)", trie, re.MULTILINE)) or listed
    return {
        "exports": {name[1:] for name in exported if name.startswith("_")},
        "undefined": {row[0].removeprefix("_") for row in rows if row[1] == "U"},
    }


# --- PE ----------------------------------------------------------------------------------------


def _imports(text: str, kind: str) -> list[tuple[str, list[str]]]:
    """Each DLL with the symbols that are asked of it; one asked for by number is DLL#NUMBER."""
    blocks = re.findall(rf"^{kind} \{{\n(.*?)^\}}$", text, re.MULTILINE | re.DOTALL)
    return [_import(block) for block in blocks]


def _import(block: str) -> tuple[str, list[str]]:
    library = _after(block, r"^  Name: (.*)$") or ""
    symbols = re.findall(r"Symbol: (.*) \((\d+)\)$", block, re.MULTILINE)
    return library, [name or f"{library}#{number}" for name, number in symbols]


# --- ELF ---------------------------------------------------------------------------------------


def _search_paths(text: str) -> dict[str, list[str]]:
    def entries(tag: str) -> list[str]:
        return re.findall(rf"\({tag}\) .*: \[(.*)\]$", text, re.MULTILINE)

    return {
        "needed": entries("NEEDED"),
        "rpath": [part for value in entries("RPATH") for part in value.split(":")],
        "runpath": [part for value in entries("RUNPATH") for part in value.split(":")],
    }


def _version_needs(text: str) -> dict[str, set[str]]:
    needs: dict[str, set[str]] = {}
    library = ""
    for line in text.partition("\nVersion needs section")[2].splitlines():
        if found := _NEED.match(line):
            library = found[1]
        elif found := _VERSION.match(line):
            needs.setdefault(library, set()).add(found[1])
    return needs


def _elf_symbols(text: str) -> dict[str, set[str]]:
    symbols = list(_global_symbols(text))
    undefined = {(name, bind) for name, bind, at, _ in symbols if at == "UND"}
    return {
        "exports": {name for name, _, at, seen in symbols if at != "UND" and seen in _VISIBLE},
        "undefined": {name for name, _ in undefined},
        "weak": {name for name, bind in undefined if bind == "WEAK"},
    }


def _global_symbols(text: str) -> Iterator[tuple[str, str, str, str]]:
    """Name without version, binding, section and visibility of dynamic symbols, not local ones."""
    for line in text.partition("\nSymbol table '.dynsym'")[2].splitlines():
        found = _SYMBOL.fullmatch(line)
        if found and found["bind"] != "LOCAL" and found["kind"] not in {"SECTION", "FILE"}:
            yield found["name"].partition("@")[0], found["bind"], found["at"], found["seen"]
