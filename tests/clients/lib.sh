# shellcheck shell=bash disable=SC2034  # read by the scripts that source this
# Where the clients' packages lie.

# shellcheck source=../lib/cached.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/cached.sh"

PYTHON=${PYTHON:-python3}
CLIENTS=(python-sdk-1 python-sdk-2 typescript-sdk-1 typescript-sdk-2 inspector rmcp)

# The packages hold compiled parts, so the interpreter counts.
clients_folder() {
	local python
	python=$("$PYTHON" -c 'import sys, sysconfig; print(sys.version, sysconfig.get_platform())')
	printf '%s/clients-%s\n' "$CACHE" "$(fingerprint "$python" \
		tests/clients/install tests/clients/python/sdk-1.lock tests/clients/python/sdk-2.lock \
		tests/clients/python/server-time.lock tests/images/servers/mcp-everything/package-lock.json \
		tests/clients/node/package.json tests/clients/node/package-lock.json)"
}
