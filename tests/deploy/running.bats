#!/usr/bin/env bats
# shellcheck disable=SC2154 # setup.bash sets package, root, installed, home, port, server.
# What runs where deploy/ is at work: a daemon that only its lock shows, jobs that go on, and the fleet of
# deploy/quickstart.

load setup

@test "a daemon whose program nobody may look at is found by its lock, and stopped before its files go" {
  start_server
  as_nobody "$package/deploy/install" --user --nats "nats://127.0.0.1:$port" --id mine
  d=(as_nobody "$home/.local/bin/d")
  "${d[@]}" daemon start 3>&-
  daemon=$("${d[@]}" daemon status --json | jq .pid)
  run -0 as_nobody "$package/deploy/install" --user --id ours
  said "a daemon runs that has not seen what is new"
  job=$("${d[@]}" exec -d mine -C / -- sleep 60 3>&-)
  run -1 as_nobody "$package/deploy/uninstall" --user --purge
  said "jobs go on that were meant to"
  [ -x "$home/.local/bin/d" ]
  "${d[@]}" stop "mine/$job"
  # Another bus and another state directory, as the shell of deploy/quickstart has them, are not the installation's.
  NATS_URL=nats://127.0.0.1:1 PEERBUS_CONFIG=/nowhere PEERBUS_STATE_DIR=$BATS_TEST_TMPDIR/other \
    run -0 as_nobody "$home/.local/share/peerbus/deploy/uninstall" --user
  said "stopped peer=mine pid=$daemon"
  how=$(sed -n 's/^uninstall: to remove that too: //p' <<<"$output")
  # Whoever is to reap it may not have done so yet.
  run ! grep -q '^State:.[^ZX]' "/proc/$daemon/status"
  run ! grep -v -e '^./.config/peerbus/' -e '^./.local/state/peerbus/' -e '^./.cache/peerbus/' <(files_below "$home")
  as_nobody sh -c "$how"
  [ -z "$(files_below "$home")" ]
}

@test "a daemon that was started by name is not left behind" {
  as_nobody "$package/deploy/install" --user --no-start
  PATH=$home/.local/bin:$PATH as_nobody d daemon run --nats nats://127.0.0.1:1 --state-dir "$home/elsewhere" 2>"$BATS_TEST_TMPDIR/log" 3>&- &
  timeout 20 tail -n +1 -F "$BATS_TEST_TMPDIR/log" 2>/dev/null 3>&- | grep -q -m 1 connecting
  daemon=$(jq .pid "$home/elsewhere/lock")
  run -1 as_nobody "$package/deploy/uninstall" --user
  said "a daemon still runs (process $daemon)"
  [ -x "$home/.local/bin/d" ]
}

@test "the quickstart of a package shows it without building, and what it says can be pasted" {
  unset PEERBUS_NATS_SERVER
  [ "$("$package/deploy/get-nats-server")" = "$package/bin/nats-server" ]
  "$package/deploy/quickstart" --keep >"$BATS_TEST_TMPDIR/shown" 2>"$BATS_TEST_TMPDIR/said" 3>&- &
  daemon=$!
  timeout 60 tail -n +1 -F "$BATS_TEST_TMPDIR/shown" 2>/dev/null 3>&- | grep -q -m 1 '^There ' || { cat "$BATS_TEST_TMPDIR/said" && false; }
  sed -n '/^The fleet is up/,/^There /s/^  //p' "$BATS_TEST_TMPDIR/shown" >"$BATS_TEST_TMPDIR/pasted"
  run -0 bash -ex "$BATS_TEST_TMPDIR/pasted"
  said "laptop"
  said "line 3"
  kill "$daemon"
  wait "$daemon"
}

@test "a package says that it has no sources" {
  for script in test build; do
    run -1 "$package/deploy/$script"
    said "there are no sources here"
  done
  run -0 "$package/deploy/test" --help
  said "deploy/test [ARGUMENT…]"
}
