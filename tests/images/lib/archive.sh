# shellcheck shell=bash
# OCI archives: made by buildah with storage of its own, and read.

require_buildah() {
	command -v buildah >/dev/null || die "buildah is missing (Debian: apt-get install buildah; tests/cluster/build does it)"
}

# with_storage FOLDER SUBCOMMAND...: buildah that leaves nothing elsewhere.
with_storage() {
	local storage=$1
	shift
	gently buildah --root "$storage/root" --runroot "$storage/run" --storage-driver vfs "$@"
}

# print_images ARCHIVE...: NAME:TAG NAME@sha256:DIGEST ARCHIVE, a line each.
print_images() {
	local archive index name digest
	for archive in "$@"; do
		index=$(tar --extract --to-stdout --file "$archive" --wildcards '*index.json')
		name=$(sed -n 's/.*"org.opencontainers.image.ref.name": *"\([^"]*\)".*/\1/p' <<<"$index")
		digest=$(grep -o 'sha256:[0-9a-f]\{64\}' <<<"$index" | head -n 1)
		if [ -z "$name" ] || [ -z "$digest" ]; then die "$archive names no image"; fi
		printf '%s %s@%s %s\n' "$name" "${name%:*}" "$digest" "$archive"
	done
}
