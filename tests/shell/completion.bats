#!/usr/bin/env bats
# shellcheck shell=bash
# shellcheck disable=SC2016 # For another shell.
# Completion as a person sees it: bash, zsh and fish on a terminal, a TAB, and what comes of it. See tab.py.
# The tests stand in the order of what happens to the fleet: at the end the leader is gone.

bats_require_minimum_version 1.5.0
repository=$(readlink -f "$BATS_TEST_DIRNAME/../..")
. "$repository/tests/shell/fleet.bash"

setup_file() {
  start_fleet vps desktop laptop
  mkdir -p "$place/here/a directory"
  : >"$place/here/report of mine.json"
}

teardown_file() { stop_fleet; }

setup() { cd "$place/here" || return; }

# everywhere LINE EXPECTED…: typed in each of the shells.
everywhere() {
  in_bash "$@" && in_zsh "$@" && in_fish "$@"
}

tab() { python3 "$repository/tests/shell/tab.py" "$@"; }
in_bash() { tab bash 'source <(d completions bash)' "$@"; }
in_zsh() { tab zsh 'source <(d completions zsh)' "$@"; }
in_fish() { tab fish 'd completions fish | source' "$@"; }

caches() { find "$HOME/.cache/peerbus" -type f 2>/dev/null; }

# asked WORD…: what `d` answers a shell whose line has these words, the last of them unfinished.
asked() { PEERBUS_COMPLETE=bash d -- d "$@"; }

@test "a first TAB fetches the list, and a cache is made for its owner only" {
  rm -rf "$HOME/.cache"
  asked ping ''
  local tries=100
  until [[ -n $(caches) ]]; do ((tries-- > 0)) && sleep 0.1; done
  [[ $(stat -c %a "$HOME/.cache/peerbus") == 700 ]]
  [[ $(stat -c %a "$HOME/.cache/peerbus/"*) == 600 ]]
  [[ $(asked ping '') == desktop*laptop*lead*vps* ]]
}

@test "d peers remembers what it shows" {
  rm -rf "$HOME/.cache"
  d peers >/dev/null
  jq -e '.peers | map(.id) == ["desktop", "laptop", "lead", "vps"]' "$HOME/.cache/peerbus/"*
  jq -e '.peers | all(.online and (.version | length > 0))' "$HOME/.cache/peerbus/"*
}

@test "peers are shown wherever one is named" {
  d peers >/dev/null
  everywhere 'd remotePull --peer ' desktop laptop lead vps
  everywhere 'd ping ' desktop laptop lead vps '!--count'
  in_zsh 'd peer show ' vps 'online 127.0.0.1'
  in_fish 'd peer show ' vps 'online 127.0.0.1'
}

@test "what is unique is completed" {
  d peers >/dev/null
  everywhere 'd getPeerInfo --peer de' '=<--peer><desktop>'
  everywhere 'd getPeerInfo --peer=de' '=<--peer=desktop>'
  everywhere 'd exec v' '=<d><exec><vps>'
  everywhere "d --nats $NATS_URL ping de" '=<ping><desktop>'
}

@test "installed for everyone, they are loaded at the first TAB" {
  d peers >/dev/null
  mkdir -p "$place/fpath"
  d completions zsh >"$place/fpath/_d"
  tab zsh "fpath=($place/fpath \$fpath); autoload -Uz compinit; compinit -u -D" 'd ping de' '=<d><ping><desktop>'
  d completions fish >"$place/fpath/d.fish"
  tab fish "set fish_complete_path $place/fpath" 'd ping de' '=<d><ping><desktop>'
}

@test "verbs, flags and values" {
  everywhere 'd remoteP' '=<d><remotePull>'
  everywhere 'd exec --repo' '=<d><exec><--report>'
  everywhere 'd daemon run --role l' '=<--role><leader>'
}

@test "files and directories of this machine, where one is wanted" {
  in_bash 'd exec vps --report rep' '=<--report><report of mine.json>'
  in_zsh 'd exec vps --report rep' '=<--report><report of mine.json>'
  in_fish 'd exec vps --report rep' '=<--report><report of mine.json>'
  in_bash 'd peers --state-dir ' '=<--state-dir><a directory/>' '!report'
  in_fish 'd peers --state-dir a' '=<--state-dir><a directory/>'
  # zsh takes the slash away again that it had put there.
  in_zsh 'd peers --state-dir a' '=<--state-dir><a directory>'
}

@test "jobs, where one is named" {
  local job
  d peers >/dev/null
  d exec vps -C / --report "$place/job.json" -- sleep 1000 </dev/null 3>&- &
  local d=$! tries=100
  # jq is content with nothing at all.
  until job=$(d jobs vps --json | jq -r .id) && [[ -n $job ]]; do ((tries-- > 0)) && sleep 0.1; done
  job=${job:28}
  in_bash 'd stop ' '=<d><stop><'"$job"'>'
  in_zsh 'd stop vps/' '=<d><stop><vps/'"$job"'>'
  in_fish 'd wait ' '=<d><wait><'"$job"'>'
  d stop "$job"
  wait "$d" || [[ $? -eq 130 ]]
  # The tests below look at the one file of peers.
  rm "$HOME/.cache/peerbus/jobs-"*
}

@test "nothing for what is the peer's" {
  everywhere 'd exec vps -- ' '!report' '!desktop' '!directory'
  everywhere 'd exec vps -- cat re' '=<cat><re>' '!report'
  everywhere 'd exec vps -C ' '!directory' '!desktop'
  everywhere 'd execOnPeer --shellCmd ' '!report' '!desktop'
}

@test "with the leader gone, and with the bus gone" {
  d peers >/dev/null
  stop lead
  everywhere 'd remotePull --peer ' desktop laptop lead vps
  stop server
  everywhere 'd remotePull --peer ' desktop laptop lead vps
}

@test "no cache is no trouble, whatever is in its place" {
  local cache answer
  cache=$(caches)
  export cache
  for answer in 'printf garbage >"$cache"' 'printf "{}" >"$cache"' 'truncate -s 1G "$cache"' \
    'rm "$cache"; mkfifo "$cache"' 'rm "$cache"; mkdir "$cache"' 'rm -r "$HOME/.cache"; : >"$HOME/.cache"' \
    'export HOME=/proc/nothing' 'export HOME=relative'; do
    run --separate-stderr bash -c "$answer"'; PEERBUS_COMPLETE=bash timeout 5 d -- d execOnPeer --peer ""'
    [[ $status -eq 0 && -z $output && -z $stderr ]] || { printf '%s: %s %s\n' "$answer" "$output" "$stderr" && return 1; }
  done
}
