# shellcheck shell=bash
# The node as the host sees it: start it, look at its processes, run a command
# inside.

COMPONENTS='etcd containerd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy'

# start_node: process 1 and, through it, everything else. Ends at once; the
# node then starts its components by itself.
start_node() {
	local launcher init='' start
	setsid nsenter --net="$NETNS_PATH" \
		unshare --mount --propagation private --uts --ipc --pid --fork --kill-child --mount-proc \
		"$STATE_DIR/node/init" "$STATE_DIR" "$CACHE" \
		</dev/null >"$STATE_DIR/log/node.log" 2>&1 9>&- &
	launcher=$!
	disown "$launcher"
	# unshare's only child is the node's process 1. Its PID is kept with its
	# start time, so that nobody else's process is ever taken for it.
	until [ -n "$init" ]; do
		kill -0 "$launcher" 2>/dev/null || return 1
		init=$(cat "/proc/$launcher/task/$launcher/children" 2>/dev/null) || true
		init=${init%% *}
		[ -n "$init" ] || sleep 0.02
	done
	start=$(process_start "$init") || return 1
	printf '%s %s\n' "$init" "$start" >"$INIT_PID_FILE"
}

# in_node COMMAND...: runs it in the node's namespaces.
in_node() {
	local pid
	pid=$(init_pid) || die "the node of slot $SLOT is not running"
	nsenter --target "$pid" --mount --uts --ipc --net --pid --wd=/ -- "$@" 9>&-
}

# component_pids: "NAME PID" for each component that runs, with the PID that
# the host knows it by (the node wrote down its own).
component_pids() {
	local init namespace file inner host
	local -A name_of=()
	init=$(init_pid) || return 0
	namespace=$(readlink "/proc/$init/ns/pid")
	for file in "$STATE_DIR"/pids/*; do
		[ ! -e "$file" ] || name_of[$(cat "$file")]=${file##*/}
	done
	# NSpid lists a process's PIDs, from the outermost namespace to its own.
	# grep, unlike awk, goes on when a process ends under its eyes.
	while read -r host inner; do
		if [ -n "${name_of[$inner]:-}" ] && [ "$(readlink "/proc/$host/ns/pid" 2>/dev/null)" = "$namespace" ] &&
			process_start "$host" >/dev/null; then
			printf '%s %s\n' "${name_of[$inner]}" "$host"
		fi
	done < <(grep -H '^NSpid:' /proc/[0-9]*/status 2>/dev/null |
		awk 'NF > 2 { split($1, part, "/"); print part[3], $NF }') | sort
}

# dead_components: those that should run and do not.
dead_components() {
	local running component
	running=$(component_pids | cut -d' ' -f1)
	for component in $COMPONENTS $([ ! -x "$STATE_DIR/bin/portcullis-netpol" ] || echo netpol); do
		grep -qx "$component" <<<"$running" || printf '%s\n' "$component"
	done
}

# slot_healthy: in use, nothing missing, the API server answers.
slot_healthy() {
	slot_in_use && [ -z "$(dead_components)" ] &&
		kubectl --kubeconfig "$KUBECONFIG_FILE" --request-timeout=5s get --raw=/readyz >/dev/null 2>&1
}

# print_env: what `env` and `up` print, for eval.
print_env() {
	cat <<-END
		export KUBECONFIG=$KUBECONFIG_FILE
		export PATH=$TOOLS_BIN:\${PATH#$TOOLS_BIN:}
		export PORTCULLIS_CLUSTER_KIND=local
		export PORTCULLIS_CLUSTER_SLOT=$SLOT
		export PORTCULLIS_CLUSTER_HOST_IP=$HOST_IP
		export PORTCULLIS_CLUSTER_NODE_IP=$NODE_IP
		export PORTCULLIS_CLUSTER_NODE_NAME=$NODE_NAME
		export PORTCULLIS_CLUSTER_POD_CIDR=$POD_CIDR
		export PORTCULLIS_CLUSTER_SERVICE_CIDR=$SERVICE_CIDR
		export PORTCULLIS_CLUSTER_DNS_IP=$DNS_IP
		export PORTCULLIS_CLUSTER_NETNS=$NETNS_PATH
		export PORTCULLIS_CLUSTER_AUDIT_LOG=$AUDIT_LOG
		export PORTCULLIS_CLUSTER_STATE_DIR=$STATE_DIR
	END
}
