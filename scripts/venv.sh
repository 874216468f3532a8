#!/bin/sh
# Makes .venv with the Python packages of internal/interop/requirements.txt.  Does nothing if it is there and up to date.
# On Debian as root it installs what is missing of python3, its venv module and the C compiler that `go test -race` needs.
set -eu
cd "$(dirname "$0")/.."
want=$(cksum <internal/interop/requirements.txt)
[ "$(cat .venv/made-from 2>/dev/null || true)" = "$want" ] && exit 0

missing=
python3 -c 'import venv, ensurepip' 2>/dev/null || missing="python3 python3-venv"
command -v cc >/dev/null 2>&1 || missing="$missing gcc libc6-dev"
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        apt-get update -q
        # shellcheck disable=SC2086
        DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $missing
    else
        echo "venv.sh: missing: $missing: install these packages and run it again" >&2
        exit 1
    fi
fi
rm -rf .venv
python3 -m venv .venv
.venv/bin/pip install -q --disable-pip-version-check -r internal/interop/requirements.txt
echo "$want" >.venv/made-from
