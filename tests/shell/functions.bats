#!/usr/bin/env bats
# shellcheck shell=bash
# shellcheck disable=SC2016 # What stands in single quotes is for the shell under test, or for the peer's.
# The shell functions against real daemons, in the shell that PEERBUS_TEST_SHELL names: bash or zsh.

bats_require_minimum_version 1.5.0
repository=$(readlink -f "$BATS_TEST_DIRNAME/../..")
. "$repository/tests/shell/fleet.bash"

setup_file() {
  start_fleet vps desktop laptop
  mkdir "$place/dir with 'blanks' \$HOME"
  cat >"$place/fleet.sh" <<END
PEERBUS_FLEET="vps=10.0.0.1 desktop=10.0.0.2 laptop=10.0.0.4 lab-1=10.0.0.9"
PEERBUS_PROJECT="$place/a project"
PEERBUS_PROJECT_desktop="$place/home"
PEERBUS_PROJECTS="CAD=$place/cad prod"
PEERBUS_INSTALL="printf 'installing %s\n' --minimal"
END
  make_projects >"$place/git.log" 2>&1 || { cat "$place/git.log" >&2 && return 1; }
}

teardown_file() { stop_fleet; }

# A repository, two clones of it for the machine vps, and one to push from.
make_projects() {
  git config --global user.name 'A Tester'
  git config --global user.email tester@example.invalid
  git init -q --bare "$place/origin.git"
  git clone -q "$place/origin.git" "$place/desk"
  git -C "$place/desk" commit -q --allow-empty -m first
  git -C "$place/desk" push -q origin HEAD
  git clone -q "$place/origin.git" "$place/a project"
  git clone -q "$place/origin.git" "$place/cad prod"
}

setup() {
  odd="$place/dir with 'blanks' \$HOME"
  case ${PEERBUS_TEST_SHELL:?is bash or zsh} in
    bash) shell=(bash --norc --noprofile) ;;
    zsh) shell=(zsh -f) ;;
  esac
}

# in_shell LINE WORD…: the line in the shell under test, with the functions; the words are its "$@".
in_shell() {
  "${shell[@]}" -c '. "$0"; eval "$functions_test_line"' "$repository/shell/peerbus.sh" "${@:2}"
}

# check LINE WORD…: runs it, with what it says apart in $output and $stderr.
check() {
  export functions_test_line=$1
  run --separate-stderr in_shell "$@"
}

# is CODE STDOUT: what was checked ended like this.
is() {
  [[ $status -eq $1 && $output == "$2" ]] || {
    printf 'status %s, wanted %s\nstdout: %s\nwanted: %s\nstderr: %s\n' "$status" "$1" "$output" "$2" "$stderr"
    return 1
  }
}

# says TEXT: it was said on stderr.
says() {
  [[ $stderr == *"$1"* ]] || {
    printf 'stderr: %s\nwanted: %s\n' "$stderr" "$1"
    return 1
  }
}

@test "sourcing runs no program and says nothing" {
  run --separate-stderr env PATH=/nonexistent "$(command -v "${shell[0]}")" -c '. "$0"' "$repository/shell/peerbus.sh"
  is 0 ""
  [[ -z $stderr ]]
}

@test "output, stderr and exit code pass through" {
  check 'execOnPeer "$@"' vps "$place" 'echo "$PEERBUS_PEER"; echo wrong >&2; exit 7'
  is 7 vps
  [[ $stderr == wrong ]]
}

@test "the words are joined with blanks to one line" {
  check 'execOnPeer "$@"' vps "$odd" pwd ';' echo '$((1 + 1))' '"a  b"' "'*'"
  is 0 "$odd"$'\n'"2 a  b *"
}

@test "a line of several lines, and words that look like flags" {
  check 'execOnPeer "$@"' vps "$place" 'echo one
echo "two"'
  is 0 $'one\ntwo'
  check 'execOnPeer "$@" || echo "code $?"' vps "$place" -no-such-program --peer desktop
  is 0 'code 127'
}

@test "standard input is not swallowed and IFS does not matter" {
  check 'IFS=,; printf "a\nb\n" | while read -r word; do execOnPeer vps "$1" echo "$word" x; done' "$place"
  is 0 $'a x\nb x'
}

@test "bad usage is told on stderr with 1" {
  local name
  for name in execOnPeer gitOnPeer getPeerIdByIp execOnPeerByIp remotePull remoteBd remoteDeployDaemon sshGit sshCmd \
    vpsExec desktopExec lab_1Exec; do
    check "$name"
    is 1 ""
    says "Usage: $name <"
  done
  check 'execOnPeer vps /tmp ""'
  is 1 ""
  says "Example: execOnPeer vps /opt/automateLinux 'git pull'"
  says 'Available peers: vps, desktop, laptop, lab-1'
}

@test "a machine does not execute on itself" {
  check 'execOnPeer laptop /tmp pwd'
  is 1 ""
  [[ $stderr == 'Error: Cannot exec on self (laptop). Run command locally instead.' ]]
}

@test "d's own failures keep their codes" {
  check 'execOnPeer nobody /tmp pwd'
  is 254 ""
  says 'Peer not found: nobody'
  check 'execOnPeer vps "$1" pwd' "$place/not there"
  is 249 ""
}

