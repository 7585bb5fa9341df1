#!/usr/bin/env bash
# Creates (or completes, or leaves alone) the Python environment of the engine.
#
#   engine/setup.sh VENV_DIR [--dev]
#
# --dev adds what the tests need. Safe to run again: a stamp with the hash of the requirements says when nothing is to be
# done, a half-made environment is made anew. The system's Python is only read.
#   ALE_PYTHON           the Python to use (default: the first of python3, python3.13 .. python3.10 that is new enough)
#   ALE_TORCH_INDEX_URL  a package index for torch alone, for instance one with builds without CUDA (far smaller)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
say() { printf 'engine setup: %s\n' "$*"; }
fail() {
  printf 'engine setup: %s\n' "$@" >&2
  exit 1
}

venv="" dev=0
for argument in "$@"; do
  case $argument in
    --dev) dev=1 ;;
    -h | --help)
      sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    -*) fail "unknown option $argument (usage: engine/setup.sh VENV_DIR [--dev])" ;;
    *) venv=$argument ;;
  esac
done
[ -n "$venv" ] || fail "name the directory of the environment: engine/setup.sh VENV_DIR [--dev]"
mkdir -p "$(dirname "$venv")" || fail "cannot create $(dirname "$venv")"
venv=$(cd "$(dirname "$venv")" && pwd)/$(basename "$venv")
stamp=$venv/.ale-engine-stamp
log=$venv.log

# One run at a time; a second waits, and then finds the work done.
if command -v flock >/dev/null 2>&1; then
  exec 9>"$venv.lock"
  flock 9
fi

wanted=$(cat "$here/requirements.txt" | sha256sum | cut -d' ' -f1)
[ $dev = 0 ] || wanted_dev=$(cat "$here/requirements-dev.txt" | sha256sum | cut -d' ' -f1)
current() {
  [ -f "$stamp" ] && grep -qx "run $wanted" "$stamp" && "$venv/bin/python" -c '' 2>/dev/null &&
    { [ $dev = 0 ] || grep -qx "dev $wanted_dev" "$stamp"; }
}
if current; then
  say "$venv is up to date"
  exit 0
fi

usable() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2])' 2>/dev/null; }
python=""
for candidate in ${ALE_PYTHON:-python3 python3.13 python3.12 python3.11 python3.10}; do
  if command -v "$candidate" >/dev/null 2>&1 && usable "$candidate"; then
    python=$(command -v "$candidate")
    break
  fi
done
[ -n "$python" ] || fail "no Python 3.10 or newer was found${ALE_PYTHON:+ at ALE_PYTHON=$ALE_PYTHON}." \
  "On Debian or Ubuntu: sudo apt install python3 python3-venv"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
"$python" -c 'import venv, ensurepip' 2>/dev/null || fail "Python $version ($python) lacks the venv module." \
  "On Debian or Ubuntu: sudo apt install python3-venv   (or python$version-venv)"

gpu=0
if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q GPU; then gpu=1; fi
need_mib=2500
if [ $gpu = 1 ] || [ -z "${ALE_TORCH_INDEX_URL:-}" ]; then roomy_mib=9000; else roomy_mib=$need_mib; fi
free_mib=$(df -Pm "$(dirname "$venv")" | awk 'NR==2 {print $4}')
[ "$free_mib" -ge $need_mib ] ||
  fail "$(dirname "$venv") has $free_mib MiB free; the environment needs about $need_mib MiB. Free some space and run again."

if [ -e "$venv" ] && [ ! -f "$stamp" ]; then
  if [ -f "$venv/pyvenv.cfg" ] || [ -z "$(ls -A "$venv")" ]; then
    say "$venv was left half made; starting over"
    rm -rf "$venv"
  else
    fail "$venv exists and is not a Python environment; name another directory"
  fi
fi
# Without the stamp an interrupted run is recognised as such.
rm -f "$stamp"
: >"$log"
if [ ! -x "$venv/bin/python" ]; then
  say "creating $venv with Python $version ($python)"
  "$python" -m venv "$venv" >>"$log" 2>&1 || fail "python -m venv failed; see $log" "$(tail -n 3 "$log")"
fi

explain() {
  if grep -qi 'no space left on device' "$log"; then
    fail "the disk of $venv is full. Free some space and run again." "Details: $log"
  fi
  if grep -qiE 'name resolution|name or service not known|network is unreachable|connection (refused|error|timed out)|NewConnectionError|ConnectTimeout|max retries exceeded|from versions: none' "$log"; then
    fail "packages could not be downloaded: the package index cannot be reached, or has none for this Python and machine." \
      "Connect (or point pip at a mirror with PIP_INDEX_URL, or at a directory of wheels with PIP_FIND_LINKS), then run again." \
      "Details: $log"
  fi
  fail "installing failed:" "$(grep -E '^ERROR' "$log" | tail -n 3)" "Details: $log"
}
# Modules are compiled when first imported: most never are.
install() { "$venv/bin/python" -m pip install --no-input --disable-pip-version-check --no-compile "$@" >>"$log" 2>&1 || explain; }

torch=$(grep -E '^torch==' "$here/requirements.txt")
if [ -n "${ALE_TORCH_INDEX_URL:-}" ] && [ $gpu = 0 ]; then
  say "installing $torch from ALE_TORCH_INDEX_URL"
  install --index-url "$ALE_TORCH_INDEX_URL" "$torch"
else
  if [ $gpu = 0 ] && [ "$free_mib" -lt $roomy_mib ]; then
    say "note: the usual torch package brings CUDA libraries and may not fit into $free_mib MiB;" \
      "ALE_TORCH_INDEX_URL can name an index with CPU builds"
  fi
  say "installing $torch$([ $gpu = 1 ] && echo ' with CUDA: an NVIDIA GPU is present' || true)"
  install "$torch"
fi
say "installing the other packages"
install -r "$here/requirements.txt"
if [ $dev = 1 ]; then
  say "installing what the tests need"
  install -r "$here/requirements-dev.txt"
fi
"$venv/bin/python" -c 'import torch, transformers, uvicorn, orjson' >>"$log" 2>&1 ||
  fail "the installed packages do not load; see $log" "$(tail -n 3 "$log")"
{
  echo "run $wanted"
  [ $dev = 0 ] || echo "dev $wanted_dev"
} >"$stamp"
say "done: $venv ($(du -sm "$venv" | cut -f1) MiB)"
