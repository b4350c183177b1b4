#!/usr/bin/env bash
# prerequisites.sh PYTHON [test | bench]
#
# Checks that PYTHON can make virtual environments and that C extensions can be compiled for it;
# with "test", also that PostgreSQL, Redis and nginx are there, which the tests start for themselves;
# with "bench", that wrk, nginx and taskset are, which `make bench-serve` measures with.
# As root on Debian or Ubuntu it installs what is missing; elsewhere it says what to install.
set -euo pipefail

python=${1:-}
wanted=${2:-}
missing=()

if [ -z "$python" ] || ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "wheelfarm needs Python 3.11 or later; '${python:-python3}' is not." >&2
    echo "Install it, or name one: make setup PYTHON=/path/to/python3.11" >&2
    exit 2
fi

minor=$("$python" -c 'import sys; print(f"{sys.version_info[0]}.{sys.version_info[1]}")')
"$python" -c 'import venv, ensurepip' 2>/dev/null || missing+=("python$minor-venv")
command -v cc >/dev/null || missing+=(gcc libc6-dev)
"$python" - <<'PYTHON' || missing+=("python$minor-dev")
import os.path, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))
PYTHON

if [ "$wanted" = test ]; then
    # Debian keeps the server's programs off PATH.
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null \
        || missing+=(postgresql)
    command -v redis-server >/dev/null || missing+=(redis-server)
    PATH=$PATH:/usr/sbin command -v nginx >/dev/null || missing+=(nginx-light)
fi

if [ "$wanted" = bench ]; then
    command -v wrk >/dev/null || missing+=(wrk)
    command -v taskset >/dev/null || missing+=(util-linux)
    PATH=$PATH:/usr/sbin command -v nginx >/dev/null || missing+=(nginx-light)
fi

[ ${#missing[@]} -gt 0 ] || exit 0

# Debian starts a server as it installs it, and at every boot from then on. Nobody asked for that:
# the tests start their own.
let_no_service_start() {
    local policy=/usr/sbin/policy-rc.d
    [ -e "$policy" ] && return
    trap "rm -f $policy" EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
}

leave_no_service_enabled() {
    command -v systemctl >/dev/null || return 0
    for service in "$@"; do
        case $service in
        postgresql | redis-server) systemctl disable --quiet "$service" || true ;;
        nginx-light) systemctl disable --quiet nginx || true ;;
        esac
    done
}

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing ${missing[*]}"
    let_no_service_start
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    leave_no_service_enabled "${missing[@]}"
else
    echo "Please install first: ${missing[*]} (Debian and Ubuntu: apt install ${missing[*]})" >&2
    exit 2
fi
