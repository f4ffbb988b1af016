#!/usr/bin/env bats
# shellcheck disable=SC2154 # setup.bash sets package, root, installed, home, empty.
# What deploy/install refuses, in which words, and that nothing has changed then.

load setup

# refused CODE TEXT FLAG…
refused() {
  run "-$1" install_there "${@:3}"
  said "$2"
  [ -z "$(files_below "$root")" ]
}

@test "mistakes on the command line are named" {
  refused 2 "unknown argument '--frob'" --frob
  refused 2 "--role boss" --role boss
  refused 2 "--id My.Peer" --id My.Peer
  refused 2 "--id wants a value" --id
  refused 2 "the bus http://x" --nats http://x
  refused 2 "--listen goes with --with-nats-server" --listen 10.0.0.1
  refused 2 "wants --listen" --with-nats-server
  refused 1 "/nowhere/d: there is no such file" --binary /nowhere/d
  refused 1 "/bin/true does not run as peerbus' d" --binary /bin/true
  refused 1 "--prefix here: an absolute path" --prefix here
}

@test "a bus listens on loopback and private addresses only" {
  for address in 0.0.0.0 8.8.8.8 '[::]' 172.32.0.1 100.63.0.1 1.2.3 10.0.0.1:99999 10.0.0.256 vps '[2001:db8::1]:4222'; do
    refused 2 "--listen" --with-nats-server --listen "$address"
  done
  for address in 127.0.0.1 10.0.0.1:4300 172.31.0.1 192.168.1.1 100.64.0.1 '[fd00::1]:4222' fd00::1 '[::1]'; do
    run -0 install_there --with-nats-server --listen "$address"
    uninstall_there --purge
  done
}

@test "another program of that name is left alone" {
  mkdir -p "$installed/bin"
  printf '#!/bin/sh\necho other\n' >"$installed/bin/d"
  chmod +x "$installed/bin/d"
  run -1 install_there
  said "$installed/bin/d is there already and not of peerbus"
  [ "$("$installed/bin/d")" = other ]
  run -0 uninstall_there
  [ "$("$installed/bin/d")" = other ]
}

@test "a place where nothing can be written is named" {
  run -1 "$package/deploy/install" --root / --prefix /proc/peerbus
  said "cannot make"
  said "--prefix names another place"
}

@test "who is not root is told what to do" {
  run -1 as_nobody "$package/deploy/install"
  said "run it with sudo, or give --user"
}

@test "a person installs for themselves and removes it again" {
  run -0 as_nobody "$package/deploy/install" --user --nats nats://127.0.0.1:1 --no-start
  said "$home/.local/bin is not in your PATH yet"
  [ -x "$home/.local/bin/d" ]
  for line in "ExecStart=\"$home/.local/bin/d\" daemon run" "ExecReload=\"$home/.local/bin/d\" daemon reload"; do
    grep -qxF "$line" "$home/.config/systemd/user/peerbus.service"
  done
  run -0 as_nobody "$package/deploy/uninstall" --user --purge
  [ -z "$(files_below "$home")" ]
}

@test "root does not install for a person" {
  ((EUID == 0)) || return 0
  run -1 "$package/deploy/install" --user
  said "this is root"
}
