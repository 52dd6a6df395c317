#!/bin/sh
# Make the virtual environment VENV and install requirements/SET.txt into it; safe to run again.
#   usage: requirements/setup.sh VENV run|train|test
# PYTHON chooses the interpreter, PIP_ARGS goes to pip (an index with CPU builds of torch, say).
set -eu

venv=$1
set_name=$2
python=${PYTHON:-python3}
here=$(cd "$(dirname "$0")" && pwd)
need_mib=4500

fail() {
    printf 'setup: %s\n' "$1" >&2
    exit 1
}

command -v "$python" >/dev/null 2>&1 || fail "no '$python' found; install Python 3.10 to 3.12, or name one: make PYTHON=python3.12 ..."
"$python" - <<'PY' || fail "Python 3.10 to 3.12 on 64-bit x86 Linux is needed (the ROS 2 wheels exist for these only); '$python' is $("$python" --version 2>&1) on $(uname -sm). Name another one: make PYTHON=python3.12 ..."
import platform, sys
sys.exit(not ((3, 10) <= sys.version_info[:2] <= (3, 12) and platform.system() == "Linux" and platform.machine() == "x86_64"))
PY

if [ ! -x "$venv/bin/python" ]; then
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "'$python' has no venv module; on Debian or Ubuntu: sudo apt install python3-venv"
    mkdir -p "$(dirname "$venv")"
    free_mib=$(df -Pm "$(dirname "$venv")" | awk 'NR == 2 { print $4 }')
    [ "$free_mib" -ge "$need_mib" ] ||
        fail "$free_mib MiB free where '$venv' would lie, about $need_mib MiB are needed; free some, or choose another place: make VENV=/elsewhere/venv ..."
    printf 'setup: making %s\n' "$venv"
    "$python" -m venv "$venv"
fi

printf 'setup: installing requirements/%s.txt (a minute or two the first time)\n' "$set_name"
# shellcheck disable=SC2086 -- PIP_ARGS is a list of arguments
"$venv/bin/python" -m pip install --disable-pip-version-check --progress-bar off ${PIP_ARGS:-} \
    -r "$here/$set_name.txt" >"$venv/setup-$set_name.log" 2>&1 &
pid=$!
trap 'kill "$pid" 2>/dev/null; exit 130' INT TERM
fetched=
while kill -0 "$pid" 2>/dev/null; do
    sleep 2
    now=$(grep -c -E '^ *(Downloading|Using cached|Processing) ' "$venv/setup-$set_name.log" || true)
    if grep -q '^Installing collected packages' "$venv/setup-$set_name.log"; then now="$now packages fetched, unpacking"; else now="$now packages fetched"; fi
    # One line a change, so that a log file reads as well as a terminal.
    if [ "$now" != "$fetched" ]; then printf 'setup: %s\n' "$now"; fetched=$now; fi
done
if ! wait "$pid"; then
    tail -n 15 "$venv/setup-$set_name.log" >&2
    fail "pip failed; the whole log is $venv/setup-$set_name.log"
fi
printf 'setup: ready\n'
