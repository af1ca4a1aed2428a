# shellcheck shell=bash
# What a cluster could leave on the machine.

# leftovers OWN_SLOT: one line for each thing that looks like a cluster's, in
# a stable order: the same before `up` and after `down`. Other slots may be at
# work meanwhile, so what carries their names is left out.
leftovers() {
	{
		# Most of these folders do not exist, which is as it should be.
		set +o pipefail
		findmnt --raw --noheadings --output TARGET,FSTYPE | sed 's/^/mount /'
		# The usual folders of these programs, which the node hides.
		find /run/netns /run/containerd /var/lib/cni /var/lib/kubelet /var/lib/containerd \
			/var/log/pods /var/log/containers "$CLUSTERS_DIR" -maxdepth 2 2>/dev/null | sed 's/^/path /'
		ip -oneline link | sed -E 's/^[0-9]+: ([^:@]+).*/link \1/'
		ip route | sed 's/^/route /'
		cgroup_mounts | while read -r mount; do
			find "$mount" -maxdepth 3 -type d | grep -E 'kube|portcullis|containerd' | sed 's/^/cgroup /'
		done
		# The values that a kubelet would set for the whole machine.
		grep -H . /proc/sys/vm/{overcommit_memory,panic_on_oom} /proc/sys/kernel/{panic,panic_on_oops} \
			/proc/sys/kernel/keys/root_max{keys,bytes} /proc/sys/net/ipv4/ip_forward | sed 's/^/sysctl /'
	} | without_other_slots "$1" | sort
}

# The folders that hold all slots come and go with the others' clusters.
without_other_slots() {
	awk -v own="$1" -v all="$CLUSTERS_DIR" '
		$1 == "path" && ($2 == all || $2 == "/run/netns") { next }
		match($0, /(portcullis|slot)-[0-9]+/) {
			name = substr($0, RSTART, RLENGTH)
			sub(/.*-/, "", name)
			if (name != own) next
		}
		{ print }'
}

# processes_of_slot: "PID START" of every process that belongs to the slot.
processes_of_slot() {
	local pid start
	slot_pids | while read -r pid; do
		! start=$(process_start "$pid") || printf '%s %s\n' "$pid" "$start"
	done
}

# still_alive: those of the processes on standard input that are.
still_alive() {
	local pid start
	while read -r pid start; do
		! process_is "$pid" "$start" || printf 'process %s\n' "$pid"
	done
}
