# shellcheck shell=bash
# What every command here starts with: paths, messages, options.

CLUSTER_HOME=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
LIB=$CLUSTER_HOME/lib

# Everything that takes long to make is kept here, outside the checkout.
CACHE=${PORTCULLIS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/portcullis}
TOOLS_BIN=$CACHE/tools/bin

# Which cluster the commands act on: local (made here), current or kind.
CLUSTER=${CLUSTER:-local}

# shellcheck source=./versions.sh
. "$LIB/versions.sh"

export PATH="$TOOLS_BIN:$PATH"

# Messages go to standard error: standard output belongs to results.
say() { printf 'cluster: %s\n' "$*" >&2; }

die() {
	printf 'cluster: error: %s\n' "$*" >&2
	exit 1
}

# The comment that a command begins with is its help text.
help() { sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0"; }

usage() {
	help >&2
	exit 2
}

need_root() {
	[ "$(id -u)" -eq 0 ] || die "this makes namespaces and mounts: run it as root (or use CLUSTER=current or CLUSTER=kind)"
}

need_known_cluster() {
	case $CLUSTER in
	local | current | kind) ;;
	*) die "CLUSTER is '$CLUSTER'; it must be local, current or kind" ;;
	esac
}

# Milliseconds since the machine started; wall clocks jump.
now_ms() {
	local up rest
	read -r up rest </proc/uptime
	up=${up/./}
	printf '%d0\n' "$((10#$up))"
}

# seconds_since START_MS, with one decimal.
seconds_since() {
	local ms=$(($(now_ms) - $1))
	printf '%d.%d\n' $((ms / 1000)) $((ms % 1000 / 100))
}

# wait_for SECONDS WHAT COMMAND...: polls until the command succeeds.
wait_for() {
	local seconds=$1 what=$2 deadline
	shift 2
	deadline=$(($(now_ms) + seconds * 1000))
	until "$@" >/dev/null 2>&1; do
		if [ "$(now_ms)" -ge "$deadline" ]; then
			say "waited $seconds s for $what"
			return 1
		fi
		sleep 0.2
	done
}
