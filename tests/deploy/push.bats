#!/usr/bin/env bats
# shellcheck disable=SC2154 # setup.bash sets package, root, installed, home, empty.
# deploy/push to a real sshd: this machine, on a port of its own, installing into an empty root.

load setup

# What is not for a person is installed with sudo there, and that asks.
want_root() { ((EUID == 0)) || skip "an installation for the whole machine wants root"; }

start_sshd() {
  local sshd
  sshd=$(PATH=$PATH:/usr/sbin command -v sshd) || { echo "sshd is missing: install openssh-server" >&2 && return 1; }
  [[ $EUID != 0 ]] || mkdir -p /run/sshd
  keys=$BATS_TEST_TMPDIR/keys
  mkdir -m 700 "$keys"
  ssh-keygen -q -t ed25519 -N '' -f "$keys/host"
  ssh-keygen -q -t ed25519 -N '' -f "$keys/mine"
  for _ in 1 2 3 4 5; do
    port=$((20000 + RANDOM % 12000))
    printf '%s\n' "Port $port" "ListenAddress 127.0.0.1" "HostKey \"$keys/host\"" "PidFile \"$keys/pid\"" "UsePAM no" \
      "StrictModes no" "AuthorizedKeysFile $keys/mine.pub" "PermitRootLogin yes" >"$keys/config"
    "$sshd" -D -e -f "$keys/config" 2>"$keys/log" 3>&- &
    sshd_pid=$!
    timeout 10 tail -f --pid="$sshd_pid" "$keys/log" 3>&- | grep -q -m 1 "Server listening" && break
  done
  export PEERBUS_SSH="ssh -F none -p $port -i $keys/mine -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=$keys/known"
  target=$(id -un)@127.0.0.1
}

teardown() {
  [[ -z ${sshd_pid:-} ]] || kill "$sshd_pid" 2>/dev/null || true
}

pack() {
  file=$BATS_TEST_TMPDIR/peerbus-test-$1.tar.gz
  tar czf "$file" --transform 's|^a package|peerbus-test|' -C "$BATS_TEST_TMPDIR" "a package"
}

@test "a package is installed on another machine, over one connection" {
  want_root
  start_sshd
  pack "$(uname -m)"
  run -0 "$package/deploy/push" --package "$file" "$target" --root "$root" --role worker --id far --leader 10.0.0.1
  said "put $root/usr/local/bin/d"
  cmp "$package/bin/d" "$installed/bin/d"
  grep -q '^peer_id = "far"$' "$root/etc/peerbus/config.toml"
  [ "$(grep -c 'Accepted publickey' "$keys/log")" -eq 1 ]
  # Nothing of the package stays there.
  run ! compgen -G "/tmp/peerbus.*/deploy/install"
}

@test "from an unpacked package that package is pushed, and nothing is built" {
  want_root
  start_sshd
  run -0 "$package/deploy/push" "$target" --root "$root" --role worker --id far --leader 10.0.0.1
  never_said building
  cmp "$package/bin/d" "$installed/bin/d"
}

@test "another kind of machine is refused before anything is copied" {
  start_sshd
  pack riscv64
  run -1 "$package/deploy/push" --package "$file" "$target" --root "$root"
  said "the package is for Linux riscv64"
  [ -z "$(files_below "$root")" ]
}

@test "an installation that fails there is a failure here" {
  want_root
  start_sshd
  pack "$(uname -m)"
  run -1 "$package/deploy/push" --package "$file" "$target" --root "$root" --role boss
  said "--role boss"
  said "the installation on $target failed"
}

@test "who cannot log in is told so" {
  export PEERBUS_SSH="ssh -F none -p 1 -o BatchMode=yes -o ConnectTimeout=5"
  pack "$(uname -m)"
  run -1 "$package/deploy/push" --package "$file" "nobody@127.0.0.1"
  said "cannot log in to nobody@127.0.0.1"
}
