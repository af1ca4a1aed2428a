# shellcheck shell=bash
# The slot's folder: what the node will see as /run/node.

# make_state [NETPOL_BINARY]: folders, configuration, certificates.
make_state() {
	local netpol=${1:-}
	mkdir -p "$CLUSTERS_DIR"
	mkdir -m 700 "$STATE_DIR"
	mkdir -p "$STATE_DIR"/{bin,log,pids,conf/cni,var/lib,var/log,var/tmp}
	chmod 1777 "$STATE_DIR/var/tmp"
	ln -s /run "$STATE_DIR/var/run"
	cp -r "$CLUSTER_HOME/node" "$STATE_DIR/node"
	# A copy: whoever builds the enforcer anew must not disturb the node.
	[ -z "$netpol" ] || install -m 755 "$netpol" "$STATE_DIR/bin/portcullis-netpol"
	make_pki
	local file
	for file in containerd.toml kubelet.yaml audit-policy.yaml coredns.yaml cni/10-node.conflist; do
		fill_in <"$CLUSTER_HOME/conf/$file" >"$STATE_DIR/conf/$file"
	done
	node_environment >"$STATE_DIR/conf/node.env"
}

# fill_in: replaces the @NAME@ marks of a template.
fill_in() {
	sed -e "s|@PAUSE_IMAGE@|$PAUSE_IMAGE|g" \
		-e "s|@COREDNS_IMAGE@|$COREDNS_IMAGE|g" \
		-e "s|@CNI_BIN@|$(cni_bin)|g" \
		-e "s|@POD_CIDR@|$POD_CIDR|g" \
		-e "s|@DNS_IP@|$DNS_IP|g" \
		-e "s|@HOST_IP@|$HOST_IP|g" \
		-e "s|@HOST_NAMES@|$HOST_NAMES|g" \
		-e "s|@CGROUP@|$CGROUP|g"
}

# What the scripts inside the node need to know; they see the cache as
# /run/cache.
node_environment() {
	cat <<-END
		NODE_NAME=$NODE_NAME
		NODE_IP=$NODE_IP
		POD_CIDR=$POD_CIDR
		SERVICE_CIDR=$SERVICE_CIDR
		BIN=/run/cache/${KUBERNETES_DIR##*/}
		PAUSE=/run/cache/${PAUSE_DIR##*/}
		COREDNS=/run/cache/${COREDNS_DIR##*/}
		KUBECTL=/run/cache/tools/bin/kubectl
	END
}
