#!/usr/bin/env bats
# shellcheck disable=SC2154 # setup.bash sets package, root, installed, home, empty.
# What is installed is accepted by those who read it: systemd, man, nats-server.

load setup

@test "systemd accepts the units" {
  install_there --role leader --with-nats-server --listen 10.0.0.1
  mkdir "$BATS_TEST_TMPDIR/units"
  for unit in "$root"/etc/systemd/system/*.service; do
    # It looks whether the program is there: where it was put.
    sed "s|^\(Exec[A-Z][a-z]*=\"\)/usr|\1$root/usr|; /^Documentation=man/d" "$unit" >"$BATS_TEST_TMPDIR/units/${unit##*/}"
  done
  run -0 systemd-analyze verify "$BATS_TEST_TMPDIR"/units/*.service
  [ -z "$output" ]
  sed "s|^\(Exec[A-Z][a-z]*=\)[^ ]*|\1\"$root/usr/local/bin/d\"|; /^Documentation=man/d" "$repo/deploy/peerbus.user.service" \
    >"$BATS_TEST_TMPDIR/units/peerbus.service"
  XDG_RUNTIME_DIR=$BATS_TEST_TMPDIR run -0 systemd-analyze --user verify "$BATS_TEST_TMPDIR/units/peerbus.service"
  [ -z "$output" ]
  # The check can fail.
  echo 'Tpye=notify' >>"$BATS_TEST_TMPDIR/units/peerbus-nats.service"
  run systemd-analyze verify "$BATS_TEST_TMPDIR/units/peerbus-nats.service"
  [ -n "$output" ]
}

@test "man accepts the pages, and they say what the help says" {
  "$PEERBUS_D" man-pages "$BATS_TEST_TMPDIR/man" >/dev/null
  run -0 mandoc -Tlint -W error "$BATS_TEST_TMPDIR"/man/*.[17]
  text=$(mandoc -Tascii "$BATS_TEST_TMPDIR/man/d-exec.1" | sed 's|.\x08||g')
  [[ $text == *"EXAMPLES"*"d exec vps -C /opt/app -- git log --oneline -5"*"EXIT STATUS"*"253    the peer is offline"* ]]
  text=$(mandoc -Tascii "$BATS_TEST_TMPDIR/man/peerbus-audit.7" | sed 's|.\x08||g')
  [[ $text == *"peerbus-audit - "*"DESCRIPTION"*"d audit vps"*"SEE ALSO"*"peerbus-exit-codes(7)"* ]]
}

@test "the bus gets the address it was told" {
  install_there --role leader --with-nats-server --listen 10.9.8.7:4300
  "$PEERBUS_NATS_SERVER" -t -c "$root/etc/peerbus/nats.conf"
  grep -q '^listen: "10.9.8.7:4300"$' "$root/etc/peerbus/nats.conf"
  grep -q '^nats = "nats://10.9.8.7:4300"$' "$root/etc/peerbus/config.toml"
}
