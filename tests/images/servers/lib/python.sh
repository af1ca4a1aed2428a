# shellcheck shell=bash
# Debian's Python, without what a server does not need.

DEBIAN_PYTHON=/usr/bin/python3

# python_version: 3.11, say.
python_version() { "$DEBIAN_PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

python_packages() {
	local version
	version=$(python_version)
	printf '%s\n' "python$version-minimal" "libpython$version-minimal" "libpython$version-stdlib"
}

# python_runtime ROOT: as /usr/bin/python3, its library below /usr/lib.
python_runtime() {
	local root=$1 version packages
	version=$(python_version)
	mapfile -t packages < <(python_packages)
	# Only files and links: a folder would come with all that is in it.
	dpkg --listfiles "${packages[@]}" |
		grep -E "^/usr/(bin/python$version|lib/python$version/.*)\$" |
		grep -vE "^/usr/lib/python$version/(sitecustomize.py|(test|idlelib|lib2to3|tkinter|turtledemo|ensurepip|pydoc_data|distutils|unittest|config-[^/]*)(/|\$))" |
		while read -r file; do [ -d "$file" ] || printf '%s\n' "${file#/}"; done |
		sort -u |
		tar --create --directory / --files-from - | tar --extract --directory "$root"
	ln -s "python$version" "$root/usr/bin/python3"
	copy_libraries "$root" "$root/usr/bin/python$version"
	python_libraries "$root" "$root/usr/lib/python$version"
	compile_python "$root/usr/lib/python$version"
}

# pip_packages ROOT FOLDER LOCK: the lock file's wheels as ROOT/FOLDER, for
# Debian's Python, whichever one has the pip.
pip_packages() {
	local root=$1 folder=$2 lock=$3
	gently python3 -m pip --python "$DEBIAN_PYTHON" install --quiet --disable-pip-version-check --root-user-action ignore \
		--no-warn-script-location --no-compile --no-deps --only-binary :all: --require-hashes --requirement "$lock" --target "$root/$folder"
	rm -rf "${root:?}/$folder/bin"
	python_libraries "$root" "$root/$folder"
	compile_python "$root/$folder"
}

# python_libraries ROOT FOLDER: what its extension modules load.
python_libraries() {
	local root=$1 folder=$2 modules
	mapfile -t modules < <(find "$folder" -name '*.so' -type f)
	[ ${#modules[@]} -eq 0 ] || copy_libraries "$root" "${modules[@]}"
}

# Files in an image have no times, and its file system is read-only: bytecode
# must be there and must not be compared with times.
compile_python() {
	gently "$DEBIAN_PYTHON" -m compileall -q --invalidation-mode unchecked-hash -s "${1%/*}" "$1" >&2
}
