# shellcheck shell=bash
# The slot's cgroup, in every hierarchy there is (v1, v2, or both at once).

cgroup_mounts() { findmnt --noheadings --list --output TARGET --types cgroup,cgroup2; }

make_cgroups() {
	local mount file controllers
	for mount in $(cgroup_mounts); do
		if [ -e "$mount/cgroup.subtree_control" ]; then
			# v2: hand every controller down, one by one, as some may be busy.
			read -ra controllers <"$mount/cgroup.controllers"
			for file in ${controllers[@]+"${controllers[@]}"}; do
				echo "+$file" 2>/dev/null >"$mount/cgroup.subtree_control" || true
			done
		fi
		mkdir -p "$mount/$CGROUP"
		# v1: a new cpuset is empty and takes no process until it is filled.
		for file in cpuset.cpus cpuset.mems; do
			if [ -e "$mount/cgroup.procs" ] && [ -e "$mount/$file" ] && [ ! -e "$mount/cgroup.controllers" ]; then
				cat "$mount/$file" >"$mount/$CGROUP/$file"
			fi
		done
	done
}

# cgroup_pids: every process in the slot's cgroups, which is every process of
# its containers.
cgroup_pids() {
	local mount
	for mount in $(cgroup_mounts); do
		[ ! -d "$mount/$CGROUP" ] ||
			find "$mount/$CGROUP" -name cgroup.procs -exec cat {} + 2>/dev/null || true
	done | sort -un
}

# remove_cgroups: deepest first; fails while one is still busy.
remove_cgroups() {
	local mount left=0
	for mount in $(cgroup_mounts); do
		[ -d "$mount/$CGROUP" ] || continue
		find "$mount/$CGROUP" -depth -type d -exec rmdir {} + 2>/dev/null || true
		[ ! -d "$mount/$CGROUP" ] || left=1
	done
	return "$left"
}
