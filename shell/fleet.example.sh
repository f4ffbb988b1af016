# shellcheck shell=bash disable=SC2034
# The fleet that peerbus.sh makes functions for. Copy it to /etc/peerbus/fleet.sh, for everyone on the machine, or to
# ~/.config/peerbus/fleet.sh, which is read after that. What stands here is also what holds where nothing is said.

# The peers, each with its address, by which a machine without a configured id knows itself.
# Each gets <peer>Exec, <peer>Pull and <peer>Install; a '-' in an id becomes '_'.
PEERBUS_FLEET="vps=10.0.0.1 desktop=10.0.0.2 laptop=10.0.0.4"

# The directory of those functions, on every peer. PEERBUS_PROJECT_vps=… names that of one peer.
PEERBUS_PROJECT=/opt/automateLinux

# Further projects, one a line as NAME=DIRECTORY. Each gives <peer><NAME>Pull.
PEERBUS_PROJECTS="CAD=/home/yaniv/cad-prod"

# What <peer>Install runs.
PEERBUS_INSTALL="./install.sh --minimal"

# Names for addresses, to be typed as arguments: remotePull "$kamateraIp"
kamateraIp=10.0.0.1
