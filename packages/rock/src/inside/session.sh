exec 2>/dev/null
set +m +H +o history
unset MAILCHECK HISTFILE PROMPT_COMMAND
PS1= PS2=
__ale_last=0 __ale_command='builtin exit 126' __ale_in= __ale_cut=
# PID 1 sends this signal where a command has to end: once the program in the foreground is gone, the rest of the command is given up, also
# where the command has a trap of its own for interrupts. The status is that program's, unless it did well or it was `wait`, which
# makes 192 of this signal. Between commands nothing happens.
trap '{ __ale_cut_at=$?; if [[ -n $__ale_in ]]; then __ale_in=; case $__ale_cut_at in 0 | 192) __ale_cut=130 ;; *) __ale_cut=$__ale_cut_at ;; esac; builtin trap - INT; builtin kill -INT $$; fi; } 2>/dev/null' 64
__ale_status() { return "$1"; }
__ale_state() {
  builtin printf '%s\0' "$PWD"
  builtin printf 'builtin unset -v $(builtin compgen -e)\n'
  builtin export -p
  builtin shopt -p
  builtin declare -f
  builtin declare -Fx
  builtin alias -p
  builtin umask -p
  builtin printf 'builtin cd -- %q\n' "$PWD"
  builtin local option
  # Not emacs, vi, history, monitor, noexec and onecmd: they would change how this shell reads its commands.
  for option in allexport braceexpand errtrace functrace hashall ignoreeof keyword noclobber noglob physical pipefail posix nounset errexit xtrace; do
    if [[ -o $option ]]; then builtin printf 'builtin set -o %s\n' $option; else builtin printf 'builtin set +o %s\n' $option; fi
  done
  builtin printf '__ale_status %s\n' "$__ale_last"
}
