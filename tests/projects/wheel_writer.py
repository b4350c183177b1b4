"""Writes a tiny pure wheel, byte for byte the same for the same SOURCE_DATE_EPOCH.

The tests put this file into every sdist they pack from a project beside it.
"""

import base64
import hashlib
import os
import time
import zipfile


def write_wheel(folder, project, more_files=None, tag="py3-none-any"):
    module = project.replace("-", "_")
    info = module + "-1.0.dist-info"
    files = {module + "/__init__.py": b"ANSWER = 42\n"}
    files.update(more_files or {})
    files[info + "/METADATA"] = _lines("Metadata-Version: 2.1", "Name: " + project, "Version: 1.0")
    pure = "true" if tag.endswith("-any") else "false"
    files[info + "/WHEEL"] = _lines(
        "Wheel-Version: 1.0", "Generator: own", "Root-Is-Purelib: " + pure, "Tag: " + tag
    )
    record = [_record_row(name, data) for name, data in files.items()]
    files[info + "/RECORD"] = _lines(*record, info + "/RECORD,,")
    name = "%s-1.0-%s.whl" % (module, tag)
    when = time.gmtime(int(os.environ["SOURCE_DATE_EPOCH"]))[:6]
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        for member, data in files.items():
            wheel.writestr(zipfile.ZipInfo(member, when), data)
    return name


def _lines(*lines):
    return "".join(line + "\n" for line in lines).encode()


def _record_row(name, data):
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return "%s,sha256=%s,%d" % (name, digest, len(data))
