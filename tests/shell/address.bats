#!/usr/bin/env bats
# shellcheck shell=bash
# shellcheck disable=SC2016 # For another shell.
# The shell functions that take an address, where exactly one peer has it: on one machine, a fleet of the leader alone.

bats_require_minimum_version 1.5.0
repository=$(readlink -f "$BATS_TEST_DIRNAME/../..")
. "$repository/tests/shell/fleet.bash"

# shellcheck disable=SC2119 # No workers.
setup_file() { start_fleet; }

teardown_file() { stop_fleet; }

setup() {
  case ${PEERBUS_TEST_SHELL:?is bash or zsh} in
    bash) shell=(bash --norc --noprofile) ;;
    zsh) shell=(zsh -f) ;;
  esac
}

call() {
  run --separate-stderr "${shell[@]}" -c '. "$0"; "$@"' "$repository/shell/peerbus.sh" "$@"
}

@test "an address leads to the id" {
  call getPeerIdByIp 127.0.0.1
  [[ $status -eq 0 && $output == lead && -z $stderr ]]
  call getPeerIdByIp 10.9.9.9
  [[ $status -eq 1 && -z $output && $stderr == *'No peer found with IP: 10.9.9.9'* ]]
}

@test "a command by address, with its output and code" {
  call execOnPeerByIp 127.0.0.1 /tmp 'echo "$PEERBUS_PEER in $(pwd)"; exit 6'
  [[ $status -eq 6 && $output == 'lead in /tmp' ]]
  call execOnPeerByIp 10.9.9.9 /tmp pwd
  [[ $status -eq 1 && -z $output && $stderr == *'No peer found with IP: 10.9.9.9'* ]]
}

@test "a task by address" {
  printf '[tasks.pull]\ndirectory = "/tmp"\nsteps = ["echo pulled in $(pwd)"]\n' >"$place/config.toml"
  call remotePull 127.0.0.1
  [[ $status -eq 0 && $output == 'pulled in /tmp' ]]
}

@test "a bus that is away has its own code" {
  export NATS_URL=nats://127.0.0.1:9
  call getPeerIdByIp 127.0.0.1
  [[ $status -eq 255 && -z $output && $stderr == *'bus unreachable'* ]]
}
