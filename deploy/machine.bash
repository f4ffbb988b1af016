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
  [xdotool]="xdotool"
  [xterm]="xterm"
  [Xvfb]="xvfb"
  [zsh]="zsh"
)

# keep_saying WHAT COMMAND…: runs it, and says every half minute that it still does. So nothing is silent for long, not
# even a build that works at one crate for minutes, or whose output goes to a file.
keep_saying() {
  local what=$1 alive
  shift
  # Whoever speaks reads from this shell alone, so it ends with it, however that ends.
  exec {alive}> >(exec >&2 && still_at "$what")
  "$@" {alive}>&-
  exec {alive}>&-
}

still_at() {
  local begin=$SECONDS code
  while code=0 && { read -r -t 30 || code=$?; } && ((code > 128)); do
    say "$1: $(duration $((SECONDS - begin))) so far"
  done
}

duration() { if (($1 < 60)); then printf '%d s' "$1"; else printf '%d min %d s' $(($1 / 60)) $(($1 % 60)); fi; }

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
  say "missing: $what; installing the Debian packages $*, which stay; no service that comes with them is started or enabled"
  keep_saying "installing packages" without_services apt_get_install "$@" || fail "apt-get could not install $*, needed for $what"
  hash -r
}

# A machine with fresh package lists needs no update; one without them fails at once, and then gets it.
apt_get_install() {
  apt_get install "$@" >/dev/null || { apt_get update >/dev/null && apt_get install "$@" >/dev/null; } || apt_get install "$@" >&2
}

# Prints what apt-get says, all of it, whether it succeeds or not.
apt_get() { DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -y -qq --no-install-recommends "$@" 2>&1; }

# without_services COMMAND…: packages that it installs start no service, now or with the machine: the tests start the
# servers they need themselves, and nobody asked for an sshd or a PostgreSQL that stays.
without_services() (
  policy=/usr/sbin/policy-rc.d before=$(enabled_units) code=0
  # Debian asks this program whether a service may be started. One that is there has its reasons.
  if [[ ! -e $policy ]]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  "$@" || code=$?
  while read -r new; do
    [[ -z $new ]] || systemctl --quiet disable "$new" || code=1
  done < <(LC_ALL=C comm -13 <(printf '%s\n' "$before") <(enabled_units))
  exit "$code"
)

# Without systemd nothing starts by itself.
enabled_units() {
  [[ ! -d /run/systemd/system ]] || systemctl list-unit-files --state=enabled --no-legend | awk '{ print $1 }' | LC_ALL=C sort
}

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

# build_debug: builds `d` as the tests use it, which takes half the time of the program to ship, and sets `debug_d`.
# shellcheck disable=SC2034 # For whoever sources this.
build_debug() {
  debug_d=$(realpath -m "${CARGO_TARGET_DIR:-target}")/debug/d
  keep_saying "building" cargo build --locked
}

# say_what_it_takes TIME DISK: for the first time; what is built already makes it less.
say_what_it_takes() {
  local target=${CARGO_TARGET_DIR:-target} free
  mkdir -p "$target"
  free=$(df --output=avail --human-readable "$target" | tail -n 1)
  say "the first time this takes some $1 on two processors, and $2 in $target, where ${free// /} are free; then much less"
}

# use_nats_server: exports PEERBUS_NATS_SERVER, the server that the managed broker and the tests start.
use_nats_server() {
  PEERBUS_NATS_SERVER=$(deploy/get-nats-server)
  export PEERBUS_NATS_SERVER
}
