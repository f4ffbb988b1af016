# shellcheck shell=bash
# Shell functions around `d`, for bash and zsh. Source it from ~/.bashrc or ~/.zshrc.
#
# Defines functions and, in bash, exports them; runs no program and touches no network. The fleet comes from
# /etc/peerbus/fleet.sh, then ~/.config/peerbus/fleet.sh (or $PEERBUS_FLEET_FILE alone); see fleet.example.sh.
# For each peer named there: <peer>Exec, <peer>Pull, <peer>Install, and <peer><Project>Pull for further projects.
#
# A function's stdout is that of the remote command, and so is its exit code; everything else goes to stderr.
# Bad usage returns 1. What is written here holds under whatever options and aliases the shell has: every
# expansion is quoted, nothing is an array, nothing may be unset, programs are called past functions and aliases.

# ── any peer ─────────────────────────────────────────────────────────────────

# execOnPeer <peer_id> <directory> <command…>: the words of the command are joined with blanks to one shell line.
function execOnPeer {
  local IFS=' ' peer="${1-}" directory="${2-}" line='' self=''
  if [[ $# -ge 3 ]]; then
    shift 2
    line="$*"
  fi
  if [[ -z $peer || -z $directory || -z $line ]]; then
    _peerbus_say 'Usage: execOnPeer <peer_id> <directory> <command>' \
      "Example: execOnPeer vps /opt/automateLinux 'git pull'" '' "Available peers: $(_peerbus_peers)"
    return 1
  fi
  self=$(getCurrentPeerId)
  if [[ $peer == "$self" ]]; then
    _peerbus_say "Error: Cannot exec on self ($self). Run command locally instead."
    return 1
  fi
  _peerbus_d execOnPeer --peer="$peer" --directory="$directory" --shellCmd="$line"
}

# gitOnPeer <peer_id> <directory> <git-operation…>
function gitOnPeer {
  if [[ $# -lt 3 || -z ${1-} || -z ${2-} || -z ${3-} ]]; then
    _peerbus_say 'Usage: gitOnPeer <peer_id> <directory> <git-operation>' \
      'Example: gitOnPeer vps /opt/automateLinux pull'
    return 1
  fi
  local peer="$1" directory="$2"
  shift 2
  execOnPeer "$peer" "$directory" git "$@"
}

# getCurrentPeerId: this machine's peer id as its daemon or configuration has it, else by its address in the fleet.
# Asks nobody on the network.
function getCurrentPeerId {
  local self='' addresses='' fleet='' entry=''
  if self=$(_peerbus_d status --id 2>/dev/null) && [[ -n $self ]]; then
    printf '%s\n' "$self"
    return 0
  fi
  addresses=$(command ip -o addr show 2>/dev/null) || addresses=''
  fleet="$(_peerbus_fleet) "
  while [[ -n ${fleet// /} ]]; do
    entry=${fleet%% *}
    fleet=${fleet#* }
    if [[ $entry == *=?* && $addresses == *" ${entry#*=}/"* ]]; then
      printf '%s\n' "${entry%%=*}"
      return 0
    fi
  done
  printf 'unknown\n'
}

# getPeerIdByIp <ip_address>
function getPeerIdByIp {
  if [[ -z ${1-} ]]; then
    _peerbus_say 'Usage: getPeerIdByIp <ip_address>'
    return 1
  fi
  local row='' code=0
  row=$(_peerbus_d peer show --json -- "$1") || code=$?
  if [[ $code -eq 254 ]]; then
    _peerbus_say "No peer found with IP: $1"
    return 1
  fi
  [[ $code -eq 0 ]] || return "$code"
  row=${row#*\"peer_id\":\"}
  printf '%s\n' "${row%%\"*}"
}

# execOnPeerByIp <ip_address> <directory> <command>
function execOnPeerByIp {
  if [[ -z ${1-} || -z ${2-} || -z ${3-} ]]; then
    _peerbus_say 'Usage: execOnPeerByIp <ip_address> <directory> <command>'
    return 1
  fi
  local peer='' code=0
  peer=$(getPeerIdByIp "$1") || code=$?
  case $code in
    0) ;;
    # Without the leader, `d` asks the peers themselves whose address it is.
    255) peer=$1 ;;
    *) return "$code" ;;
  esac
  _peerbus_d execOnPeer --peer="$peer" --directory="$2" --shellCmd="$3"
}

# ── tasks: the directories and commands are the peer's configuration ─────────

# remotePull, remoteBd, remoteDeployDaemon <ip_address or peer_id>
function remotePull { _peerbus_task remotePull "$@"; }
function remoteBd { _peerbus_task remoteBd "$@"; }
function remoteDeployDaemon { _peerbus_task remoteDeployDaemon "$@"; }

function _peerbus_task {
  if [[ -z ${2-} ]]; then
    _peerbus_say "Usage: $1 <ip_address>"
    return 1
  fi
  _peerbus_d "$1" --peer="$2"
}

# peerDiag [peer_id]: what works on the way to a peer, and what does not.
function peerDiag { _peerbus_d doctor "$@"; }

# ── ssh: for machines that are no peers, and for the first steps of one ──────

# sshGit <user@host> <directory> <git-command…>
function sshGit {
  if [[ $# -lt 3 || -z ${1-} || -z ${2-} || -z ${3-} ]]; then
    _peerbus_say 'Usage: sshGit <user@host> <directory> <git-command>' \
      'Example: sshGit root@10.0.0.1 /opt/automateLinux pull' '' \
      'Note: Prefer using gitOnPeer instead for daemon-based execution'
    return 1
  fi
  _peerbus_say 'Note: Prefer using gitOnPeer instead for daemon-based execution'
  local host="$1" directory="$2"
  shift 2
  _peerbus_ssh "$host" "$directory" git "$@"
}

# sshCmd <user@host> <directory> <command…>
function sshCmd {
  if [[ $# -lt 3 || -z ${1-} || -z ${2-} || -z ${3-} ]]; then
    _peerbus_say 'Usage: sshCmd <user@host> <directory> <command>' \
      'Example: sshCmd root@10.0.0.1 /opt/automateLinux ./install.sh' '' \
      'Note: Prefer using execOnPeer instead for daemon-based execution'
    return 1
  fi
  _peerbus_say 'Note: Prefer using execOnPeer instead for daemon-based execution'
  _peerbus_ssh "$@"
}

# The directory arrives as one word, whatever is in it; a leading ~ is the remote user's home.
function _peerbus_ssh {
  local IFS=' ' host="$1" directory="$2" home='' quoted=''
  shift 2
  # shellcheck disable=SC2088 # It is the other side that expands it.
  case $directory in
    '~') home='~' directory='' ;;
    '~/'*) home='~/' directory=${directory#??} ;;
  esac
  _peerbus_quote "$directory"
  # shellcheck disable=SC2029 # The line is made here and is for the other side.
  command ssh -- "$host" "cd -- $home$quoted && $*"
}

# ── inside ───────────────────────────────────────────────────────────────────

function _peerbus_d { command "${PEERBUS_D:-d}" "$@"; }

function _peerbus_say { printf '%s\n' "$@" >&2; }

# Puts the text as one word for any shell of the Bourne family into the caller's `quoted`; nothing for an empty one.
# No subshell, as this runs when the file is sourced.
function _peerbus_quote {
  local rest="$1"
  quoted=''
  [[ -n $rest ]] || return 0
  while [[ $rest == *\'* ]]; do
    quoted="$quoted'${rest%%\'*}'\\'"
    rest=${rest#*\'}
  done
  quoted="$quoted'$rest'"
}

# The ids of the fleet, as a sentence has them.
function _peerbus_peers {
  local fleet='' entry='' peers=''
  fleet="$(_peerbus_fleet) "
  while [[ -n ${fleet// /} ]]; do
    entry=${fleet%% *}
    fleet=${fleet#* }
    [[ -z $entry ]] || peers="${peers:+$peers, }${entry%%=*}"
  done
  printf '%s' "$peers"
}

# ── the fleet ────────────────────────────────────────────────────────────────

# _peerbus_exec_in <function> <peer_id> <directory> <command…>
function _peerbus_exec_in {
  local IFS=' ' name="$1" peer="$2" directory="$3"
  shift 3
  if [[ -z "$*" ]]; then
    _peerbus_say "Usage: $name <command>" "Example: $name 'git status'"
    return 1
  fi
  execOnPeer "$peer" "$directory" "$@"
}

# Defines what has its name from the fleet. Values are written into the functions, so that they hold in subshells.
function _peerbus_define_fleet {
  local fleet="${PEERBUS_FLEET-vps=10.0.0.1 desktop=10.0.0.2 laptop=10.0.0.4}" entry='' peer='' name='' own='' quoted=''
  fleet=${fleet//[[:space:]]/ }
  _peerbus_quote "$fleet"
  _peerbus_function _peerbus_fleet "printf '%s' ${quoted:-''}"
  fleet="$fleet "
  while [[ -n ${fleet// /} ]]; do
    entry=${fleet%% *}
    fleet=${fleet#* }
    peer=${entry%%=*}
    case $peer in
      '') continue ;;
      *[!a-z0-9_-]*)
        _peerbus_say "peerbus.sh: PEERBUS_FLEET: '$peer' is not a peer id"
        continue
        ;;
    esac
    name=${peer//-/_}
    eval "own=\${PEERBUS_PROJECT_$name-}"
    _peerbus_define_peer "$peer" "$name" "${own:-${PEERBUS_PROJECT:-/opt/automateLinux}}"
  done
}

# _peerbus_define_peer <peer_id> <name> <directory>
function _peerbus_define_peer {
  local peer="$1" name="$2" directory='' projects='' project='' further='' quoted=''
  _peerbus_quote "$3"
  directory=$quoted
  _peerbus_function "${name}Exec" "_peerbus_exec_in ${name}Exec $peer $directory \"\$@\""
  _peerbus_function "${name}Pull" "gitOnPeer $peer $directory pull"
  _peerbus_quote "${PEERBUS_INSTALL:-./install.sh --minimal}"
  _peerbus_function "${name}Install" "execOnPeer $peer $directory $quoted"
  projects="${PEERBUS_PROJECTS-CAD=/home/yaniv/cad-prod}"$'\n'
  while [[ -n $projects ]]; do
    project=${projects%%$'\n'*}
    projects=${projects#*$'\n'}
    further=${project%%=*}
    case $further in
      '') continue ;;
      *[!A-Za-z0-9_]*) _peerbus_say "peerbus.sh: PEERBUS_PROJECTS: '$project' is not NAME=DIRECTORY" ;;
      *)
        _peerbus_quote "${project#*=}"
        _peerbus_function "${name}${further}Pull" "gitOnPeer $peer $quoted pull"
        ;;
    esac
  done
}

# _peerbus_function <name> <body>
function _peerbus_function {
  eval "function $1 { $2; }"
  _peerbus_export "$1"
}

# Functions reach a subshell of bash through the environment; zsh has no such way.
function _peerbus_export {
  # shellcheck disable=SC2163 # It is the function named there that is exported.
  if [[ -n ${BASH_VERSION-} ]]; then export -f "$1"; fi
}

function _peerbus_read_fleet {
  local file=''
  if [[ -n ${PEERBUS_FLEET_FILE-} ]]; then
    # shellcheck disable=SC1090 # Whoever sources this names it.
    . "$PEERBUS_FLEET_FILE"
    return
  fi
  for file in /etc/peerbus/fleet.sh "${XDG_CONFIG_HOME:-${HOME-}/.config}/peerbus/fleet.sh"; do
    # shellcheck disable=SC1090 # As above.
    if [[ -r $file ]]; then . "$file"; fi
  done
}

_peerbus_read_fleet
_peerbus_define_fleet
for _peerbus_name in execOnPeer gitOnPeer getCurrentPeerId getPeerIdByIp execOnPeerByIp remotePull remoteBd \
  remoteDeployDaemon peerDiag sshGit sshCmd _peerbus_task _peerbus_ssh _peerbus_d _peerbus_say _peerbus_quote \
  _peerbus_peers _peerbus_exec_in; do
  _peerbus_export "$_peerbus_name"
done
unset _peerbus_name
