# shellcheck shell=bash
# CLUSTER=current and CLUSTER=kind: somebody else's cluster, or kind's.

kind_name() { printf 'portcullis-%s\n' "${SLOT_WANTED:-0}"; }
kind_dir() { printf '%s/kind/%s\n' "$CACHE" "$(kind_name)"; }

kind_exists() { kind get clusters 2>/dev/null | grep -qx "$(kind_name)"; }

# Recent kind enforces NetworkPolicies itself (kindnet, kind 0.24 and later).
kind_up() {
	local dir
	command -v kind >/dev/null || die "CLUSTER=kind, but there is no kind"
	dir=$(kind_dir)
	mkdir -p "$dir/audit"
	if ! kind_exists; then
		cp "$CLUSTER_HOME/conf/audit-policy.yaml" "$dir/audit-policy.yaml"
		sed "s|@DIR@|$dir|g" "$CLUSTER_HOME/conf/kind.yaml" >"$dir/kind.yaml"
		kind create cluster --name "$(kind_name)" --config "$dir/kind.yaml" \
			--kubeconfig "$dir/kubeconfig" --wait 180s >&2
		kind_host_names "$dir/kubeconfig"
	fi
	kind_print_env
}

# kind_host_names KUBECONFIG: cluster DNS knows the servers on the host by
# name here too.
kind_host_names() {
	local block
	block="        hosts {\\
            $(kind_host_ip) $HOST_NAMES\\
            fallthrough\\
        }"
	kubectl --kubeconfig "$1" --namespace kube-system get configmap coredns --output yaml |
		sed "/^        forward /i\\
$block" |
		kubectl --kubeconfig "$1" replace --filename - >&2
	kubectl --kubeconfig "$1" --namespace kube-system rollout restart deployment coredns >&2
}

# kind_host_ip: the host as pods see it, the IPv4 gateway of kind's network.
kind_host_ip() {
	docker network inspect kind --format '{{range .IPAM.Config}}{{println .Gateway}}{{end}}' | grep -m1 -F .
}

kind_down() {
	command -v kind >/dev/null || die "CLUSTER=kind, but there is no kind"
	kind delete cluster --name "$(kind_name)" --kubeconfig "$(kind_dir)/kubeconfig" >&2
	rm -rf "$(kind_dir)"
}

kind_print_env() {
	local dir
	dir=$(kind_dir)
	kind_exists || die "there is no kind cluster $(kind_name): start it with CLUSTER=kind tests/cluster/up"
	cat <<-END
		export KUBECONFIG=$dir/kubeconfig
		export PATH=$TOOLS_BIN:\${PATH#$TOOLS_BIN:}
		export PORTCULLIS_CLUSTER_KIND=kind
		export PORTCULLIS_CLUSTER_SLOT=${SLOT_WANTED:-0}
		export PORTCULLIS_CLUSTER_HOST_IP=$(kind_host_ip)
		export PORTCULLIS_CLUSTER_POD_CIDR=10.244.0.0/16
		export PORTCULLIS_CLUSTER_SERVICE_CIDR=10.96.0.0/16
		export PORTCULLIS_CLUSTER_AUDIT_LOG=$dir/audit/audit.log
		export PORTCULLIS_CLUSTER_STATE_DIR=$dir
	END
}

print_current_env() {
	cat <<-END
		export PATH=$TOOLS_BIN:\${PATH#$TOOLS_BIN:}
		export PORTCULLIS_CLUSTER_KIND=current
	END
}
