# shellcheck shell=bash
# The product's programs as static binaries, made by the machine's own cargo.

# most_bytes FILE: the gateway is started often and everywhere, and stays small. The operator carries what it takes to read and
# write Kubernetes' types; its bound is there to notice a dependency that nobody meant to add.
most_bytes() {
	case ${1##*/} in
	portcullis-gateway) echo $((25 * 1024 * 1024)) ;;
	*) echo $((32 * 1024 * 1024)) ;;
	esac
}

workspace_version() { sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$REPOSITORY/Cargo.toml"; }

rust_target() { rustc --print host-tuple; }

target_folder() { printf '%s\n' "${CARGO_TARGET_DIR:-$CACHE/target}"; }

# The same flags as in the Dockerfiles. The target is named so that build
# scripts and procedural macros stay dynamic.
compile() {
	say "compiling ($PROFILE)"
	(
		cd "$REPOSITORY" || exit
		export CARGO_TARGET_DIR RUSTFLAGS='-C target-feature=+crt-static'
		CARGO_TARGET_DIR=$(target_folder)
		gently cargo build --locked --profile "$PROFILE" --target "$(rust_target)" \
			--package portcullis-operator --bin portcullis --package portcullis-gateway --bin portcullis-gateway >&2
	)
}

# binary PROGRAM: where cargo has put it.
binary() {
	local folder=$PROFILE
	[ "$PROFILE" != dev ] || folder=debug
	printf '%s/%s/%s/%s\n' "$(target_folder)" "$(rust_target)" "$folder" "$1"
}

# check_binary FILE: what the images rely on. Nothing is there to load a
# library from, so there may be none to load and no loader; the code must be
# position independent; and it must start in an empty folder as nobody.
check_binary() {
	local file=$1 headers empty
	headers=$(readelf --wide --file-header --program-headers --dynamic "$file")
	grep -q 'Type: *DYN' <<<"$headers" || die "$file is not position independent"
	! grep -q 'INTERP' <<<"$headers" || die "$file wants a dynamic loader"
	! grep -q '(NEEDED)' <<<"$headers" || die "$file wants a shared library"
	if [ "$PROFILE" = release ] && [ "$(stat -c %s "$file")" -gt "$(most_bytes "$file")" ]; then
		die "$file has $(stat -c %s "$file") bytes; an image may have $(most_bytes "$file")"
	fi
	if [ "$(id -u)" -eq 0 ]; then
		empty=$(mktemp -d)
		cp "$file" "$empty/program"
		chmod 755 "$empty"
		chroot --userspec=65532:65532 "$empty" /program --help >/dev/null ||
			{ rm -r "$empty" && die "$file does not start in an empty folder"; }
		rm -r "$empty"
	fi
	say "$(basename "$file"): static, $(($(stat -c %s "$file") / 1024)) KiB"
}
