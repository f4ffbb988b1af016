# shellcheck shell=bash
# Where an installation puts its files, and the list of what it has put there. Sourced by deploy/install and
# deploy/uninstall after machine.bash; does nothing by itself.
#
# The list is written before the files are: whatever stops an installation half-way, the next one and deploy/uninstall
# know all that may be there.

usage() {
  say "$*"
  exit 2
}

# staging DIR: the directory as an absolute path.
staging() {
  [[ -d $1 ]] || usage "--root $1: there is no such directory"
  readlink -f "$1"
}

# What whoever sources this has set.
: "${scope:=system}" "${prefix=}" "${root=}"

# set_places: from `scope` (system or user), `prefix` (may be empty) and `root` (a staging directory, or empty).
# shellcheck disable=SC2034 # They are for whoever sources this.
set_places() {
  [[ $scope == user ]] || [[ $EUID == 0 || -n $root ]] ||
    fail "this is for the whole machine, and so for root: run it with sudo, or give --user for yourself alone"
  if [[ $scope == user ]]; then
    ((EUID != 0)) || fail "--user is for a person's own account, and this is root: run it as that person, or leave --user out"
    [[ ${HOME:-} == /* ]] || fail "HOME is not set: there is no place for --user"
    prefix=${prefix:-$HOME/.local}
    config_dir=${XDG_CONFIG_HOME:-$HOME/.config}/peerbus
    units=${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user
    state_dir=${XDG_STATE_HOME:-$HOME/.local/state}/peerbus
    bus_state_dir=
    cache_dir=${XDG_CACHE_HOME:-$HOME/.cache}/peerbus
    control=(systemctl --user)
    journal=(journalctl --user)
  else
    prefix=${prefix:-/usr/local}
    config_dir=/etc/peerbus
    units=/etc/systemd/system
    state_dir=/var/lib/peerbus
    bus_state_dir=/var/lib/peerbus-nats
    cache_dir=
    control=(systemctl)
    journal=(journalctl)
  fi
  [[ $prefix == /* ]] || fail "--prefix $prefix: an absolute path is wanted"
  [[ $prefix != *$'\n'* && $root != *$'\n'* ]] || fail "a path with a line break in it is not possible"
  prefix=${prefix%/}
  program=$prefix/bin/d
  share=$prefix/share
  libexec=$prefix/lib/peerbus
  manifest=$root$share/peerbus/installed
}

# What an interrupted installation may leave beside a file. Always the same name, so that the next one takes it over.
unfinished() { printf '%s/.%s.peerbus-new' "${1%/*}" "${1##*/}"; }

# can_use_systemd: whether there is a systemd to be told about units.
can_use_systemd() {
  [[ -z $root && -d /run/systemd/system ]] && "${control[@]}" show-environment >/dev/null 2>&1
}

# ── what runs ────────────────────────────────────────────────────────────────

# daemons: the processes of the daemons of this installation, on one line. A daemon's lock on its state directory is the
# proof; daemons with another state directory are known by the program they run.
daemons() {
  local directory pids=()
  [[ -z $root ]] || return 0
  while IFS= read -r directory; do
    ! is_held "$directory/lock" || pids+=("$(pid_in "$directory/lock")")
  done < <(state_directories)
  read -ra pids <<<"${pids[*]} $(running "$program" daemon)"
  unique "${pids[@]}"
}

# shims: the processes that keep jobs going which are meant to outlive the daemon.
shims() {
  local directory job pids=()
  [[ -z $root ]] || return 0
  while IFS= read -r directory; do
    for job in "$directory"/jobs/*; do
      ! is_held "$job/lock" || pids+=("$(pid_in "$job/shim.json")")
    done
  done < <(state_directories)
  read -ra pids <<<"${pids[*]} $(running "$program" shim)"
  unique "${pids[@]}"
}

# Those that a daemon which was started with this installation's settings may have.
state_directories() {
  local named
  named=$(sed -n 's/^[[:space:]]*state_dir[[:space:]]*=[[:space:]]*["'\'']\(.*\)["'\''].*/\1/p' "$config_dir/config.toml" 2>/dev/null) || true
  printf '%s\n' "$state_dir" ${named:+"$named"} ${PEERBUS_STATE_DIR:+"$PEERBUS_STATE_DIR"} | sort -u
}

# is_held FILE: whether a process has it locked. To anybody but root /proc does not say what a daemon runs.
is_held() {
  [[ -e $1 ]] || return 1
  command -v flock >/dev/null || fail "missing: flock, which tells whether a daemon runs (on Debian: util-linux)"
  ! flock --shared --nonblock "$1" true 2>/dev/null
}

# pid_in FILE: whoever holds it has written down who it is.
pid_in() { [[ ! $(cat "$1" 2>/dev/null) =~ \"pid\":([0-9]+) ]] || printf '%s' "${BASH_REMATCH[1]}"; }

unique() { (($# == 0)) || printf '%s\n' "$@" | sort -nu | paste -sd ' '; }

# running PROGRAM VERB: the processes that run it, on one line; also those that run a version it has replaced.
running() {
  local process program words pids=()
  for process in /proc/[0-9]*; do
    mapfile -d '' -t words 2>/dev/null <"$process/cmdline" || continue
    [[ -n ${words[0]:-} ]] || continue
    # What a daemon runs only root can see; whose it is, and how it was called, everybody. Called `d`, it may be any.
    if ! program=$(readlink "$process/exe"); then
      [[ $(owner_of "$process") == "$EUID" ]] || continue
      program=${words[0]#./}
      [[ $program == /* || $1 != *"/$program" ]] || program=$1
    fi
    [[ $program == "$1"?( (deleted)) ]] || continue
    [[ -n $2 && ${words[1]:-} != "$2" ]] || pids+=("${process#/proc/}")
  done
  printf '%s' "${pids[*]}"
}

owner_of() { awk '/^Uid:/ { print $2 }' "$1/status" 2>/dev/null; }

# ── the list ─────────────────────────────────────────────────────────────────

declare -A listed=()  # "kind path" of everything that this or an earlier installation may have put there
declare -A current=() # the same, of this installation alone

read_list() {
  local entry
  [[ ! -e $manifest ]] || while IFS= read -r entry; do listed[$entry]=yes; done <"$manifest"
}

# note KIND PATH: on the list before it is on the disk. KIND is `file` or `directory`.
note() {
  local entry="$1 $2"
  current[$entry]=yes
  [[ -z ${listed[$entry]:-} ]] || return 0
  listed[$entry]=yes
  printf '%s\n' "$entry" >>"$manifest" ||
    fail "cannot write $manifest: $prefix may be read-only, or not yours; --prefix names another place"
}

# ── the files ────────────────────────────────────────────────────────────────

# make_directories PATH [MODE]: each that is missing is made and noted.
make_directories() {
  local path=$1 mode=${2:-755} missing=()
  while [[ ! -d $root$path ]]; do
    missing=("$path" "${missing[@]}")
    path=${path%/*}
  done
  for path in "${missing[@]}"; do
    mkdir -m "$mode" "$root$path" || fail "cannot make $root$path: $prefix may be read-only, or not yours; --prefix names another place"
    made+=("$path")
  done
  # The list may itself lie in what was just made.
  [[ ! -d ${manifest%/*} ]] || { for path in "${made[@]}"; do note directory "$path"; done && made=(); }
}
made=()

# put SOURCE PATH [MODE]: in one step, so that a program that runs, or a reader, sees the old file or the new one. Sets
# `changed[PATH]` if it was not there already, just so.
declare -A changed=()
put() {
  local source=$1 path=$2 mode=${3:-644} new
  [[ ! -d $root$path ]] || fail "$root$path is a directory; a file of that name is to be put there"
  if [[ -e $root$path && -z ${listed["file $path"]:-} ]] && ! cmp -s "$source" "$root$path"; then
    may_replace "$root$path" || fail "$root$path is there already and not of peerbus: move it away first"
  fi
  make_directories "${path%/*}"
  note file "$path"
  if cmp -s "$source" "$root$path" && [[ $(stat -c %a "$root$path") == "$mode" ]]; then return; fi
  new=$root$(unfinished "$path")
  { cp "$source" "$new" && chmod "$mode" "$new" && sync "$new" && mv -f "$new" "$root$path"; } ||
    { rm -f "$new" && fail "cannot write $root$path"; }
  # shellcheck disable=SC2034 # For whoever sources this.
  changed[$path]=yes
  say "put $root$path"
}

# Of files nobody noted, only the program itself: someone may have copied it there by hand.
may_replace() { [[ $1 == "$root$program" && $("$1" --version 2>/dev/null) =~ ^d\ [0-9] ]]; }

# take_away KIND PATH: what is not there is fine, and a directory that others use too stays.
take_away() {
  local path=$root$2
  case $1 in
    file)
      rm -f "$root$(unfinished "$2")"
      [[ -e $path || -L $path ]] || return 0
      rm -f "$path" || fail "cannot remove $path"
      say "removed $path"
      ;;
    directory) rmdir --ignore-fail-on-non-empty "$path" 2>/dev/null || [[ ! -d $path ]] || fail "cannot remove $path" ;;
    *) fail "$manifest has a line that is not understood: '$1 $2'" ;;
  esac
}

# take_all_away ENTRY…: files first, then directories from the inside out.
take_all_away() {
  local entry
  while IFS= read -r entry; do
    take_away "${entry%% *}" "${entry#* }"
  done < <(printf '%s\n' "$@" | grep '^file ' | sort)
  while IFS= read -r entry; do
    take_away "${entry%% *}" "${entry#* }"
  done < <(printf '%s\n' "$@" | grep '^directory ' | sort -r)
}

# What is no longer part of it goes, and the list is what there is.
finish_list() {
  local entry old=()
  for entry in "${!listed[@]}"; do
    # A directory stays noted: who made it first must not be forgotten.
    if [[ $entry == directory\ * ]]; then current[$entry]=yes; fi
    [[ -n ${current[$entry]:-} ]] || old+=("$entry")
  done
  ((${#old[@]} == 0)) || take_all_away "${old[@]}"
  printf '%s\n' "${!current[@]}" | sort >"$(unfinished "$manifest")"
  mv -f "$(unfinished "$manifest")" "$manifest"
}
