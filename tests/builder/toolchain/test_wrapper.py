from __future__ import annotations

import json
from pathlib import Path

import pytest

from builder.toolchain.darwin import wrapper
from builder.toolchain.darwin.wrapper import Command, Facts, Refused, expanded, rewritten

FACTS = Facts(
    triple="aarch64-macos.11.0",
    include="/t/include",
    native_includes=["/py/include/python3.11", "/usr/include/python3.11"],
    native_lib="/py/lib",
)
WITH_SDK = Facts(triple="aarch64-macos.11.0", include="/t/include", sdk="/sdk")


def changed(*args: str, tool: str = "cc") -> list[str]:
    """The rewritten arguments without what is put before and after all of them."""
    before = ["cc", "-target", "aarch64-macos.11.0"]
    words = rewritten(tool, [*args, "end.o"], FACTS)
    assert words[1:3] == before[1:]
    return words[3 : words.index("end.o")]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["-arch", "x86_64", "-arch", "arm64", "-O3"], ["-O3"]),
        (["-isysroot", "/Apple/SDK", "--sysroot=/x", "-DX=1"], ["-DX=1"]),
        (["-mmacosx-version-min=10.9", "-mmacos-version-min=14"], []),
        (["-march=native", "-mtune=native", "-mcpu=native"], []),
        (["-march=armv8-a+crypto"], ["-march=armv8-a+crypto"]),
        (["-flto", "-flto=thin", "-fuse-ld=lld"], []),
        (["-target", "x86_64-linux", "--target=x86_64-linux"], []),
        (["-bundle", "-undefined", "dynamic_lookup"], ["-shared", "-undefined", "dynamic_lookup"]),
        (["-dynamiclib"], ["-shared"]),
        (["-bundle_loader", "/usr/bin/python3", "-flat_namespace"], []),
        (["-lstdc++"], ["-lc++"]),
        (["-l", "stdc++"], ["-lc++"]),
        (["-l", "z"], ["-l", "z"]),
        (["-I/py/include/python3.11"], ["-I", "/t/include"]),
        (["-I", "/usr/include/python3.11"], ["-I", "/t/include"]),
        (["-isystem", "/py/include/python3.11/"], ["-isystem", "/t/include"]),
        (["-I/usr/include", "-I/usr/local/include/foo", "-I", "/opt/homebrew/include"], []),
        (["-I/usr/includes"], ["-I", "/usr/includes"]),
        (["-Isrc", "-I../include"], ["-I", "src", "-I", "../include"]),
        (["-L/usr/lib/x86_64-linux-gnu", "-L/py/lib", "-L", "/usr/local/lib"], []),
        (["-L/build/libs"], ["-L", "/build/libs"]),
        (["-s", "-Wl,-S", "-Wl,-x"], []),
        (["-o", "-arch"], ["-o", "-arch"]),
    ],
)
def test_what_was_meant_for_another_machine_goes(given: list[str], kept: list[str]) -> None:
    assert changed(*given) == kept


@pytest.mark.parametrize(
    ("tool", "args", "program"),
    [
        ("cc", ["-c", "a.c"], "cc"),
        ("cc", ["-c", "a.cpp"], "c++"),
        ("cc", ["-c", "a.cc", "-o", "a.o"], "c++"),
        ("cc", ["-x", "c++", "-c", "a.inc"], "c++"),
        ("cc", ["-xc++", "-c", "a.inc"], "c++"),
        ("cc", ["a.o", "-lstdc++", "-shared"], "c++"),
        ("cc", ["a.o", "-lc++", "-shared"], "c++"),
        ("cc", ["a.o", "-shared"], "cc"),
        ("cc", ["-c", "a.c", "-o", "a.cpp.o"], "cc"),
        ("cc", ["-c", "a.c", "-MF", "deps.cpp"], "cc"),
        ("c++", ["a.o", "-shared"], "c++"),
    ],
)
def test_cplusplus_is_told_by_its_sources(tool: str, args: list[str], program: str) -> None:
    assert rewritten(tool, args, FACTS)[0] == program


def test_a_question_is_asked_as_it_is() -> None:
    assert rewritten("cc", ["--version"], FACTS) == [
        *("cc", "-target", "aarch64-macos.11.0", "--version"),
    ]


