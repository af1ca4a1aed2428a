# shellcheck shell=bash disable=SC2034  # read by ../build
# A small server on the Python SDK 2.x: sessions and the stateless era.

mapfile -t needed < <(python_packages)
VERSIONS=$(libraries_version "${needed[@]}")

make_image() {
	local folder=$1 root=$1/rootfs
	empty_root "$root"
	python_runtime "$root"
	pip_packages "$root" app/packages "$SERVERS/mcp-python/requirements.lock"
	cp "$SERVERS/mcp-python/server.py" "$root/app/server.py"
	rootfs_image mcp-python "$root" "$folder" --env PYTHONPATH=/app/packages --env PYTHONDONTWRITEBYTECODE=1 \
		--env PYTHONUNBUFFERED=1 --env MCP_PORT=8000 --workdir /app --entrypoint '["/usr/bin/python3","/app/server.py"]'
}
