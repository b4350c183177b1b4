"""`make run`: real sdists become verified wheels for three targets, then pip and uv take them.

Every command is printed before it runs, so that what is seen here can be typed again. Stops
with the first command that does not end as it should.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.markup import escape

HERE: Final = Path(__file__).parent
HOME: Final = HERE.parents[1] / ".wheelfarm"
STORE: Final = Path(os.environ.get("WHEELFARM_STORE", HOME / "store"))
WORK: Final = HOME / "tour"
TAG: Final = f"cp{sys.version_info[0]}{sys.version_info[1]}"
ARM64: Final = f"macos-11.0-arm64:{TAG}"
X86_64: Final = f"macos-10.13-x86_64:{TAG}"
COMPILED: Final = ["markupsafe", "simplejson", "msgpack", "wrapt"]
PROJECTS: Final = [*COMPILED, "multiprocess", "six"]
console: Final = Console(highlight=False)


def main() -> None:
    """The tour, in five steps and two refusals."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    fingerprints = build()
    with serving() as url:
        native_install(url)
        macos_installs(url, fingerprints)
    exported_folder(fingerprints)
    refusal_of_a_lie(fingerprints)
    refusal_of_a_poor_build()
    what_next()


def build() -> dict[str, str]:
    """Build everything; give the fingerprint of each target, by the target's name."""
    title("1. Real sdists, three targets")
    arguments = ["build", "-r", relative(HERE / "requirements.txt")]
    for target in ("native", ARM64, X86_64):
        arguments += ["--target", target]
    wheelfarm(*arguments)
    title("   Once more: all of it is in the store")
    answer = json.loads(wheelfarm(*arguments, "--json", show=False).stdout)
    statuses = [outcome["status"] for outcome in answer["outcomes"]]
    expect(set(statuses) == {"hit"}, "the second run should find everything in the store")
    console.print(f"{len(statuses)} of {len(statuses)} are hits")
    return {outcome["target"]: outcome["fingerprint"] for outcome in answer["outcomes"]}


@contextmanager
def serving() -> Iterator[str]:
    """A server over the store, for as long as the block lasts; gives its URL."""
    title("2. Serve the store, install from it with pip")
    command = [*wheelfarm_command(), "serve", "--port", "0"]
    announce(command)
    with (WORK / "serve.log").open("w") as log:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=env())
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[-1].rstrip("/")
            wait_for(url)
            yield url
        finally:
            server.terminate()
            server.wait(timeout=30)


def native_install(url: str) -> None:
    """pip installs from the native fingerprint's index, into a fresh environment, and imports."""
    index = wheelfarm("index-url", "--server", url).stdout.strip()
    python = fresh_environment("native")
    run([python, "-m", "pip", "install", "-q", "--index-url", index, *PROJECTS])
    imports = f"import {', '.join(PROJECTS)}; from markupsafe import _speedups; print(_speedups)"
    run([python, "-c", imports])


def macos_installs(url: str, fingerprints: dict[str, str]) -> None:
    """pip and uv take the arm64 wheels for a Mac that is not here."""
    title("3. The arm64 Mac's index, by pip and by uv")
    index = f"{url}/release/{fingerprints[ARM64]}/simple/"
    python = fresh_environment("native")
    run([python, "-m", "pip", "download", "-q", "--no-deps", "--index-url", index,
         "--platform", "macosx_11_0_arm64", "--only-binary=:all:",
         "--dest", WORK / "pip-arm64", *COMPILED])  # fmt: skip
    run([uv(), "pip", "install", "-q", "--no-deps", "--index-url", index,
         "--python-platform", "aarch64-apple-darwin", "--only-binary", ":all:",
         "--target", WORK / "uv-arm64", *COMPILED])  # fmt: skip
    took = sorted(path.name for path in (WORK / "pip-arm64").iterdir())
    expect(len(took) == len(COMPILED), "pip should have taken one wheel for each project")
    expect(all("arm64" in name for name in took), "pip should have taken arm64 wheels")
    modules = sorted((WORK / "uv-arm64").rglob("*-darwin.so"))
    expect(len(modules) >= len(COMPILED), "uv should have installed darwin modules")
    for name in took:
        console.print(f"  {name}")


def exported_folder(fingerprints: dict[str, str]) -> None:
    """The same wheels from a plain folder, with no server and no index."""
    title("4. The same wheels from a folder, for --find-links")
    folder = WORK / "export"
    wheelfarm("export", "--fingerprint", fingerprints["native"], folder)
    python = fresh_environment("links")
    run([python, "-m", "pip", "install", "-q", "--no-index", "--find-links", folder, *PROJECTS])
    run([python, "-c", f"import {', '.join(PROJECTS)}; print('imported from the folder')"])
    mac = WORK / "export-arm64"
    wheelfarm("export", "--fingerprint", fingerprints[ARM64], mac)
    run([uv(), "pip", "install", "-q", "--no-deps", "--no-index", "--find-links", mac,
         "--python-platform", "aarch64-apple-darwin", "--only-binary", ":all:",
         "--target", WORK / "uv-links-arm64", *COMPILED])  # fmt: skip


def refusal_of_a_lie(fingerprints: dict[str, str]) -> None:
    """A universal2 claim over one architecture: retagged, and refused where it does not serve."""
    title("5. First refusal: a wheel that claims universal2 over one architecture")
    lie = claim_universal2(fingerprints[X86_64])
    wheelfarm("verify", lie, expected=1)
    console.print("For the arm64 Mac it is no wheel at all:")
    wheelfarm("verify", "--target", fingerprints[ARM64], lie, expected=1)


