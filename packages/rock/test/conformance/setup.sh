#!/bin/sh
# usage: setup.sh [DIRECTORY]   Makes the virtual environment with ROCK's unmodified SDK that the conformance suite runs in.
# Default: $ALE_HOME/test/rock-sdk (ALE_HOME: ~/.ale). Does nothing where it is there already. Needs python3 with venv, and a package index.
set -eu
here="$(cd "$(dirname "$0")" && pwd)"
place="${1:-${ALE_HOME:-$HOME/.ale}/test/rock-sdk}"
if [ -f "$place/ready" ] && cmp -s "$place/ready" "$here/requirements.txt"; then exit 0; fi
rm -rf "$place"
mkdir -p "$(dirname "$place")"
python3 -m venv "$place"
"$place/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$here/requirements.txt"
"$place/bin/python" -c "from rock.sdk.sandbox.client import Sandbox"
cp "$here/requirements.txt" "$place/ready"
