# shellcheck shell=bash
# What this machine has and what it still needs. Sourced by the scripts beside it; does nothing by itself.
# Everything said here goes to stderr: the stdout of a script belongs to its result.

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

fail() {
  say "$*"
  exit 1
}

# The Debian packages that bring a command.
declare -A packages_of=(
  [bats]="bats"
  [cc]="gcc libc6-dev"
  [fish]="fish"
  [git]="git"
  [htop]="htop"
  [jq]="jq"
  [less]="less"
  [mandoc]="mandoc"
  [mariadb]="mariadb-client-core"
  [mariadbd]="mariadb-server-core"
  [postgres]="postgresql"
  [musl-gcc]="musl-tools"
  [ps]="procps"
  [psql]="postgresql-client"
  [python3]="python3 python3-venv ca-certificates"
  [shellcheck]="shellcheck"
  [sshd]="openssh-server openssh-client"
  [systemd-analyze]="systemd"
  [tmux]="tmux"
  [vim]="vim"
  [zsh]="zsh"
)

# need_commands COMMAND…: makes sure that they can be run; whatever is missing is installed, or asked for, at once.
need_commands() {
  local command missing=() packages=()
  for command; do
    command -v "$command" >/dev/null && continue
    missing+=("$command")
    read -ra packages <<<"${packages[*]} ${packages_of[$command]}"
  done
  ((${#missing[@]} == 0)) || install_packages "${missing[*]}" "${packages[@]}"
}

# install_packages WHAT PACKAGE…: root on Debian installs; anyone else is told what to install.
install_packages() {
  local what=$1
  shift
  command -v apt-get >/dev/null || fail "missing: $what; install it (on Debian: $*), then run this again"
  ((EUID == 0)) || fail "missing: $what; run 'apt-get install $*' as root, then run this again"
  say "missing: $what; installing $*"
  # A machine with fresh package lists needs no update; one without them fails at once, and then gets it.
  apt_get install "$@" >/dev/null || { apt_get update >/dev/null && apt_get install "$@" >/dev/null; } ||
    { apt_get install "$@" >&2 || fail "apt-get could not install $*, needed for $what"; }
  hash -r
}

# Prints what apt-get says, all of it, whether it succeeds or not. RUNLEVEL=1: a service that comes with a package is
# not started where there is no systemd, as in a container or a chroot.
apt_get() { DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -y -qq --no-install-recommends "$@" 2>&1; }

# at_least HAVE NEED: compares dotted version numbers.
at_least() { [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]; }

# need_database_servers: mariadbd and postgres, which the tests start themselves; a service of either is never used.
need_database_servers() {
  # Debian keeps the programs of a PostgreSQL server out of PATH, each version in a place of its own.
  local PATH=$PATH:/usr/sbin places
  places=$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin -printf ':%p' 2>/dev/null) || true
  PATH+=$places
  need_commands mariadb mariadbd postgres psql
}

# need_rust: a cargo as new as Cargo.toml's rust-version asks for.
need_rust() {
  local need have
  need=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
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
