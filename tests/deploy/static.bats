#!/usr/bin/env bats
# shellcheck disable=SC2154,SC2034 # setup.bash sets package, root, installed, home, empty, port, and stops daemon.
# The program to ship works where nothing else is: in a root directory with nothing but itself.

load setup

# An empty root with the little that a program is promised: some of /dev, and /proc for whoever is in it. Nothing of this
# machine is mounted into a folder that is removed afterwards.
make_empty_root() {
  ((EUID == 0)) || skip "chroot wants root"
  empty=$BATS_TEST_TMPDIR/empty
  mkdir -p "$empty"/{proc,dev,etc,tmp}
  cp "$PEERBUS_D" "$empty/d"
  mknod -m 666 "$empty/dev/null" c 1 3
  mknod -m 666 "$empty/dev/random" c 1 8
  mknod -m 666 "$empty/dev/urandom" c 1 9
}

# in_empty COMMAND…: with a /proc that only it sees, and that is gone when it ends.
in_empty() {
  # shellcheck disable=SC2016 # The shell there has the arguments.
  exec unshare --mount sh -ec 'mount -t proc proc "$0/proc"; exec chroot "$0" "$@"' "$empty" "$@"
}

@test "a daemon in an empty root finds its bus by name, and users in /etc/passwd" {
  make_empty_root
  start_server
  [[ $(in_empty /d --version) =~ ^d\ [0-9] ]]
  echo "127.0.0.1 bus.example" >"$empty/etc/hosts"
  # Plugins that a machine may ask for are not asked.
  printf '%s\n' "passwd: systemd sss files" "group: sss files" "initgroups: sss" "hosts: mdns4_minimal resolve files dns" >"$empty/etc/nsswitch.conf"
  printf '%s\n' root:x:0:0::/:/bin/sh bob:x:1234:1235::/tmp:/bin/sh >"$empty/etc/passwd"
  printf '%s\n' bob:x:1235: more:x:1236:bob >"$empty/etc/group"
  in_empty /d daemon run --id w1 --nats "nats://bus.example:$port" --state-dir /tmp/state 2>"$BATS_TEST_TMPDIR/log" 3>&- &
  daemon=$!
  timeout 20 tail -n +1 -f "$BATS_TEST_TMPDIR/log" 3>&- | grep -q -m 1 '^ready peer=w1 '
  asked=(in_empty /d --nats "nats://bus.example:$port")
  run -0 "${asked[@]}" exec w1 -C / --user bob -- /d --version
  run -249 "${asked[@]}" exec w1 -C / --user nobody-here -- /d --version
  said 'there is no user "nobody-here"'
  run -255 in_empty /d --nats nats://no-such-host.invalid:4222 --connect-timeout 1s peers
  said "no-such-host.invalid"
}
