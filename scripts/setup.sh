# shellcheck shell=bash
#
# What `./quickstart` and `./test` share: finding out what this machine lacks, saying it, and installing it. Sourced, never run.
#
# Owns: the checks, the questions, the installations, their logs in $ALE_HOME/logs and their seconds. Every step looks first and
# does nothing when there is nothing to do, so that it is safe to run twice and safe to interrupt anywhere.
# Must never: use sudo without having asked (or --yes), write to stdout (that belongs to the caller), leave a process behind.
#
# The caller sets ROOT (the repository) before, and may set ALE_YES=1 and ALE_JSON=1.

# Exit codes, the same as the CLI's (docs/reference/exit-codes.md).
readonly EXIT_MISSING=3 EXIT_ENVIRONMENT=4 EXIT_INTERRUPTED=130

ALE_YES="${ALE_YES:-0}"
ALE_JSON="${ALE_JSON:-0}"
FOR_TESTS=0
SANDBOXES_ONLY=0
export ALE_HOME="${ALE_HOME:-$HOME/.ale}"

# shellcheck source=scripts/jobs.sh
. "$ROOT/scripts/jobs.sh"

# ------------------------------------------------------------------------------------------------------------------ checks

need_linux() {
  case "$(uname -s)" in
    Linux) ;;
    Darwin)
      die $EXIT_MISSING "macOS has no Linux namespaces, and ALE's sandboxes are made of them." \
        "Run it inside a Linux virtual machine (Lima, Multipass, UTM or OrbStack with Debian or Ubuntu), or on a Linux server." ;;
    *)
      die $EXIT_MISSING "This system ($(uname -s)) has no Linux namespaces, and ALE's sandboxes are made of them." \
        "On Windows use WSL 2 with Debian or Ubuntu; elsewhere a Linux virtual machine." ;;
  esac
  if [ "${BASH_VERSINFO[0]}" -lt 5 ]; then
    die $EXIT_MISSING "bash $BASH_VERSION is too old; 5.0 is needed." "Use Debian 11, Ubuntu 20.04 or newer."
  fi
}

