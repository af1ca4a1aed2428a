# shellcheck shell=bash
# Fills a folder with the pause image and the bare program.

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