@test "this machine's id needs no bus" {
  check 'NATS_URL=nats://127.0.0.1:9 getCurrentPeerId'
  is 0 laptop
}

@test "this machine's id is the configured one before there is a daemon, then its address's, then unknown" {
  mkdir -p "$place/fake"
  printf '#!/bin/sh\necho "7: wg0    inet 10.0.0.2/24 scope global wg0"\n' >"$place/fake/ip"
  chmod +x "$place/fake/ip"
  export PEERBUS_STATE_DIR=$place/nothing
  check 'PEERBUS_PEER_ID=attic getCurrentPeerId'
  is 0 attic
  check 'PATH=$1:$PATH getCurrentPeerId' "$place/fake"
  is 0 desktop
  printf '#!/bin/sh\necho "7: wg0    inet 10.0.0.22/24 scope global wg0"\n' >"$place/fake/ip"
  check 'PATH=$1:$PATH getCurrentPeerId' "$place/fake"
  is 0 unknown
}

@test "the functions named after a peer run in its project" {
  check 'vpsExec pwd'
  is 0 "$place/a project"
  check 'desktopExec "pwd; exit 3"'
  is 3 "$place/home"
  check 'vpsInstall'
  is 0 'installing --minimal'
  check 'lab_1Exec pwd'
  is 254 ""
}

@test "git on a peer: what was pushed here is pulled there" {
  local n
  n=$(git -C "$place/desk" rev-list --count HEAD)
  git -C "$place/desk" commit -q --allow-empty -m "change $n"
  git -C "$place/desk" push -q origin HEAD
  check 'vpsPull'
  [[ $status -eq 0 && $output == *Fast-forward* ]]
  check 'vpsCADPull'
  [[ $status -eq 0 && $output == *Fast-forward* ]]
  check 'vpsPull'
  is 0 'Already up to date.'
  check 'gitOnPeer vps "$1" log --format=%s -1' "$place/a project"
  is 0 "change $n"
  check 'gitOnPeer vps "$1" status' "$place"
  [[ $status -eq 128 && $stderr == *'not a git repository'* ]]
}

@test "remotePull, remoteBd and remoteDeployDaemon run the tasks of that name" {
  cat >"$place/config.toml" <<END
[tasks.pull]
directory = "$place/a project"
steps = ["git pull"]
[tasks.build]
directory = "$place"
steps = ["echo building; exit 4"]
END
  check 'remotePull vps'
  is 0 'Already up to date.'
  check 'remoteBd vps'
  is 4 building
  check 'remoteDeployDaemon nobody'
  is 254 ""
  : >"$place/config.toml"
}

@test "peerDiag is d doctor" {
  check 'peerDiag nobody; echo "code $?"; d doctor nobody >/dev/null 2>&1; echo "code $?"'
  [[ $status -eq 0 && ${lines[-2]} == "${lines[-1]}" && ${lines[-1]} != 'code 0' ]]
  check 'peerDiag vps'
  [[ $output == *vps* ]]
}

# A stand-in for ssh: it shows what it was given, and has a shell do it, as the other side would.
@test "ssh is given one well quoted line, with a notice" {
  mkdir -p "$place/fake"
  printf '#!/bin/sh\n[ "$1" = -- ] || exit 99\necho "to $2"\nexec sh -c "$3"\n' >"$place/fake/ssh"
  chmod +x "$place/fake/ssh"
  export PATH=$place/fake:$PATH
  check 'sshCmd root@10.0.0.1 "$1" pwd "&&" echo "\$((1+1))"' "$odd"
  is 0 $'to root@10.0.0.1\n'"$odd"$'\n2'
  says 'Note: Prefer using execOnPeer instead'
  check 'sshCmd h "~/.config" pwd'
  is 0 $'to h\n'"$HOME/.config"
  check 'sshGit h "$1" log --format=%s --max-count=1 --reverse' "$place/a project"
  [[ $status -eq 0 && $output == $'to h\n'* ]]
  says 'Note: Prefer using gitOnPeer instead'
}

@test "they work under the options and aliases a shell may have" {
  local options='set -eu -o noclobber'
  [[ $PEERBUS_TEST_SHELL != zsh ]] || options+=' -o ksh_arrays -o sh_word_split -o glob_subst -o null_glob'
  [[ $PEERBUS_TEST_SHELL != bash ]] || options+=' -o pipefail; shopt -s expand_aliases failglob nocasematch'
  cat >"$place/options.sh" <<END
$options
alias cd=false git=false ls=false d=false ssh=false local=local
IFS=/
. "$repository/shell/peerbus.sh"
execOnPeer vps "\$1" echo '"*"' '[x]' '\$((2 * 3))'
getCurrentPeerId
vpsExec echo done
execOnPeer || echo "usage \$?"
execOnPeer vps /tmp 'exit 5'
echo 'not reached'
END
  run --separate-stderr "${shell[@]}" "$place/options.sh" "$odd"
  is 5 $'* [x] 6\nlaptop\ndone\nusage 1'
}

@test "a subshell has them" {
  case $PEERBUS_TEST_SHELL in
    # They reach a new bash through the environment, with the fleet in them.
    bash) check 'bash -c "vpsExec pwd; unset PEERBUS_FLEET_FILE; execOnPeer"' ;;
    zsh) check '(vpsExec pwd; execOnPeer)' ;;
  esac
  is 1 "$place/a project"
  says lab-1
}
