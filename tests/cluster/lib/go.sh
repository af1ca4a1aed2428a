# shellcheck shell=bash
# How Go programs are built here.

# go_build MODULE_FOLDER OUTPUT LINKER_FLAGS: a static, stripped program.
# Modules are taken as go.sum pins them.
go_build() {
	(cd "$CLUSTER_HOME/$1" &&
		CGO_ENABLED=0 GOFLAGS=-mod=readonly nice -n 5 \
			go build -buildvcs=false -trimpath -ldflags "-s -w $3" -o "$2" .)
}
