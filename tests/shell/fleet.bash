# shellcheck shell=bash
# A fleet of real daemons for the tests beside this file: a server, the leader "lead", and workers. Whoever tests sits
# at the machine "laptop". Everything is below $BATS_FILE_TMPDIR and stopped by process id.

ready_limit_s=60 # for one program to become ready, on a machine that is busy

# start_fleet WORKER…: PEERBUS_TEST_D is the `d` to test, PEERBUS_NATS_SERVER the server to start.
start_fleet() {
  local program=${PEERBUS_TEST_D:?names the d to test} server=${PEERBUS_NATS_SERVER:?names the nats-server} id
  place=$(readlink -f "$BATS_FILE_TMPDIR")
  for id in "${!PEERBUS_@}" "${!XDG_@}" NATS_URL; do
    [[ $id == PEERBUS_TEST_* ]] || unset "$id"
  done
  mkdir -p "$place/bin" "$place/home/.config" "$place/run" "$place/pids"
  ln -sf "$(readlink -f "$program")" "$place/bin/d"
  : >"$place/config.toml"
  : >"$place/fleet.sh"
  export place HOME=$place/home PATH=$place/bin:$PATH PEERBUS_RUNTIME_DIR=$place/run
  export PEERBUS_CONFIG=$place/config.toml PEERBUS_FLEET_FILE=$place/fleet.sh PEERBUS_STATE_DIR=$place/laptop
  start server "$server" 'Server is ready' -a 127.0.0.1 -p -1
  NATS_URL=nats://$(sed -n 's/.*Listening for client connections on \(127.0.0.1:[0-9]*\).*/\1/p' "$place/server.log")
  export NATS_URL
  start_daemon lead --role leader
  for id; do start_daemon "$id" --role worker; done
  wait_until_online lead "$@"
}

# start_daemon ID FLAG…
start_daemon() {
  start "$1" "$place/bin/d" "^ready peer=$1\>" daemon run --id "$1" --state-dir "$place/$1" "${@:2}"
}

# start NAME PROGRAM LINE ARGUMENT…: runs it in a session of its own until its log has the line.
start() {
  local name=$1 log=$place/$1.log follower log_fd
  : >"$log"
  setsid "$2" "${@:4}" </dev/null >>"$log" 2>&1 3>&- &
  printf '%s' "$!" >"$place/pids/$name"
  exec {log_fd}< <(exec tail -n +1 -s 0.05 -f --pid="$!" "$log" 3>&-)
  follower=$!
  timeout "$ready_limit_s" grep -q -m 1 "$3" <&"$log_fd" || { cat "$log" >&2 && return 1; }
  exec {log_fd}<&-
  kill "$follower" 2>/dev/null || true
}

# stop NAME…: asks, waits for the end, and kills what does not end.
stop() {
  local name pid
  for name; do
    pid=$(<"$place/pids/$name")
    rm "$place/pids/$name"
    kill -TERM "$pid" 2>/dev/null || continue
    timeout 20 tail -s 0.05 -f --pid="$pid" /dev/null || kill -KILL "$pid"
  done
}

stop_fleet() {
  [[ -n ${place-} ]] || return 0
  local pids=("$place"/pids/*)
  [[ ! -e ${pids[0]} ]] || stop "${pids[@]##*/}"
}

# Waits until the leader has these peers online; each is ready, so its heartbeat is on the way.
wait_until_online() {
  local id tries
  for id; do
    tries=100
    until d peers --json 2>/dev/null | jq -es --arg id "$id" 'any(.peer_id == $id and .is_online)' >/dev/null; do
      ((tries-- > 0)) || { d peers >&2 && return 1; }
      sleep 0.1
    done
  done
}
