# shellcheck shell=bash
# How each part of the cluster is made. Every function fills the folder it is
# given; build_part (cache.sh) makes that atomic.

# go_build MODULE_FOLDER OUTPUT LINKER_FLAGS: a static, stripped program.
# Modules are taken as go.sum pins them.
go_build() {
	(cd "$CLUSTER_HOME/$1" &&
		CGO_ENABLED=0 GOFLAGS=-mod=readonly nice -n 5 \
			go build -buildvcs=false -trimpath -ldflags "-s -w $3" -o "$2" .)
}

build_kubernetes() {
	local out=$1 package=k8s.io/component-base/version name
	local minor=${KUBERNETES_VERSION#v1.}
	# Without these the API server calls itself v0.0.0-master and clients
	# misbehave.
	go_build kubernetes "$out/kubernetes" "\
-X $package.gitVersion=$KUBERNETES_VERSION -X $package.gitMajor=1 \
-X $package.gitMinor=${minor%%.*} -X $package.gitTreeState=clean"
	for name in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy etcd; do
		ln -s kubernetes "$out/$name"
	done
}

build_coredns() {
	local out=$1
	mkdir "$out/rootfs"
	go_build coredns "$out/rootfs/coredns" ''
	"$CLUSTER_HOME/image-from-rootfs" "$COREDNS_IMAGE" "$out/rootfs" \
		--entrypoint '["/coredns"]' --user 65532:65532 --output "$out/image.tar" >&2
	rm -r "$out/rootfs"
}

build_pause() {
	local out=$1
	mkdir "$out/rootfs"
	cc -static -Os -s -Wall -Wextra -Werror -o "$out/rootfs/pause" "$CLUSTER_HOME/pause/pause.c"
	"$CLUSTER_HOME/image-from-rootfs" "$PAUSE_IMAGE" "$out/rootfs" \
		--entrypoint '["/pause"]' --user 65535:65535 --output "$out/image.tar" >&2
	# The node's own process 1 is the same program, outside a container.
	mv "$out/rootfs/pause" "$out/pause"
	rm -r "$out/rootfs"
}
