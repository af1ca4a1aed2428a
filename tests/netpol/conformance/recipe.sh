# shellcheck shell=bash disable=SC2034  # read by the script that sources this
# How the suite is built. Sourced after tests/cluster's lib/{common,cache,go}.sh.

# Relative to tests/cluster, as that one's recipes are.
SUITE_SOURCE=../netpol/conformance/suite

# The suite, Ginkgo's runner, and the image its pods run; all of one version,
# the one that go.mod pins.
SUITE_DIR=$CACHE/netpol-suite-$KUBERNETES_VERSION-$(fingerprint "$SUITE_SOURCE" ../netpol/conformance/recipe.sh image-from-rootfs)

# go_in_suite COMMAND...: a go command on pinned modules, output static.
go_in_suite() {
	(cd "$CLUSTER_HOME/$SUITE_SOURCE" &&
		CGO_ENABLED=0 GOFLAGS=-mod=readonly nice -n 5 go "$@")
}

build_suite() {
	local out=$1 kubernetes version
	local flags=(-buildvcs=false -trimpath -ldflags '-s -w')
	[ "$(go_in_suite list -m -f '{{.Version}}' k8s.io/kubernetes)" = "$KUBERNETES_VERSION" ] ||
		die "the suite's go.mod is not about the cluster's Kubernetes, $KUBERNETES_VERSION"
	# The runner takes a compiled suite by its ending.
	go_in_suite test -c "${flags[@]}" -o "$out/netpol.test" .
	go_in_suite build "${flags[@]}" -o "$out/ginkgo" github.com/onsi/ginkgo/v2/ginkgo

	mkdir -p "$out/rootfs"/{bin,tmp,uploads}
	chmod 1777 "$out/rootfs/tmp" "$out/rootfs/uploads"
	go_in_suite build "${flags[@]}" -o "$out/rootfs/agnhost" k8s.io/kubernetes/test/images/agnhost
	cp "$(static_busybox)" "$out/rootfs/bin/busybox"
	ln -s busybox "$out/rootfs/bin/sh"
	# The specs ask for the image by this name and version.
	kubernetes=$(go_in_suite list -m -f '{{.Dir}}' k8s.io/kubernetes)
	version=$(cat "$kubernetes/test/images/agnhost/VERSION")
	"$CLUSTER_HOME/image-from-rootfs" "registry.k8s.io/e2e-test-images/agnhost:$version" "$out/rootfs" \
		--entrypoint '["/agnhost"]' --cmd '["pause"]' --output "$out/agnhost.tar" >&2
	rm -r "$out/rootfs"
}

static_busybox() {
	local path
	path=$(command -v busybox) || die "busybox is needed (package busybox-static)"
	! ldd "$path" >/dev/null 2>&1 || die "$path is not static (package busybox-static)"
	printf '%s\n' "$path"
}
