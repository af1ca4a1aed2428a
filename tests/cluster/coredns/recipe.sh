# shellcheck shell=bash
# Fills a folder with the CoreDNS image.

build_coredns() {
	local out=$1
	mkdir "$out/rootfs"
	go_build coredns "$out/rootfs/coredns" ''
	"$CLUSTER_HOME/image-from-rootfs" "$COREDNS_IMAGE" "$out/rootfs" \
		--entrypoint '["/coredns"]' --user 65532:65532 --output "$out/image.tar" >&2
	rm -r "$out/rootfs"
}
