# shellcheck shell=bash
# What deploy/install was told to set, checked, and written as configurations. Sourced by it.

# What whoever sources this has set.
: "${scope=system}" "${binary=}" "${role=}" "${id=}" "${nats=}" "${listen=}" "${with_server=no}" "${root=}" "${config_dir=}"

# The form of a peer id, as src/protocol/ids.rs has it.
id_form='^[a-z0-9][a-z0-9_-]{0,62}$'

# with_port HOST[:PORT]: as a URL has it.
with_port() {
  case $1 in
    \[*\]:*) printf '%s' "$1" ;;
    \[*\]) printf '%s:4222' "$1" ;;
    *:*:*) printf '[%s]:4222' "$1" ;;
    *:*) printf '%s' "$1" ;;
    *) printf '%s:4222' "$1" ;;
  esac
}

# Everything that was asked is looked at before anything is changed.
check_settings() {
  case $role in '' | worker | leader) ;; *) usage "--role $role: there are worker and leader" ;; esac
  [[ -z $id || $id =~ $id_form ]] || usage "--id $id: lower-case letters, digits, - and _, at most 63, beginning with a letter or digit"
  [[ -z $nats || $nats =~ ^(nats|tls)://[^[:space:]\"\\]+$ ]] || usage "the bus $nats: wanted is an address such as nats://10.0.0.1:4222"
  if [[ $with_server == yes ]]; then
    check_bus
  elif [[ -n $listen ]]; then
    usage "--listen goes with --with-nats-server"
  fi
}

check_bus() {
  [[ $scope == system ]] || usage "--with-nats-server is for the whole machine: as root, without --user"
  [[ -n $listen ]] || usage "--with-nats-server wants --listen ADDRESS: this machine's address in the private network"
  listen=$(with_port "$listen")
  is_private "$listen" || usage "--listen $listen: wanted is one loopback or private address of this machine, such as 10.0.0.1; who reaches the bus can run commands on every peer"
  [[ -n $nats ]] || nats=nats://$listen
  if [[ -e $root$config_dir/nats.conf ]] && ! grep -qF "\"$listen\"" "$root$config_dir/nats.conf"; then
    fail "$root$config_dir/nats.conf does not listen on $listen: change it there, or leave --with-nats-server out"
  fi
}

# is_private ADDRESS:PORT: as src/daemon/broker.rs has it for a broker of its own.
is_private() {
  local ipv4='^(([0-9]|[1-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|25[0-5])(\.|:)){4}[0-9]{1,5}$'
  local private='^(127\.|10\.|192\.168\.|169\.254\.|172\.(1[6-9]|2[0-9]|3[01])\.|100\.(6[4-9]|[7-9][0-9]|1[01][0-9]|12[0-7])\.)'
  local ipv6='^\[(::1|f[cd][0-9a-f]{2}:[0-9a-f:]*|fe[89ab][0-9a-f]:[0-9a-f:]*)\]:[0-9]{1,5}$'
  ((10#${1##*[!0-9]} < 65536)) || return 1
  [[ $1 =~ $ipv4 && $1 =~ $private || ${1,,} =~ $ipv6 ]]
}

# configure FILE: what was asked is set in it, and everything else in it stays. One that is new gets its role at least.
configure() {
  local role=$role
  [[ -e $1 || -n $role ]] || role=worker
  set_key "$1" nats "$nats"
  set_key "$1" peer_id "$id"
  set_key "$1" role "$role"
}

set_key() {
  [[ -n $3 ]] || return 0
  "$binary" --config "$1" config set "$2" "$3" || fail "setting $2 in $1 failed"
}

# bus_configuration EXAMPLE: nats/fleet.conf with this machine's address.
bus_configuration() {
  grep -q '^listen: ' "$1" || fail "$1 has no line that says where to listen"
  sed "s|^listen: .*|listen: \"$listen\"|" "$1"
}
