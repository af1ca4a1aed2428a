# shellcheck shell=bash
# Fills a folder with the program and one symlink per component.

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