need_home() {
  case "$ALE_HOME" in /*) ;; *) ALE_HOME="$PWD/$ALE_HOME" ;; esac
  if ! mkdir -p "$ALE_HOME/logs" 2>/dev/null || [ ! -w "$ALE_HOME/logs" ]; then
    die $EXIT_ENVIRONMENT "Cannot write to $ALE_HOME, where engine, images and runs are kept." \
      "Make it writable, or choose another folder: ALE_HOME=/some/folder $0"
  fi
  local needed=1000 free
  [ "$SANDBOXES_ONLY" = 1 ] || [ -x "$ALE_HOME/engine/venv/bin/python" ] || needed=4000
  free="$(df -Pm "$ALE_HOME" | awk 'NR == 2 { print $4 }')"
  if [ "${free:-0}" -lt "$needed" ]; then
    die $EXIT_MISSING "Only ${free:-0} MB are free on the disk of $ALE_HOME; about $needed MB are needed." \
      "Free some space, or choose a folder on another disk: ALE_HOME=/some/folder $0"
  fi
}

one_setup_at_a_time() {
  exec 9>"$ALE_HOME/setup.lock"
  if ! flock -n 9; then
    step "another setup is at work in $ALE_HOME; waiting for it"
    flock -w 900 9 ||
      die $EXIT_ENVIRONMENT "Another setup has held $ALE_HOME/setup.lock for 15 minutes." "End it (fuser $ALE_HOME/setup.lock), then try again."
  fi
}
setup_done() { exec 9>&-; }

# Every need_… adds to these when it does not find what it looks for.
declare -a APT_PACKAGES=() APT_REASONS=() UNFIXABLE=()

want_apt() { # REASON PACKAGE…
  local reason="$1"
  shift
  APT_PACKAGES+=("$@")
  APT_REASONS+=("$(printf '%-28s %s' "$*" "$reason")")
}

# The newest version that apt could install, empty when it knows none.
apt_candidate() {
  command -v apt-cache >/dev/null || return 0
  apt-cache policy "$1" 2>/dev/null | awk '$1 == "Candidate:" && $2 != "(none)" { print $2 }'
}

need_node() {
  local version="" major=0
  if command -v node >/dev/null; then
    version="$(node --version 2>/dev/null || true)"
    major="${version#v}"
    major="${major%%.*}"
  fi
  if [ "${major:-0}" -ge 20 ] && command -v npm >/dev/null; then return 0; fi
  local candidate
  candidate="$(apt_candidate nodejs)"
  if [ "${candidate%%.*}" -ge 20 ] 2>/dev/null; then
    want_apt "Node 20 or newer and npm: everything but the engine is TypeScript" nodejs npm
  else
    UNFIXABLE+=("Node 20 or newer with npm (found: ${version:-none}). This system's own packages are older; install it from https://nodejs.org or with a version manager (nvm, fnm, mise).")
  fi
}

python_suits() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }

need_python() {
  local candidate
  local wanted="${ALE_PYTHON:-python3}"
  ALE_PYTHON=""
  for candidate in "$wanted" python3 python3.13 python3.12 python3.11 python3.10 /usr/bin/python3; do
    if command -v "$candidate" >/dev/null && python_suits "$candidate"; then
      ALE_PYTHON="$(command -v "$candidate")"
      break
    fi
  done
  if [ -z "$ALE_PYTHON" ]; then
    if [ -n "$(apt_candidate python3)" ] && ! command -v python3 >/dev/null; then
      want_apt "Python 3.10 or newer, for the engine" python3 python3-venv
      ALE_PYTHON=/usr/bin/python3
    else
      UNFIXABLE+=("Python 3.10 or newer (found: $(python3 --version 2>&1 || echo none)). Use a newer release of the system, or name one: ALE_PYTHON=/path/to/python3 $0")
    fi
  elif ! "$ALE_PYTHON" -c 'import venv, ensurepip' 2>/dev/null; then
    local real
    real="$(readlink -f "$ALE_PYTHON")"
    if [[ "$real" == /usr/bin/* ]]; then
      want_apt "virtual environments, for the engine's own one" "$(basename "$real")-venv"
    else
      UNFIXABLE+=("the modules venv and ensurepip of $ALE_PYTHON. Name another Python: ALE_PYTHON=/path/to/python3 $0")
    fi
  fi
  export ALE_PYTHON # engine/setup.sh takes the same one
}

need_sandbox_tools() {
  command -v crun >/dev/null || want_apt "the OCI runtime that starts sandboxes" crun
  if ! command -v mmdebstrap >/dev/null && ! command -v debootstrap >/dev/null; then
    want_apt "makes the base image of the sandboxes, once" mmdebstrap
  fi
  # The base image is a Debian on every host; other hosts do not have Debian's keys.
  if [ ! -e /usr/share/keyrings/debian-archive-keyring.gpg ]; then
    want_apt "Debian's keys, for the base image" debian-archive-keyring
  fi
}

# What only the checks need: other runtimes and engines to compare with, and images that have nothing. Without apt they are skipped.
need_test_tools() {
  command -v apt-get >/dev/null || return 0
  command -v podman >/dev/null || want_apt "a container engine, for the tests of that driver" podman
  command -v runc >/dev/null || want_apt "another OCI runtime, for the tests" runc
  command -v newuidmap >/dev/null || want_apt "sandboxes of ordinary users, for the tests" uidmap
  command -v nft >/dev/null || want_apt "packet filters, for the tests" nftables
  command -v busybox >/dev/null || want_apt "the smallest image there is, for the tests" busybox-static
}

check_needs() {
  need_node
  [ "$SANDBOXES_ONLY" = 1 ] || need_python
  need_sandbox_tools
  if is_rootless; then
    command -v newuidmap >/dev/null || want_apt "sandboxes of an ordinary user" uidmap
  fi
  [ "$FOR_TESTS" != 1 ] || need_test_tools
}

# Sandboxes are namespaces, mounts and cgroups, which take root. Asked for before anything is installed, so that nobody waits for
# minutes to be told at the end.
need_root_or_sudo() {
  [ "$(id -u)" != 0 ] || return 0
  # An ordinary user's sandboxes need none, when nothing is to be installed.
  ! { is_rootless && [ "${#APT_PACKAGES[@]}" = 0 ]; } || return 0
  if ! command -v sudo >/dev/null; then
    die $EXIT_MISSING "Sandboxes need root (namespaces, overlay mounts, cgroups), and there is neither root nor sudo here." \
      "Run this as root, for example in a virtual machine or a container that is allowed to mount."
  fi
  if ! has_terminal && ! sudo -n true 2>/dev/null; then
    die $EXIT_MISSING "Sandboxes need root, sudo wants a password, and there is no terminal to ask on." "Run as root: $0 --yes"
  fi
  if ! has_terminal && [ "$ALE_YES" != 1 ]; then
    die $EXIT_MISSING "Sandboxes need root; there is no terminal to ask on, and --yes was not given." "Run $0 --yes, which uses sudo, or run it as root."
  fi
  say "Sandboxes need root (namespaces, overlay mounts, cgroups). You are $(id -un), so sudo is used for:"
  say "  apt-get install              system packages, when some are missing (listed first)" \
    "  ale setup image              the base image of the sandboxes, once" \
    "  $(basename "$0") itself, when everything is installed"
  agree "Use sudo for these?"
}

is_rootless() { [ "$SANDBOXES_ONLY" = 1 ] && [ "$(id -u)" != 0 ]; }

has_terminal() { { : </dev/tty; } 2>/dev/null; }

# --------------------------------------------------------------------------------------------------------------- apt, sudo

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# The same for our own programs, which need to know where things are.
as_root_here() {
  if [ "$(id -u)" = 0 ] || is_rootless; then "$@"; return; fi
  sudo env PATH="$PATH" HOME="$HOME" ALE_HOME="$ALE_HOME" ALE_ENGINE_PYTHON="${ALE_ENGINE_PYTHON:-}" \
    ALE_SETUP_PHASES="${ALE_SETUP_PHASES:-}" "$@"
}
# What was written as root under a person's home is theirs.
give_back_home() { [ "$(id -u)" = 0 ] || sudo chown -R --no-dereference "$(id -u):$(id -g)" "$ALE_HOME/runs" "$ALE_HOME/logs" 2>/dev/null || true; }

agree() { # QUESTION: yes, or out
  [ "$ALE_YES" != 1 ] || return 0
  local answer=""
  printf '%s [Y/n] ' "$1" >&2
  read -r answer </dev/tty || answer=n
  case "$answer" in
    "" | y | Y | yes | Yes) ;;
    *)
      die $EXIT_MISSING "Nothing was installed, as you said." \
        "Run $0 as root${APT_PACKAGES:+, or install the packages yourself first: apt-get install ${APT_PACKAGES[*]}}"
      ;;
  esac
}

# Says what is missing and why, asks where sudo is needed, installs. Nothing missing: nothing said, nothing done.
ensure_apt() {
  local started line
  started="$(now)"
  if [ "${#UNFIXABLE[@]}" -gt 0 ]; then
    local missing=""
    for line in "${UNFIXABLE[@]}"; do missing+=$'\n'"  - $line"; done
    die $EXIT_MISSING "This machine lacks something that cannot be installed from here:$missing" "Get it, then run $0 again."
  fi
  [ "${#APT_PACKAGES[@]}" -gt 0 ] || return 0
  say "missing system packages, to be installed with apt-get:"
  for line in "${APT_REASONS[@]}"; do say "  $line"; done
  if ! command -v apt-get >/dev/null; then
    die $EXIT_MISSING "There is no apt-get here, so these cannot be installed for you." \
      "Install the same programs with your system's package manager, then run $0 again."
  fi
  local log="$ALE_HOME/logs/apt.log" name
  : >"$log"
  step "installing ${APT_PACKAGES[*]}"
  # In the foreground, because sudo's ticket belongs to this terminal; Ctrl-C reaches apt as well, which then stops cleanly.
  if [ -n "$(dpkg --audit 2>/dev/null)" ]; then as_root dpkg --configure -a >>"$log" 2>&1 || true; fi
  for name in "${APT_PACKAGES[@]}"; do
    if [ -z "$(apt_candidate "$name")" ]; then
      as_root apt-get -o DPkg::Lock::Timeout=300 update >>"$log" 2>&1 || true
      break
    fi
  done
  apt_install >>"$log" 2>&1 ||
    { as_root apt-get -o DPkg::Lock::Timeout=300 update >>"$log" 2>&1 && apt_install >>"$log" 2>&1; } ||
    { tail -n 15 "$log" >&2; die $EXIT_ENVIRONMENT "apt-get could not install ${APT_PACKAGES[*]}." "Read $log; after mending it, run $0 again."; }
  JOB_SECONDS[apt]="$(since "$started")"
  # apt may be content while the program is not there or does not run; better said now than by whoever needs it.
  APT_PACKAGES=() APT_REASONS=() UNFIXABLE=()
  check_needs
  if [ "${#APT_PACKAGES[@]}" -gt 0 ] || [ "${#UNFIXABLE[@]}" -gt 0 ]; then
    die $EXIT_ENVIRONMENT "apt-get has installed them, but this is still missing: ${APT_PACKAGES[*]}${UNFIXABLE[*]}" \
      "Look at $log and at the programs' own folders, then run $0 again."
  fi
  step "system packages ready (${JOB_SECONDS[apt]} s)"
}

apt_install() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "${APT_PACKAGES[@]}" </dev/null
}

# ------------------------------------------------------------------------------------------------------- npm, engine, image

npm_is_fresh() {
  node "$ROOT/scripts/npm-fresh.mjs" "$ROOT" >/dev/null 2>&1 && "$ROOT/node_modules/.bin/node" --version >/dev/null 2>&1
}
ensure_npm() { cd "$ROOT" && npm ci --no-audit --no-fund --loglevel=error; }

ensure_engine() {
  bash "$ROOT/engine/setup.sh" "$ALE_HOME/engine/venv" "$@"
}

ensure_image() {
  as_root_here "$ROOT/node_modules/.bin/node" --disable-warning=ExperimentalWarning "$ROOT/packages/cli/src/main.ts" setup image
}

# An image registry to pull from, and the unmodified ROCK client, each in a folder of ours. Debian's package of the registry would start
# a service, so that only its program is taken.
ensure_test_tools() {
  local bin="$ALE_HOME/test/bin" sdk="$ALE_HOME/test/rock-sdk"
  mkdir -p "$bin"
  if ! command -v docker-registry >/dev/null && [ ! -x "$bin/docker-registry" ] && command -v apt-get >/dev/null; then
    local scratch
    scratch="$(mktemp -d)"
    (cd "$scratch" && apt-get download docker-registry && dpkg -x docker-registry_*.deb unpacked)
    mv "$scratch/unpacked/usr/bin/docker-registry" "$bin/"
    rm -rf "$scratch"
  fi
  bash "$ROOT/packages/rock/test/conformance/setup.sh" "$sdk"
}

setup_job_done() { # NAME EXIT_CODE SECONDS LOG
  local what
  case "$1" in
    npm) what="node packages" ;;
    engine) what="engine (Python environment)" ;;
    image) what="base image of the sandboxes" ;;
    tools) what="what the tests compare with" ;;
    *) what="$1" ;;
  esac
  if [ "$2" != 0 ]; then
    stop_jobs
    say "" "last lines of $4:"
    tail -n 20 "$4" | sed 's/^/  /' >&2
    [ "$2" != "$EXIT_MISSING" ] || die $EXIT_MISSING "The step \"$what\" found something missing." "Read above or $4, then run $0 again."
    die $EXIT_ENVIRONMENT "The step \"$what\" failed (exit code $2)." "Read above or $4; after mending it, run $0 again: what is done is kept."
  fi
  step "$what ready ($3 s)"
  # The image is made by the CLI, which needs the node packages.
  if [ "$1" = npm ]; then start_job image ensure_image; fi
}

# Everything, in the order of dependence: system packages, then node packages and engine side by side, then the image.
setup_all() { # [--dev]: also what the tests need; [--sandboxes]: only what sandboxes need
  case "${1:-}" in
    --dev) FOR_TESTS=1 ;;
    --sandboxes) SANDBOXES_ONLY=1 ;;
  esac
  need_linux
  # After that, because macOS still ships a bash without associative arrays.
  declare -gA JOB_SECONDS=()
  need_home
  check_needs
  need_root_or_sudo
  one_setup_at_a_time
  trap interrupted INT TERM
  ensure_apt
  if [ "$SANDBOXES_ONLY" = 0 ]; then start_job engine ensure_engine "$@"; fi
  if [ "$FOR_TESTS" = 1 ]; then start_job tools ensure_test_tools; fi
  if npm_is_fresh; then
    start_job image ensure_image
  else
    step "installing node packages (npm ci)"
    start_job npm ensure_npm
  fi
  wait_jobs setup_job_done
  trap - INT TERM
  setup_done
  export ALE_ENGINE_PYTHON="$ALE_HOME/engine/venv/bin/python"
  ALE_SETUP_PHASES="$(phases_json)"
  export ALE_SETUP_PHASES
}

phases_json() {
  local out="" name
  for name in apt npm engine image tools; do
    [ -z "${JOB_SECONDS[$name]:-}" ] || out+="${out:+,}\"$name\":${JOB_SECONDS[$name]}"
  done
  printf '{%s}' "$out"
}
