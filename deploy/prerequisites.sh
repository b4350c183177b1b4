#!/usr/bin/env bash
# Checks that PYTHON can make virtual environments and that C extensions can be compiled for it.
# As root on Debian or Ubuntu it installs what is missing; elsewhere it says what to install.
set -euo pipefail

python=${1:-}
missing=()

if [ -z "$python" ] || ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "wheelfarm needs Python 3.11 or later; '${python:-python3}' is not." >&2
    echo "Install it, or name one: make setup PYTHON=/path/to/python3.11" >&2
    exit 2
fi

minor=$("$python" -c 'import sys; print(f"{sys.version_info[0]}.{sys.version_info[1]}")')
"$python" -c 'import venv, ensurepip' 2>/dev/null || missing+=("python$minor-venv")
command -v cc >/dev/null || missing+=(gcc libc6-dev)
"$python" - <<'EOF' || missing+=("python$minor-dev")
import os.path, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))
EOF
PATH=$PATH:/usr/sbin command -v nginx >/dev/null || missing+=(nginx-light) # the tests start it

[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
    echo "Please install first: ${missing[*]} (Debian and Ubuntu: apt install ${missing[*]})" >&2
    exit 2
fi
