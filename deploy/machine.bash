# shellcheck shell=bash
# What this machine has and what it still needs. Sourced by the scripts beside it; does nothing by itself.
# Everything said here goes to stderr: the stdout of a script belongs to its result.

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

fail() {
  say "$*"
  exit 1
}

# need_command COMMAND PACKAGE…: makes sure COMMAND can be run, from these Debian packages if it is missing.
need_command() {
  local command=$1
  shift
  command -v "$command" >/dev/null && return
  install_packages "$command" "$@"
  hash -r
  command -v "$command" >/dev/null || fail "$command is still missing after installing $*"
}

# install_packages WHAT PACKAGE…: root on Debian installs; anyone else is told what to install.
install_packages() {
  local what=$1
  shift
  command -v apt-get >/dev/null ||
    fail "$what is missing: install it (on Debian: apt-get install $*), then run this again"
  ((EUID == 0)) || fail "$what is missing: run 'sudo apt-get install $*', then run this again"
  say "$what is missing: installing $*"
  # A machine with fresh package lists needs no update; one without them fails at once, and then gets it.
  apt_install "$@" >/dev/null 2>&1 && return
  apt-get update -qq >&2 || fail "apt-get update failed; $what is needed"
  apt_install "$@" >&2 || fail "apt-get could not install $*; $what is needed"
}

apt_install() { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; }

# at_least HAVE NEED: compares dotted version numbers.
at_least() { [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]; }

# need_rust: a C compiler, and a cargo as new as Cargo.toml's rust-version asks for.
need_rust() {
  local need have
  need=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
  need_command cc gcc libc6-dev
  command -v cargo >/dev/null || PATH=$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin
  command -v cargo >/dev/null || fail "cargo is missing: install Rust $need or newer with rustup, then run this again"
  have=$(cargo --version | awk '{ print $2 }') || fail "'cargo --version' failed: repair the Rust installation first"
  at_least "$have" "$need" ||
    fail "cargo is version $have, and $need or newer is needed: run 'rustup update stable', then run this again"
}

# use_nats_server: exports PEERBUS_NATS_SERVER, the server that the managed broker and the tests start.
use_nats_server() {
  PEERBUS_NATS_SERVER=$(deploy/get-nats-server)
  export PEERBUS_NATS_SERVER
}