def test_c_is_compiled_without_debug_information_and_leniently() -> None:
    facts = Facts(triple="t", include="/i", root="/build/42")
    words = rewritten("cc", ["-g", "-c", "a.c"], facts)
    assert words.index("-g0") > words.index("-g")
    assert {"-fno-sanitize=undefined", "-Wno-error=implicit-function-declaration"} <= {*words}
    assert "-ffile-prefix-map=/build/42=." in words


def test_links_are_all_at_one_level_of_optimisation() -> None:
    words = rewritten("cc", ["-O0", "-shared", "a.o", "-o", "a.so"], FACTS)
    assert words.index("-O2") > words.index("-O0")
    assert "-O2" not in rewritten("cc", ["-O0", "-shared", "a.c", "-o", "a.so"], FACTS)
    assert "-O2" not in rewritten("cc", ["-O0", "-c", "a.c"], FACTS)


@pytest.mark.parametrize(
    "args",
    [["-framework", "IOKit"], ["-weak_framework", "IOKit"], ["-Wl,-framework,IOKit"]],
)
def test_a_framework_needs_an_sdk(args: list[str]) -> None:
    with pytest.raises(Refused, match="framework 'IOKit'"):
        rewritten("cc", [*args, "a.o"], FACTS)
    words = rewritten("cc", [*args, "a.o"], WITH_SDK)
    assert " ".join(args) in " ".join(words)


def test_a_library_is_not_named_after_the_folder_it_was_built_in() -> None:
    name = "-Wl,-install_name,@rpath/m.so"
    assert name in rewritten("cc", ["-bundle", "a.o", "-o", "/tmp/x1/m.so"], FACTS)
    assert name not in rewritten("cc", ["a.o", "-o", "/tmp/x1/m.so"], FACTS)
    for given in (["-install_name", "@rpath/x"], ["-Wl,-install_name,@rpath/x"]):
        words = rewritten("cc", ["-shared", "a.o", "-o", "m.so", *given], FACTS)
        assert name not in words


def test_an_sdk_comes_after_what_zig_has() -> None:
    words = rewritten("cc", ["a.o"], WITH_SDK)
    frameworks = "/sdk/System/Library/Frameworks"
    assert words[words.index("-idirafter") + 1] == "/sdk/usr/include"
    assert words[words.index("-iframework") + 1] == frameworks
    assert "-L/sdk/usr/lib" in words
    assert "-L/sdk/usr/lib" not in rewritten("cc", ["-c", "a.c"], WITH_SDK)


def test_output_and_link_are_told() -> None:
    link = Command("cc", ["-shared", "a.o", "-ob.so"])
    assert (link.links, link.output, link.inputs) == (True, "b.so", ["a.o"])
    compiles = Command("cc", ["-c", "a.c", "-o", "a.o"])
    assert (compiles.links, compiles.output) == (False, "a.o")
    assert not Command("cc", ["-v"]).links


def test_response_files_are_read_up_to_a_limit(tmp_path: Path) -> None:
    file = tmp_path / "args"
    file.write_text("-arch arm64 'a b.o'")
    assert list(expanded([f"@{file}", "-x", "@none"])) == ["-arch", "arm64", "a b.o", "-x", "@none"]
    file.write_text("x" * (wrapper.MAX_RESPONSE_BYTES + 1))
    with pytest.raises(Refused, match="longer than"):
        list(expanded([f"@{file}"]))


def test_the_log_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("WHEELFARM_TOOL_LOG", str(log))
    wrapper.log_call({"tool": "cc", "args": ["x" * wrapper.MAX_LINE_BYTES], "output": "a.so"})
    line = log.read_text()
    assert json.loads(line) == {"tool": "cc", "args": [], "output": "a.so", "cut": True}
    with log.open("r+b") as file:
        file.truncate(wrapper.MAX_LOG_BYTES)
    wrapper.log_call({"tool": "cc", "args": []})
    assert log.stat().st_size == wrapper.MAX_LOG_BYTES


def test_outside_a_build_it_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WHEELFARM_ZIG", raising=False)
    assert wrapper.main(["wrapper.py", "cc", "a.c"]) == 1
    assert "only inside a wheelfarm build" in capsys.readouterr().err


def test_a_linked_file_cannot_be_changed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHEELFARM_ZIG", "/nowhere/zig")
    monkeypatch.delenv("WHEELFARM_TOOL_LOG", raising=False)
    assert wrapper.main(["wrapper.py", "strip", "a.so"]) == 0
    assert wrapper.main(["wrapper.py", "install_name_tool", "a.so"]) == 1
    assert "cannot change a linked file" in capsys.readouterr().err
