# shellcheck shell=bash
# The NetworkPolicy enforcer's binary on the host.

# find_netpol: $PORTCULLIS_NETPOL, which must then exist, else the newer one
# of cargo's release and debug builds.
find_netpol() {
	local target found=''
	if [ -n "${PORTCULLIS_NETPOL:-}" ]; then
		[ -x "$PORTCULLIS_NETPOL" ] && printf '%s\n' "$PORTCULLIS_NETPOL"
		return
	fi
	target=${CARGO_TARGET_DIR:-$CLUSTER_HOME/../../target}
	for binary in "$target/release/portcullis-netpol" "$target/debug/portcullis-netpol"; do
		[ -x "$binary" ] || continue
		if [ -z "$found" ] || [ "$binary" -nt "$found" ]; then found=$binary; fi
	done
	[ -n "$found" ] && printf '%s\n' "$found"
}
