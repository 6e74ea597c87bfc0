# shellcheck shell=bash
# What several scripts need; each sources it from the repository's root.

fail() {
  printf '%s: %s\n' "${0##*/}" "$1" >&2
  exit 1
}

lock_file() { echo "${FORUM_LOCK_DIR:-/run/lock}/forum-$1"; }

# holders FILE: the processes, other than this one, that have a lock open. A lock is always descriptor 8 or 9.
holders() {
  local open
  for open in /proc/[0-9]*/fd/[89]; do
    [ "$open" -ef "$1" ] || continue
    open=${open#/proc/}
    [ "${open%%/*}" = $$ ] || echo "${open%%/*}"
  done | sort -un | paste -sd ' '
}

# lock_lab REMEDY: the lab's lock. One for the whole machine, since the names of containers are, too. It is descriptor 9, and what a
# script starts inherits it: a lab is at work as long as one of its playbooks lives, whatever became of the script.
# Under a script that holds the lock (make test) nothing is to be done; its word is taken only if it has the file open.
lock_lab() {
  local file
  file=lab-${LAB_NAME:?}
  file=$(lock_file "$file")
  [ ! "/proc/${FORUM_LOCK_HOLDER:-none}/fd/9" -ef "$file" ] || return 0
  mkdir -p "${file%/*}"
  exec 9>>"$file"
  flock -n 9 || fail "something is at work on the lab $LAB_NAME (processes $(holders "$file")): wait until it ends, \
or end it with kill. $1"
  export FORUM_LOCK_HOLDER=$$
}

# Packages, the virtual environment and the engine are shared by all labs: one script at a time changes them.
lock_setup() {
  local file
  file=$(lock_file setup)
  mkdir -p "${file%/*}"
  exec 8>>"$file"
  flock -n 8 && return
  echo "Waiting for another set-up on this machine (processes $(holders "$file"))"
  flock -w 900 8 || fail "the other set-up doesn't end: look at its processes, end them with kill, start again"
}

unlock_setup() { exec 8>&-; }

# install_packages NAME...: those of Debian's packages that aren't there yet. Under lock_setup.
install_packages() {
  local missing=() apt=(apt-get -qq -o DPkg::Lock::Timeout=120) package
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  [ "${#missing[@]}" != 0 ] || return 0
  export DEBIAN_FRONTEND=noninteractive
  # An installation that was killed leaves its journal or half of a package, and apt refuses to go on from there.
  if [ -n "$(dpkg --audit; ls -A /var/lib/dpkg/updates)" ]; then
    echo "Finishing an installation that was interrupted"
    dpkg --configure -a --force-confold >/dev/null
  fi
  echo "Installing ${missing[*]}"
  "${apt[@]}" update
  "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null
}

require_lab() {
  [ -s ".lab/${LAB_NAME:?}/endpoints.json" ] || fail "the lab $LAB_NAME isn't up: make lab brings it up"
}

# follow COMMAND...: runs it and waits for it to end. Told to stop, it tells the command, waits, and ends this script:
# bash alone would leave the command behind. Ctrl-C reaches both from the terminal itself; a second one would
# interrupt the command's tidying up.
follow() {
  local child='' code stopped=0 interrupted
  trap 'stopped=143 interrupted=1; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null' TERM
  trap 'stopped=129 interrupted=1; [ -z "$child" ] || kill -HUP "$child" 2>/dev/null' HUP
  trap 'stopped=130 interrupted=1; { true >/dev/tty; } 2>/dev/null || [ -z "$child" ] || kill -INT "$child" 2>/dev/null' INT
  # Without the terminal a command in the background would ignore INT.
  env --default-signal=INT,QUIT "$@" <&0 &
  child=$!
  # Told so before there was whom to tell.
  [ "$stopped" = 0 ] || kill -TERM "$child" 2>/dev/null
  while :; do
    interrupted='' code=0
    wait "$child" || code=$?
    [ -n "$interrupted" ] || break
  done
  trap - TERM HUP INT
  [ "$stopped" = 0 ] || exit "$stopped"
  return "$code"
}
