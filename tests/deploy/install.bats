#!/usr/bin/env bats
# shellcheck disable=SC2154 # setup.bash sets package, root, installed, home, empty.
# What deploy/install puts where, and that deploy/uninstall removes just that.

load setup

@test "a package is installed, installed again without a change, and removed" {
  run -0 install_there --role worker --id vps --leader 10.0.0.1
  [ -x "$installed/bin/d" ]
  for file in man/man1/d-exec.1 man/man7/peerbus-exit-codes.7 bash-completion/completions/d zsh/site-functions/_d fish/vendor_completions.d/d.fish peerbus/shell/peerbus.sh; do
    [ -s "$installed/share/$file" ]
  done
  [ "$(cat "$root/etc/peerbus/config.toml")" = $'nats = "nats://10.0.0.1:4222"\npeer_id = "vps"\nrole = "worker"' ]
  [ ! -e "$root/etc/systemd/system/peerbus-nats.service" ]
  before=$(files_below "$root")
  # As a daemon leaves it that became another version.
  touch "$installed/bin/d.previous" "$installed/bin/d.failed"
  run -0 install_there --role worker --id vps --leader 10.0.0.1
  never_said "put "
  said "kept $root/etc/peerbus/config.toml as it is"
  [ "$(files_below "$root" | grep -v -e '/d\.previous$' -e '/d\.failed$')" = "$before" ]
  run -0 uninstall_there
  said "stays: $root/etc/peerbus"
  [ "$(files_below "$root")" = ./etc/peerbus/config.toml ]
  [ ! -e "$installed" ]
  run -0 uninstall_there --purge
  said "removing $root/etc/peerbus"
  [ -z "$(files_below "$root")" ]
}

@test "what was installed removes itself when the package is gone" {
  install_there
  cp -r "$installed/share/peerbus/deploy" "$BATS_TEST_TMPDIR/copy"
  rm -rf "$package"
  run -0 "$installed/share/peerbus/deploy/uninstall" --root "$root" --purge
  [ -z "$(files_below "$root")" ]
}

@test "every file is on the list, and the list names nothing else" {
  install_there --role leader --with-nats-server --listen 10.0.0.1
  listed=$(sed -n 's/^file /./p' "$installed/share/peerbus/installed" | sort)
  [ "$(files_below "$root" | grep -v '^./etc/peerbus/')" = "$listed" ]
}

@test "a leader gets the package's server, which d init then finds" {
  run -0 install_there --role leader --no-start
  cmp "$package/bin/nats-server" "$installed/lib/peerbus/nats-server"
  [ ! -e "$root/etc/systemd/system/peerbus-nats.service" ]
  run -0 install_there --role worker
  [ -x "$installed/lib/peerbus/nats-server" ]
  uninstall_there --purge
  [ -z "$(files_below "$root")" ]
}

@test "other people's files stay" {
  mkdir -p "$installed/bin" "$installed/share/man/man1"
  touch "$installed/bin/other" "$installed/share/man/man1/other.1"
  install_there
  uninstall_there --purge
  [ "$(files_below "$root")" = $'./usr/local/bin/other\n./usr/local/share/man/man1/other.1' ]
}

@test "a configuration keeps what was not asked for" {
  mkdir -p "$root/etc/peerbus"
  printf '# mine\nrole = "leader" # stays\nmax_jobs = 3\n' >"$root/etc/peerbus/config.toml"
  run -0 install_there --id vps
  [ "$(cat "$root/etc/peerbus/config.toml")" = $'# mine\nrole = "leader" # stays\nmax_jobs = 3\npeer_id = "vps"' ]
}

@test "a program that runs is replaced, and goes on as it was" {
  install_there
  PEERBUS_RUNTIME_DIR=$BATS_TEST_TMPDIR/run "$installed/bin/d" daemon run --nats nats://127.0.0.1:1 \
    --state-dir "$BATS_TEST_TMPDIR/state" 2>"$BATS_TEST_TMPDIR/log" 3>&- &
  daemon=$!
  timeout 20 tail -f "$BATS_TEST_TMPDIR/log" | grep -q -m 1 connecting
  # A newer one: the same program with something behind it.
  printf 'newer' >>"$package/bin/d"
  run -0 install_there
  said "put $installed/bin/d"
  cmp "$package/bin/d" "$installed/bin/d"
  # Only root may look at what it runs.
  ((EUID != 0)) || [[ $(readlink "/proc/$daemon/exe") == *"(deleted)" ]]
  kill "$daemon"
  wait "$daemon"
}

@test "files of an older version that are no longer part of it go" {
  install_there
  touch "$installed/share/man/man1/d-gone.1"
  echo "file /usr/local/share/man/man1/d-gone.1" >>"$installed/share/peerbus/installed"
  run -0 install_there
  said "removed $installed/share/man/man1/d-gone.1"
  run ! grep -q d-gone "$installed/share/peerbus/installed"
}

@test "a bus that is there stays when the daemon alone is installed again" {
  install_there --role leader --with-nats-server --listen 10.0.0.1
  run -0 install_there
  [ -x "$installed/lib/peerbus/nats-server" ]
  uninstall_there --purge
  [ -z "$(files_below "$root")" ]
}

@test "an interruption anywhere is healed by the next run" {
  # `sync` is called once for each file, before it gets its name: there the installation is killed.
  mkdir "$BATS_TEST_TMPDIR/fake"
  # shellcheck disable=SC2016 # For the fake.
  printf '#!/bin/sh\nn=$(($(cat "%s/count") - 1)); echo $n >"%s/count"; [ $n -gt 0 ] || kill -KILL $PPID\n' \
    "$BATS_TEST_TMPDIR" "$BATS_TEST_TMPDIR" >"$BATS_TEST_TMPDIR/fake/sync"
  chmod +x "$BATS_TEST_TMPDIR/fake/sync"
  for after in 1 2 9; do
    echo "$after" >"$BATS_TEST_TMPDIR/count"
    PATH=$BATS_TEST_TMPDIR/fake:$PATH run -137 install_there
    [ -n "$(find "$root" -name '.*.peerbus-new')" ]
  done
  run -0 install_there
  [ -z "$(find "$root" -name '.*.peerbus-new')" ]
  echo 1 >"$BATS_TEST_TMPDIR/count"
  printf 'newer' >>"$package/bin/d"
  PATH=$BATS_TEST_TMPDIR/fake:$PATH run -137 install_there
  "$installed/bin/d" --version
  run -0 uninstall_there --purge
  [ -z "$(files_below "$root")" ]
}
