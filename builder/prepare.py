"""From a request to a source tree beside an environment that holds its build requirements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from builder.backend import Backend
from builder.environment import hook_environment
from builder.errors import BuilderError
from builder.failure import StepFailed
from builder.isolation import IsolatedEnvironment, Uv, isolated_environment
from builder.requirements import readable, resolve, unmet
from builder.sdist import SourceTree, supports_python, unpack
from builder.stages import BuildRequest, PreparedBuild
from builder.toolchain.python_facts import PythonFacts, python_facts
from builder.tools import tools
from store.provenance import BuildInputs, Pin
from store.target import identity_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Readied:
    """A prepared build, and the backend that is ready to build its wheel."""

    prepared: PreparedBuild
    backend: Backend
    source_date_epoch: int


def prepare(request: BuildRequest, scratch: Path, log: Path) -> Readied:
    """Unpack, resolve, install. Raises StepFailed, and what `builder.sdist.unpack` raises."""
    facts = python_facts(request.toolchain.python)
    tree = unpack(request.sdist, new_folder(scratch / "source"))
    _refuse_other_pythons(tree, facts)
    uv = Uv(scratch=new_folder(scratch / "uv"), log=log, index_url=request.index_url)
    isolated = isolated_environment(request.toolchain.python, scratch / "env", uv)
    backend = _backend(request, tree, isolated, scratch, log)
    pins = _install(request, tree, backend, facts)
    prepared = PreparedBuild(
        request=request, tree=tree.path, backend=tree.build_system.backend, log=log,
        environment_python=Path(isolated.python_executable), inputs=inputs_of(request, pins),
    )  # fmt: skip
    return Readied(prepared=prepared, backend=backend, source_date_epoch=tree.source_date_epoch)


def plan_inputs(request: BuildRequest) -> BuildInputs:
    """What will go into the build of a request whose pins are known; nothing is built.

    Its `key` tells whether the store has the wheel. Raises BuilderError without pins.
    """
    if request.pins is None:
        raise BuilderError("the inputs of a build are known when its requirements are resolved")
    return inputs_of(request, request.pins)


def inputs_of(request: BuildRequest, pins: Sequence[Pin]) -> BuildInputs:
    """The BuildInputs of `request` with these build requirements."""
    source = request.sdist.source
    return BuildInputs(
        source_name=source.name,
        source_version=source.version,
        source_sha256=source.sha256,
        target=identity_of(request.target),
        recipe=request.recipe,
        build_requirements=tuple(sorted(pins, key=lambda pin: pin.name)),
        toolchain=request.toolchain.identity,
        tools=tools(),
        epoch=request.epoch,
        salt=request.salt,
    )


def _install(
    request: BuildRequest, tree: SourceTree, backend: Backend, facts: PythonFacts
) -> tuple[Pin, ...]:
    """Install what the build needs: what the sdist states, then what its backend asks for."""
    stated = [*tree.build_system.requires, *request.recipe.extra_build_requires]
    pins = request.pins
    if pins is None:
        pins = _resolve(request, stated, facts, backend.isolated.uv)
    backend.isolated.install(pins)
    asked = backend.requirements_for("wheel")
    missing = unmet(readable([*stated, *asked], facts), pins)
    if not missing:
        return pins
    if request.pins is not None:
        raise _stale(missing)
    pins = _resolve(request, [*stated, *asked], facts, backend.isolated.uv)
    backend.isolated.install(pins)
    return pins


def _resolve(
    request: BuildRequest, requirements: Sequence[str], facts: PythonFacts, uv: Uv
) -> tuple[Pin, ...]:
    constraints = request.recipe.build_constraints
    return resolve(requirements, constraints, facts, uv, request.toolchain.python)


def _stale(missing: Sequence[Requirement]) -> StepFailed:
    listed = ", ".join(str(one) for one in missing[:5])
    return StepFailed(
        "build", f"the build requirements that were pinned do not meet {listed}",
        hint="have them resolved afresh: the recipe or the sdist asks for something else now",
    )  # fmt: skip


def _refuse_other_pythons(tree: SourceTree, facts: PythonFacts) -> None:
    if not supports_python(tree.requires_python, facts.full_version):
        raise StepFailed(
            "unsupported",
            f"it needs Python {tree.requires_python}, the target has {facts.full_version}",
            hint="choose another version of the package, or leave it out for this target",
        )


def _backend(
    request: BuildRequest, tree: SourceTree, isolated: IsolatedEnvironment, scratch: Path, log: Path
) -> Backend:
    toolchain, recipe = request.toolchain, request.recipe
    env = hook_environment(
        scratch=scratch,
        bin_folder=isolated.bin_folder,
        source_date_epoch=tree.source_date_epoch,
        toolchain=toolchain.environment(scratch),
        recipe=recipe.env,
    )
    settings = {**toolchain.config_settings(tree.build_system.backend), **recipe.config_settings}
    return Backend(
        tree=tree.path, isolated=isolated, env=env, settings=settings, recipe=recipe, log=log
    )


def new_folder(folder: Path) -> Path:
    """Make `folder`, which must not be there yet, and give it."""
    folder.mkdir()
    return folder
