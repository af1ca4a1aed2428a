# shellcheck shell=bash
# Takes a slot down, whatever state it is in. Nothing is shut down gently: the
# data goes with the processes. The node's process 1 takes every process of
# its PID namespace along, its mount namespace takes every mount along; what
# is left are the namespace's name, the cgroups and the folder.

# network_pids: every process in the slot's network namespace.
network_pids() {
	local namespace
	[ -e "$NETNS_PATH" ] || return 0
	namespace=$(stat --dereference --format %d:%i "$NETNS_PATH")
	# stat complains of each process that ends meanwhile.
	{ stat --dereference --format '%d:%i %n' /proc/[0-9]*/ns/net 2>/dev/null || true; } |
		awk -F '[ /]' -v wanted="$namespace" '$1 == wanted { print $4 }'
}

# slot_pids: every process that belongs to the slot.
slot_pids() {
	{
		init_pid || true
		network_pids
		cgroup_pids
	} | sort -un
}

kill_slot() {
	local deadline pids
	deadline=$(($(now_ms) + 30000))
	while true; do
		pids=$(slot_pids)
		[ -n "$pids" ] || return 0
		# shellcheck disable=SC2086  # a list of PIDs
		kill -KILL $pids 2>/dev/null || true
		[ "$(now_ms)" -lt "$deadline" ] || die "slot $SLOT: these do not die: $pids"
		sleep 0.1
	done
}

remove_state() { [ ! -e "$STATE_DIR" ] || rm -rf --one-file-system "$STATE_DIR"; }

# clean_slot: after it the slot is as if it had never been used.
clean_slot() {
	# First of all: from here on nobody may take the slot for a cluster.
	rm -f "$READY_FILE"
	kill_slot
	remove_network
	# The kernel ends cgroups and mounts a moment after their last process.
	wait_for 20 "the cgroups of slot $SLOT to become empty" remove_cgroups || return 1
	wait_for 20 "the mounts of slot $SLOT to go" remove_state || return 1
	rmdir "$CLUSTERS_DIR" 2>/dev/null || true
}

# slot_has_remains: whether anything of the slot is there.
slot_has_remains() {
	local mount
	[ ! -e "$STATE_DIR" ] && [ ! -e "/sys/class/net/$HOST_LINK" ] || return 0
	for mount in $(cgroup_mounts); do
		[ ! -d "$mount/$CGROUP" ] || return 0
	done
	return 1
}
