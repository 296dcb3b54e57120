#!/bin/sh
# Find what the Makefile needs before it starts, and name what is missing together with what to install.
# Prints the interpreter to use on stdout; exit 1 with one line per missing tool on stderr.
#   tools/doctor.sh            everything a build needs
#   tools/doctor.sh python     only the interpreter
set -u
bad=0
missing() { echo "missing: $1" >&2; bad=1; }

suits() { # an interpreter that runs, is new enough and can make virtual environments
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

python=
for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null 2>&1 && suits "$candidate"; then
        python=$(command -v "$candidate")
        break
    fi
done
if [ -z "$python" ]; then
    missing "Python 3.11 or newer with venv; on Debian: apt-get install python3-venv python3-dev (or set PYTHON=/path/to/python3.x)"
fi

if [ "${1:-all}" = all ]; then
    if ! command -v cargo >/dev/null 2>&1 || ! command -v rustc >/dev/null 2>&1; then
        missing "Rust (cargo and rustc, 1.88 or newer); install it with rustup"
    elif ! rustc --version 2>/dev/null | awk '{ split($2, v, "."); exit !(v[1] > 1 || v[2] >= 88) }'; then
        missing "a newer Rust: $(rustc --version 2>&1 | head -1) found, 1.88 needed; try: rustup update stable"
    fi
    if ! command -v "${CC:-cc}" >/dev/null 2>&1; then
        missing "a C compiler (for the cryptography library); on Debian: apt-get install build-essential"
    fi
fi

[ "$bad" = 0 ] || exit 1
echo "$python"
