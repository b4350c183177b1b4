"""From what a person writes after ``--target`` to a Target and the toolchain that builds for it.

`native` is the running interpreter, ``native:/path/to/python`` another one of this machine,
``macos-11.0-arm64:cp311`` a macOS target by the cross toolchain; any other word is a name from
`wheelfarm.toml`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.markers import Environment as MarkerEnvironment
from uv import find_uv_bin

from builder.interpreter import measure
from builder.toolchain.cross import cross_toolchain
from builder.toolchain.macos import macos_target
from builder.toolchain.native import native_toolchain
from builder.toolchain.toolchain import Toolchain
from store.fingerprint import Fingerprint, fingerprint_of
from store.target import Target
from workers.errors import TargetSpecError
from workers.settings import NamedTarget, Settings
