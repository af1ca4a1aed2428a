# shellcheck shell=bash disable=SC2034  # read by the scripts that source this
# A slot (0-15) is one cluster's place on this machine: it picks the subnets,
# the network namespace, the veth pair, the folder and the cgroup. Two slots
# share nothing.

MAX_SLOT=15
CLUSTERS_DIR=${PORTCULLIS_CLUSTERS_DIR:-/var/lib/portcullis-clusters}
LOCKS_DIR=/run/lock

# use_slot N: sets everything that depends on the slot.
use_slot() {
	case $1 in
	[0-9] | 1[0-5]) ;;
	*) die "slot '$1' is not one of 0-$MAX_SLOT" ;;
	esac
	SLOT=$1
	STATE_DIR=$CLUSTERS_DIR/slot-$SLOT
	KUBECONFIG_FILE=$STATE_DIR/kubeconfig
	READY_FILE=$STATE_DIR/ready
	INIT_PID_FILE=$STATE_DIR/init.pid
	AUDIT_LOG=$STATE_DIR/audit.log
	# Not below /run/netns: the first `ip netns add` of anybody mounts that
	# folder onto itself, and what lies below could not be removed any more.
	NETNS_PATH=$STATE_DIR/netns
	HOST_LINK=portcullis-$SLOT
	CGROUP=portcullis-$SLOT
	NODE_NAME=node-$SLOT
	# Addresses come from the benchmarking range (198.18.0.0/15), which no
	# real network uses.
	HOST_IP=198.18.255.$((4 * SLOT + 1))
	NODE_IP=198.18.255.$((4 * SLOT + 2))
	POD_CIDR=198.18.$SLOT.0/24
	POD_GATEWAY=198.18.$SLOT.1
	SERVICE_CIDR=198.19.$SLOT.0/24
	API_SERVICE_IP=198.19.$SLOT.1
	DNS_IP=198.19.$SLOT.10
}

# lock_slot wait|try: holds the slot's lock on descriptor 9 until this process
# ends. Whatever is left running must be started with 9>&-.
lock_slot() {
	mkdir -p "$LOCKS_DIR"
	exec 9>"$LOCKS_DIR/portcullis-cluster-$SLOT.lock"
	if [ "$1" = try ]; then
		flock -n 9
	else
		flock -n 9 || { say "slot $SLOT is being worked on, waiting" && flock 9; }
	fi
}

unlock_slot() { exec 9>&-; }

# process_is PID START: whether the process that had this PID when it was
# written down still has it (PIDs are used again).
process_is() {
	local now
	now=$(process_start "$1") && [ "$now" = "$2" ]
}

# process_start PID: when it started, in clock ticks since boot. The name in
# the second field may hold spaces and brackets: count from its end.
process_start() {
	local stat
	{ read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
	# shellcheck disable=SC2086  # split into fields on purpose
	set -- ${stat##*) }
	[ "$1" != Z ] && printf '%s\n' "${20}"
}

# init_pid: the PID of the node's process 1 as the host sees it; fails when
# the node is not running.
init_pid() {
	local pid start
	{ read -r pid start <"$INIT_PID_FILE"; } 2>/dev/null || return 1
	process_is "$pid" "$start" && printf '%s\n' "$pid"
}

# A slot is in use while its node runs and its `up` got to the end. Anything
# else that is left in it is a wreck that may be cleared.
slot_in_use() { [ -e "$READY_FILE" ] && init_pid >/dev/null; }

# used_slots: the slots that are in use, one a line.
used_slots() {
	local slot
	for slot in $(seq 0 "$MAX_SLOT"); do
		(use_slot "$slot" && slot_in_use) && printf '%s\n' "$slot"
	done
	return 0
}

# parse_slot ARGS...: sets the slot from `--slot N`, else from
# PORTCULLIS_CLUSTER_SLOT; leaves it empty when neither is there. What is not
# an option of ours ends up in REST.
parse_slot() {
	SLOT_WANTED=${PORTCULLIS_CLUSTER_SLOT:-}
	REST=()
	while [ $# -gt 0 ]; do
		case $1 in
		--slot)
			[ $# -ge 2 ] || usage
			SLOT_WANTED=$2
			shift 2
			;;
		--slot=*)
			SLOT_WANTED=${1#--slot=}
			shift
			;;
		-h | --help)
			help
			exit 0
			;;
		*)
			REST+=("$@")
			break
			;;
		esac
	done
}

# use_running_slot: the wanted slot, else the lowest that is in use.
use_running_slot() {
	local slot=$SLOT_WANTED
	if [ -z "$slot" ]; then
		slot=$(used_slots | head -n 1)
		[ -n "$slot" ] || die "no cluster is running: start one with tests/cluster/up"
	fi
	use_slot "$slot"
	slot_in_use || die "no cluster is running on slot $slot"
}
