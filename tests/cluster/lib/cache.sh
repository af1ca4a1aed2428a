# shellcheck shell=bash disable=SC2034  # read by the scripts that source this
# Where built parts lie. Each part's folder is named by its version and a hash
# of what it is made from, its recipe included: a change of one part rebuilds
# that part only, and two checkouts can differ.

# fingerprint PATH...: a short hash of these files' names and contents.
fingerprint() {
	(cd "$CLUSTER_HOME" && find "$@" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum) |
		sha256sum | cut -c1-12
}

KUBERNETES_DIR=$CACHE/kubernetes-$KUBERNETES_VERSION-$(fingerprint kubernetes)
COREDNS_DIR=$CACHE/coredns-$COREDNS_VERSION-$(fingerprint coredns image-from-rootfs)
PAUSE_DIR=$CACHE/pause-$(fingerprint pause image-from-rootfs)

# A part's folder appears by one rename when it is complete.
parts_built() {
	[ -d "$KUBERNETES_DIR" ] && [ -d "$COREDNS_DIR" ] && [ -d "$PAUSE_DIR" ] &&
		tools_installed
}

tools_installed() {
	[ -x "$TOOLS_BIN/kubectl" ] && [ -x "$TOOLS_BIN/helm" ] &&
		[ "$(cat "$CACHE/tools/version" 2>/dev/null)" = "$KUBECTL_PACKAGE_VERSION" ]
}

# build_part DIRECTORY COMMAND: runs COMMAND with a fresh folder as argument
# and renames that folder into place. One part is built once at a time; a
# build that dies leaves a folder that the next one removes.
build_part() {
	local directory=$1 command=$2 name started
	name=$(basename "$directory")
	if [ -d "$directory" ]; then
		say "$name: already built"
		return 0
	fi
	mkdir -p "$CACHE"
	(
		flock -n 8 || { say "$name: another build is at work, waiting for it" && flock 8; }
		if [ -d "$directory" ]; then
			say "$name: built by the other one"
			exit 0
		fi
		rm -rf "$directory".partial.*
		partial=$directory.partial.$$
		mkdir "$partial"
		started=$(now_ms)
		"$command" "$partial" 8>&-
		mv -T "$partial" "$directory"
		say "$name: built in $(seconds_since "$started") s"
	) 8>"$CACHE/.$name.lock"
}
