# shellcheck shell=bash
# How Go programs are built here.

# go_progress: turns the package names of `go build -v` into a line now and
# then; whatever else go says is passed on.
go_progress() {
	awk -v total="$1" '
		/^[a-zA-Z0-9._\/-]+$/ {
			if (++count % 100 == 0) {
				printf "cluster: ... %d of at most %d packages compiled\n", count, total
				fflush()
			}
			next
		}
		{ print; fflush() }' >&2
}

# go_build MODULE_FOLDER OUTPUT LINKER_FLAGS: a static, stripped program.
# Modules are taken as go.sum pins them.
go_build() {
	(
		export CGO_ENABLED=0 GOFLAGS=-mod=readonly
		cd "$CLUSTER_HOME/$1" || exit
		nice -n 5 go build -v -buildvcs=false -trimpath -ldflags "-s -w $3" -o "$2" . 2>&1 |
			go_progress "$(go list -deps . | wc -l)"
	)
}
