# shellcheck shell=bash disable=SC2034  # read by the scripts that source this
# What the scripts start with that build things into the cache: messages, and
# folders that are named by a hash of what they are made from, so that nothing
# is built twice and two checkouts can differ.

TESTS=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
REPOSITORY=$(dirname "$TESTS")
CACHE=${PORTCULLIS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/portcullis}
PROGRAM=${PROGRAM:-$(basename "$0")}

# Messages go to standard error: standard output belongs to results.
say() { printf '%s: %s\n' "$PROGRAM" "$*" >&2; }

die() {
	printf '%s: error: %s\n' "$PROGRAM" "$*" >&2
	exit 1
}

# The comment that a command begins with is its help text.
help() { sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0"; }

# fingerprint TEXT PATH...: a short hash of the text (versions, say) and of
# these files' names and contents, seen from the repository's root. What
# running the files leaves beside them does not count.
fingerprint() {
	local text=$1
	shift
	{
		printf '%s\n' "$text"
		(
			cd "$REPOSITORY" || exit
			find "$@" -name __pycache__ -prune -o -name node_modules -prune -o -name target -prune -o -type f -print0 |
				LC_ALL=C sort -z | xargs -0 sha256sum
		)
	} | sha256sum | cut -c1-12
}

# build_once FOLDER COMMAND...: makes the folder unless it is there. COMMAND
# gets a fresh folder as its last argument; it is renamed into place when it
# is complete. One is built once at a time, and a build that died leaves a
# folder that the next one removes.
build_once() {
	local folder=$1 name start
	name=$(basename "$folder")
	shift
	[ ! -d "$folder" ] || return 0
	mkdir -p "$(dirname "$folder")"
	(
		flock -n 8 || { say "$name: another build is at work, waiting for it" && flock 8; }
		[ ! -d "$folder" ] || exit 0
		rm -rf "$folder".partial.*
		partial=$folder.partial.$$
		mkdir "$partial"
		start=$SECONDS
		"$@" "$partial" 8>&-
		mv -T "$partial" "$folder"
		say "$name: made in $((SECONDS - start)) s"
	) 8>"$(dirname "$folder")/.${name%-*}.lock"
}

# keep_newest COUNT PREFIX: removes all but the newest folders of that name.
keep_newest() {
	local count=$1 prefix=$2 folder
	find "$(dirname "$prefix")" -maxdepth 1 -type d -name "$(basename "$prefix")*" ! -name '*.partial.*' -printf '%T@ %p\n' |
		sort -rn | tail -n +$((count + 1)) | cut -d' ' -f2- |
		while read -r folder; do rm -rf "$folder"; done
}

# Long work must not starve the rest of the machine.
gently() { nice -n 10 "$@"; }