def claim_universal2(fingerprint: str) -> Path:
    """markupsafe's x86_64 wheel under a universal2 tag, as python-ldap's build tags itself."""
    folder = WORK / "export-x86_64"
    wheelfarm("export", "--fingerprint", fingerprint, folder, show=False)
    honest = next(folder.rglob("markupsafe-*_x86_64.whl"))
    name, version, _, python, abi, _ = honest.stem.split("-")
    platform = "macosx_10_13_universal2"
    lie = WORK / f"{name}-{version}-{python}-{abi}-{platform}.whl"
    with zipfile.ZipFile(honest) as source:
        members = {each: source.read(each) for each in source.namelist()}
    info = f"{name}-{version}.dist-info"
    tag = f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {python}-{abi}-{platform}\n\n"
    members[f"{info}/WHEEL"] = tag.encode()
    members[f"{info}/RECORD"] = record_of(members, f"{info}/RECORD").encode()
    with zipfile.ZipFile(lie, "w", zipfile.ZIP_DEFLATED) as target:
        for member, data in members.items():
            target.writestr(member, data)
    return lie


def record_of(members: dict[str, bytes], record: str) -> str:
    """RECORD for `members`, as the wheel specification wants it."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    for member, data in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        hashed = [member, f"sha256={digest}", len(data)]
        rows.writerow([member, "", ""] if member == record else hashed)
    return text.getvalue()


def refusal_of_a_poor_build() -> None:
    """psutil for macOS without Apple's headers: a failed build with its first real error."""
    title("6. Second refusal: psutil for macOS, without Apple's headers")
    wheelfarm("build", "-r", relative(HERE / "refused.txt"), "--target", ARM64, expected=1)


def what_next() -> None:
    """What a person would type next."""
    title("Done. What to type next")
    command = relative(Path(sys.executable).parent / "wheelfarm")
    console.print(f"export WHEELFARM_STORE={STORE}")
    wheel = min((WORK / "pip-arm64").iterdir()).name
    for line in (
        f"{command} build NAME==VERSION --target native --target {ARM64}",
        f"{command} explain {wheel}",
        f"{command} serve        # then open the address that it prints",
        f"{command} verify your-own.whl",
        f"{command} fingerprint --json",
    ):
        console.print(line, soft_wrap=True)


def wheelfarm(
    *arguments: str | Path, expected: int = 0, show: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run the wheelfarm command and show it; its stdout is captured when it is not shown."""
    command = [*wheelfarm_command(), *(str(argument) for argument in arguments)]
    captured = not show or arguments[0] == "index-url"
    return run(command, expected=expected, captured=captured, show=show)


def run(
    command: Sequence[str | Path], *, expected: int = 0, captured: bool = False, show: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a command; end the tour when its exit status is not the expected one."""
    if show:
        announce(command)
    sys.stdout.flush()
    pipe = subprocess.PIPE if captured else None
    done = subprocess.run(
        [str(part) for part in command], stdout=pipe, text=True, env=env(), check=False
    )
    if captured and show:
        console.print(done.stdout.strip(), soft_wrap=True, markup=False)
    expect(done.returncode == expected, f"exit status {done.returncode}, expected {expected}")
    return done


def wheelfarm_command() -> list[str]:
    """The command of the running environment."""
    return [str(Path(sys.executable).parent / "wheelfarm")]


def uv() -> Path:
    """The uv of the running environment."""
    return Path(sys.executable).parent / "uv"


def env() -> dict[str, str]:
    """The caller's environment, without what would have pip and uv look into further indexes."""
    further = ("EXTRA_INDEX_URL", "FIND_LINKS", "NO_INDEX", "UV_INDEX")
    kept = {key: value for key, value in os.environ.items() if not key.endswith(further)}
    return kept | {
        "WHEELFARM_STORE": str(STORE),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_CACHE_DIR": str(WORK / "pip-cache"),
        "UV_NO_CONFIG": "1",
        "UV_CACHE_DIR": str(WORK / "uv-cache"),
    }


def fresh_environment(name: str) -> Path:
    """The python of a new virtual environment under the tour's folder, made on first use."""
    folder = WORK / f"venv-{name}"
    if not folder.exists():
        run([sys.executable, "-m", "venv", folder], show=False)
    return folder / "bin" / "python"


def wait_for(url: str, attempts: int = 100) -> None:
    """Return when the server answers; end the tour when it does not."""
    for _ in range(attempts):
        try:
            with urllib.request.urlopen(f"{url}/healthz", timeout=5):  # noqa: S310
                return
        except OSError:
            time.sleep(0.1)
    expect(False, "the server did not answer")


def announce(command: Sequence[str | Path]) -> None:
    """Print a command as it could be typed."""
    here = f"{Path.cwd()}{os.sep}"
    words = [shlex.quote(str(part).removeprefix(here)) for part in command]
    console.print("[bold]$[/]", escape(" ".join(words)), soft_wrap=True)


def relative(path: Path) -> str:
    """`path` from the current folder where it lies below it."""
    text = str(path)
    return text.removeprefix(f"{Path.cwd()}{os.sep}")


def title(text: str) -> None:
    """A heading."""
    console.print(f"\n[bold cyan]{text}[/]")


def expect(holds: bool, sentence: str) -> None:
    """End the tour with a sentence when something did not go as it should."""
    if not holds:
        console.print(f"[bold red]The tour stops here: {sentence}.[/]")
        sys.exit(1)


if __name__ == "__main__":
    main()
