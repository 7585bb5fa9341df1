# shellcheck shell=bash
#
# Talking to a person, and programs in the background: what setup.sh and ./test need to show several things being done at once
# and to leave nothing behind. Sourced by setup.sh, never run.
#
# Owns: every job that was started, with its process group, its log in $ALE_HOME/logs and its seconds.
# Must never: write to stdout, except the one JSON line of a failure under ALE_JSON=1.

# ---------------------------------------------------------------------------------------------------------------- talking

say() { printf '%s\n' "$*" >&2; }
step() { printf '%s\n' "· $*" >&2; }

json_string() { # TEXT: as a JSON string
  local text="${1//\\/\\\\}"
  text="${text//\"/\\\"}"
  text="${text//$'\n'/\\n}"
  text="${text//$'\t'/\\t}"
  printf '"%s"' "$text"
}

die() { # CODE MESSAGE NEXT: what happened, what to do about it, and out
  clear_line
  say "" "error: $2"
  [ -z "$3" ] || say "next:  ${3//$'\n'/$'\n'       }"
  if [ "$ALE_JSON" = 1 ]; then
    printf '{"ok":false,"exitCode":%s,"error":{"code":"setup","message":%s,"next":%s}}\n' \
      "$1" "$(json_string "$2")" "$(json_string "$3")"
  fi
  exit "$1"
}

clear_line() { if [ -t 2 ]; then printf '\r\033[K' >&2; fi; }

# ------------------------------------------------------------------------------------------------------------- background
# Jobs run in process groups of their own, with a log each, so that one signal ends everything a job started.

JOB_NAMES=() JOB_PIDS=() JOB_STARTS=()

now() { printf '%s' "${EPOCHREALTIME/,/.}"; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.1f", b - a }'; }

start_job() { # NAME COMMAND…: in the background, output to $ALE_HOME/logs/NAME.log
  local name="$1"
  shift
  set -m # a process group per job
  ( "$@" ) >"$ALE_HOME/logs/$name.log" 2>&1 </dev/null &
  JOB_PIDS+=("$!")
  set +m
  JOB_NAMES+=("$name")
  JOB_STARTS+=("$(now)")
}

stop_jobs() {
  local pid
  for pid in "${JOB_PIDS[@]}"; do kill -TERM -- "-$pid" 2>/dev/null || true; done
  for pid in "${JOB_PIDS[@]}"; do
    for _ in 1 2 3 4 5 6 7 8 9 10; do
      kill -0 -- "-$pid" 2>/dev/null || break
      sleep 0.3
    done
    kill -KILL -- "-$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  JOB_NAMES=() JOB_PIDS=() JOB_STARTS=()
}

interrupted() {
  trap - INT TERM
  clear_line
  say "" "interrupted; everything that was started has been stopped. Run the same command again to go on."
  stop_jobs
  exit "$EXIT_INTERRUPTED"
}

watch_line() { # One line of progress over all running jobs: in place on a terminal, every 15 s elsewhere.
  local line="" i
  for i in "${!JOB_NAMES[@]}"; do line+="${line:+, }${JOB_NAMES[$i]} $(since "${JOB_STARTS[$i]}") s"; done
  if [ -t 2 ]; then
    printf '\r\033[K  … %s' "$line" >&2
  elif [ $((SECONDS - WATCHED_AT)) -ge 15 ]; then
    WATCHED_AT=$SECONDS
    say "  … $line"
  fi
}

end_when_hanging() { # INDEX
  local pid="${JOB_PIDS[$1]}" seconds
  seconds="$(since "${JOB_STARTS[$1]}")"
  if [ "${seconds%.*}" -gt $((JOB_LIMIT_SECONDS + 15)) ]; then
    kill -KILL -- "-$pid" 2>/dev/null || true
  elif [ "${seconds%.*}" -gt "$JOB_LIMIT_SECONDS" ]; then
    echo "ended after $JOB_LIMIT_SECONDS s: it seems to hang" >>"$ALE_HOME/logs/${JOB_NAMES[$1]}.log"
    kill -TERM -- "-$pid" 2>/dev/null || true
  fi
}

# Waits for every job, calling `on_done NAME EXIT_CODE SECONDS LOG` as each ends; that may start further jobs. One that takes
# longer than JOB_LIMIT_SECONDS hangs: it is ended and counts as failed.
JOB_LIMIT_SECONDS=1200
wait_jobs() { # on_done
  local on_done="$1" i pid name code seconds
  WATCHED_AT=$SECONDS
  while [ "${#JOB_PIDS[@]}" -gt 0 ]; do
    for i in "${!JOB_PIDS[@]}"; do
      pid="${JOB_PIDS[$i]}"
      if kill -0 "$pid" 2>/dev/null; then
        end_when_hanging "$i"
        continue
      fi
      code=0
      wait "$pid" || code=$?
      name="${JOB_NAMES[$i]}"
      seconds="$(since "${JOB_STARTS[$i]}")"
      JOB_SECONDS[$name]="$seconds"
      unset "JOB_PIDS[$i]" "JOB_NAMES[$i]" "JOB_STARTS[$i]"
      clear_line
      "$on_done" "$name" "$code" "$seconds" "$ALE_HOME/logs/$name.log"
    done
    watch_line
    sleep 0.2
  done
  clear_line
}
