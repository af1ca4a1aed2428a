# shellcheck shell=bash
# The node's network namespace and the way to it. Nothing leads from there to
# the outside: a test cannot leak, and firewall rules stay inside.

in_netns() { nsenter --net="$NETNS_PATH" "$@"; }

make_network() {
	: >"$NETNS_PATH"
	unshare --net="$NETNS_PATH" true
	# The pair is made inside, its other end handed to where this shell is.
	in_netns ip link add eth0 type veth peer name "$HOST_LINK" netns "$$"
	ip addr add "$HOST_IP/30" dev "$HOST_LINK"
	ip link set "$HOST_LINK" up
	in_netns ip link set lo up
	in_netns ip addr add "$NODE_IP/30" dev eth0
	in_netns ip link set eth0 up
	# Tests on the host reach pods and Services as they are.
	ip route add "$POD_CIDR" via "$NODE_IP" dev "$HOST_LINK"
	ip route add "$SERVICE_CIDR" via "$NODE_IP" dev "$HOST_LINK"
	# A connection to a Service needs a route before kube-proxy's rules can
	# turn it round; this one is only for processes of the node itself.
	in_netns ip route add "$SERVICE_CIDR" via "$HOST_IP" dev eth0
}

remove_network() {
	# The host's end goes with the other one, but not at once.
	ip link delete "$HOST_LINK" 2>/dev/null || true
	if [ -e "$NETNS_PATH" ]; then
		umount --lazy "$NETNS_PATH" 2>/dev/null || true
		rm -f "$NETNS_PATH"
	fi
}
