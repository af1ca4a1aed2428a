# shellcheck shell=bash disable=SC2034  # read by the scripts that source this
# Where the suite's and the fixture's packages lie.

# shellcheck source=../lib/cached.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/cached.sh"

conformance_folder() {
	printf '%s/conformance-%s\n' "$CACHE" \
		"$(fingerprint "$(uname -sm)" tests/conformance/install tests/conformance/package.json tests/conformance/package-lock.json)"
}
