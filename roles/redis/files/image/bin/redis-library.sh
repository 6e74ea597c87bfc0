# shellcheck shell=sh
# What start-redis, start-sentinel and redis-alive share. Environment, set by the service:
#   REDIS_HOSTS, SENTINEL_HOSTS  names separated by spaces; the first Redis is the master of an empty cluster
#   SELF                         this instance's own name, one of the above
#   MASTER_NAME                  the name under which the Sentinels know the cluster
# The password never becomes an argument or an environment variable: it goes through pipes only.

secret=${SECRET_PATH:-/run/secrets/redis_password}
telegraf_secret=${TELEGRAF_SECRET_PATH:-/run/secrets/telegraf_password}
data=${DATA_DIR:-/data}
# shellcheck disable=SC2034  # the scripts that source this use it
settings=${SETTINGS_DIR:-/etc/redis}

say() { echo "${0##*/}: $*"; }

# quoted FILE: the secret in it in Redis's own quoting, the same in its configuration and for commands on redis-cli's input.
quoted() { sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/.*/"&"/' "$1"; }

# A variable of this shell alone, read once: Sentinels and health checks ask all the time.
password=$(quoted "$secret")

# allow_telegraf COMMAND...: the account of the Telegraf beside the server, which reads figures and no data.
allow_telegraf() {
  [ -r "$telegraf_secret" ] || return 0
  printf 'user telegraf on resetchannels -@all +ping +client|setinfo'
  printf ' +%s' "$@"
  printf ' >%s\n' "$(quoted "$telegraf_secret")"
}

# ask HOST PORT COMMAND...: each COMMAND is one line for redis-cli; prints the raw replies, nothing when unreachable.
ask() {
  ask_host=$1 ask_port=$2
  shift 2
  printf '%s\n' "AUTH $password" "$@" |
    timeout "${ASK_SECONDS:-1}" redis-cli -h "$ask_host" -p "$ask_port" --raw 2>/dev/null | sed -e 1d -e 's/\r$//'
}

count() { echo $#; }

majority() {
  # shellcheck disable=SC2086  # a list of names
  echo $(($(count $SENTINEL_HOSTS) / 2 + 1))
}

# Sets named (the Redis that a majority of Sentinels calls master, or nothing), answers (Sentinels that answered) and
# veterans (those that have run for 15 s: long enough to have seen this instance go).
survey_sentinels() {
  answers=0 veterans=0 votes=''
  for sentinel in $SENTINEL_HOSTS; do
    reply=$(ask "$sentinel" 26379 "SENTINEL get-master-addr-by-name $MASTER_NAME" 'INFO server')
    vote=$(echo "$reply" | sed -n 1p)
    [ -n "$vote" ] || continue
    answers=$((answers + 1))
    votes="$votes $vote"
    uptime=$(echo "$reply" | sed -n 's/^uptime_in_seconds://p')
    if [ "${uptime:-0}" -ge 15 ]; then veterans=$((veterans + 1)); fi
  done
  named=''
  for redis in $REDIS_HOSTS; do
    # shellcheck disable=SC2086  # a list of names
    if [ "$(printf '%s\n' $votes | grep -cx "$redis")" -ge "$(majority)" ]; then named=$redis; fi
  done
}

# One server per volume: swarm may start a task while the one before it is still stopping.
lock_volume() {
  exec 9>"$data/.lock"
  flock -w 30 9 || {
    say 'another server still uses this volume'
    exit 1
  }
}

# A deploy stops every Redis and Sentinel at the same moment. So that a majority of the Sentinels and a replica are
# always there, one after the other holds a lease, kept in a database of its own on the master, from before it stops
# until its successor serves. Without a majority of Sentinels there is nothing left to spare.
take_turn() {
  turn_deadline=$(($(date +%s) + ${TURN_SECONDS:-40}))
  while [ "$(date +%s)" -lt "$turn_deadline" ]; do
    survey_sentinels
    [ -n "$named" ] || return 0
    [ "$(ask "$named" 6379 'SELECT 15' "SET turn $SELF NX PX 15000" | sed -n 2p)" != OK ] || return 0
    sleep 0.5
  done
}

# The addresses of what has just started need a moment to reach those that use it, hence the pause.
pass_turn() {
  sleep 3
  survey_sentinels
  [ -n "$named" ] || return 0
  if [ "$(ask "$named" 6379 'SELECT 15' 'GET turn' | sed -n 2p)" = "$SELF" ]; then
    ask "$named" 6379 'SELECT 15' 'DEL turn' >/dev/null
  fi
}

# On SIGTERM: what the script that sources this has to do first (its function before_stop), then the server's own stop.
stop_server() {
  trap '' TERM INT
  before_stop
  kill -TERM "$server" 2>/dev/null || true
}

# supervise COMMAND...: runs the server until it ends, and returns its status.
supervise() {
  "$@" &
  server=$!
  trap stop_server TERM INT
  while :; do
    status=0
    wait "$server" || status=$?
    kill -0 "$server" 2>/dev/null || return "$status"
  done
}
