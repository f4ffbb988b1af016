# shellcheck shell=bash
# What every test of deploy/ begins with: a package unpacked in a directory with a blank in its name, and an empty root
# to install into. Nothing outside of the test's own directory is written.

setup() {
  bats_require_minimum_version 1.5.0
  repo=$(dirname "$(dirname "$BATS_TEST_DIRNAME")")
  : "${PEERBUS_NATS_SERVER:?names the nats-server to install; deploy/test sets it}"
  [[ -x ${PEERBUS_D:?names the program to install; deploy/test sets it} ]]
  export TMPDIR=$BATS_TEST_TMPDIR
  unset PEERBUS_CONFIG PEERBUS_JOB NATS_URL XDG_CONFIG_HOME XDG_DATA_HOME XDG_STATE_HOME
  package="$BATS_TEST_TMPDIR/a package"
  root="$BATS_TEST_TMPDIR/a root"
  mkdir -p "$package/bin" "$root"
  cp -r "$repo/deploy" "$repo/nats" "$repo/shell" "$repo/README.md" "$repo/LICENSE" "$package/"
  cp "$PEERBUS_D" "$package/bin/d"
  cp "$PEERBUS_NATS_SERVER" "$package/bin/nats-server"
  chmod -R a+rX "$BATS_TEST_TMPDIR"
  export installed=$root/usr/local
  home=$BATS_TEST_TMPDIR/home
}

teardown() {
  local process
  for process in ${daemon:-} ${server:-}; do
    kill "$process" 2>/dev/null || continue
    wait "$process" || true
  done
}

# start_server: a bus at 127.0.0.1:$port.
start_server() {
  "$PEERBUS_NATS_SERVER" -a 127.0.0.1 -p -1 --ports_file_dir "$BATS_TEST_TMPDIR" 3>&- 2>"$BATS_TEST_TMPDIR/server" &
  server=$!
  port=$(timeout 20 tail -n +1 -f "$BATS_TEST_TMPDIR/server" 3>&- | sed -n 's/.*Listening for client connections on 127.0.0.1:\([0-9]*\).*/\1/p;/Server is ready/q')
  [ -n "$port" ]
}

# install_there FLAG…: into the empty root.
install_there() { "$package/deploy/install" --root "$root" "$@"; }

uninstall_there() { "$package/deploy/uninstall" --root "$root" "$@"; }

# said TEXT: what the last `run` said has it in it.
said() {
  # shellcheck disable=SC2154 # bats sets it.
  [[ $output == *"$1"* ]] || { printf 'expected "%s" in:\n%s\n' "$1" "$output" >&2 && return 1; }
}

never_said() {
  [[ $output != *"$1"* ]] || { printf 'did not expect "%s" in:\n%s\n' "$1" "$output" >&2 && return 1; }
}

# files_below DIR: sorted, without the directories.
files_below() { (cd "$1" && find . -type f | sort); }

# as_nobody COMMAND…: as somebody who is not root, with a home of their own.
as_nobody() {
  local alone=(env -u TMPDIR -u XDG_RUNTIME_DIR -u DBUS_SESSION_BUS_ADDRESS HOME="$home")
  if ((EUID != 0)); then
    mkdir -p "$home" && "${alone[@]}" "$@"
    return
  fi
  install -d -o nobody "$home"
  chmod a+x "$BATS_RUN_TMPDIR" "${BATS_TEST_TMPDIR%/*}" "$BATS_TEST_TMPDIR"
  "${alone[@]}" setpriv --reuid nobody --regid nogroup --clear-groups "$@"
}
