"""The target interpreter's build-time variables, read by sysconfig (_PYTHON_SYSCONFIGDATA_NAME)."""

from __future__ import annotations

import json
import os

_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def _read() -> dict[str, object]:
    with open(os.path.join(_FOLDER, "sysconfig.json"), encoding="utf-8") as file:
        values = json.load(file)
    return {
        name: value.replace("@FOLDER@", _FOLDER) if isinstance(value, str) else value
        for name, value in values.items()
    }


build_time_vars = _read()
