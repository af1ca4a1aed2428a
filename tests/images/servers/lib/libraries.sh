# shellcheck shell=bash
# The machine's shared libraries, as far as a program needs them.

# libraries_version PACKAGE...: what an image made from them depends on.
libraries_version() {
	command -v dpkg-query >/dev/null || die "needs Debian: its packages are where the libraries come from"
	# shellcheck disable=SC2016  # dpkg-query's own placeholders
	dpkg-query --show --showformat '${Package} ${Version} ${Status}\n' libc6 libgcc-s1 libstdc++6 "$@" ||
		die "apt-get install these"
}

# empty_root FOLDER: a root with Debian's links from / into /usr.
empty_root() {
	local root=$1
	mkdir -p "$root"/{usr/bin,usr/lib,usr/lib64,app,tmp}
	ln -s usr/lib "$root/lib"
	ln -s usr/lib64 "$root/lib64"
	chmod 1777 "$root/tmp"
}

# copy_libraries ROOT FILE...: all libraries that these ELF files load, the
# loader too. A library that is not to be found is an error here, not in a pod.
copy_libraries() {
	local root=$1 needed library
	shift
	needed=$(for file in "$@"; do ldd "$file" 2>/dev/null || true; done)
	if grep 'not found' <<<"$needed" >&2; then die "libraries are missing"; fi
	while read -r library; do
		[ ! -e "$root$library" ] || continue
		mkdir -p "$root$(dirname "$library")"
		cp --dereference "$library" "$root$library"
	done < <(grep -o '/[^ ]*' <<<"$needed" | grep -v ':$' | sort -u)
}
