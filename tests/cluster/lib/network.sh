# shellcheck shell=bash
# The node's network namespace and the way to it. Nothing leads from there to
# the outside: a test cannot leak, and firewall rules stay inside.

make_network() {
	mkdir -p /run/netns
	: >"$NETNS_PATH"
	# Not `ip netns add`: that also mounts /run/netns onto itself, for good.
	unshare --net="$NETNS_PATH" true
	ip link add "$HOST_LINK" type veth peer name eth0 netns "$NETNS"
	ip addr add "$HOST_IP/30" dev "$HOST_LINK"
	ip link set "$HOST_LINK" up
	ip -n "$NETNS" link set lo up
	ip -n "$NETNS" addr add "$NODE_IP/30" dev eth0
	ip -n "$NETNS" link set eth0 up
	# Tests on the host reach pods and Services as they are.
	ip route add "$POD_CIDR" via "$NODE_IP" dev "$HOST_LINK"
	ip route add "$SERVICE_CIDR" via "$NODE_IP" dev "$HOST_LINK"
	# A connection to a Service needs a route before kube-proxy's rules can
	# turn it round; this one is only for processes of the node itself.
	ip -n "$NETNS" route add "$SERVICE_CIDR" via "$HOST_IP" dev eth0
}

remove_network() {
	# The host's end goes with the other one, but not at once.
	ip link delete "$HOST_LINK" 2>/dev/null || true
	if [ -e "$NETNS_PATH" ]; then
		umount --lazy "$NETNS_PATH" 2>/dev/null || true
		rm -f "$NETNS_PATH"
	fi
	rmdir /run/netns 2>/dev/null || true
}
