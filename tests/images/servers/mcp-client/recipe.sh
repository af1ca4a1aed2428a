# shellcheck shell=bash disable=SC2034  # read by ../build
# The Python clients of tests/clients, to make calls from inside a cluster.

INPUTS=(tests/clients/python)
mapfile -t needed < <(python_packages)
VERSIONS=$(libraries_version "${needed[@]}")

make_image() {
	local folder=$1 root=$1/rootfs sdk
	empty_root "$root"
	python_runtime "$root"
	for sdk in 1 2; do
		pip_packages "$root" "app/packages/python-sdk-$sdk" "$TESTS/clients/python/sdk-$sdk.lock"
	done
	cp "$TESTS"/clients/python/*.py "$root/app"
	rootfs_image mcp-client "$root" "$folder" --env PORTCULLIS_CLIENT_PACKAGES=/app/packages \
		--env PYTHONDONTWRITEBYTECODE=1 --env PYTHONUNBUFFERED=1 --workdir /app \
		--entrypoint '["/usr/bin/python3","/app/main.py"]'
}
