# shellcheck shell=bash
# The Debian packages that the cluster runs on.

# "command package" pairs; a command that is there, from whatever package, is
# taken as it is (Docker's own containerd, say, must not be replaced).
NEEDED_COMMANDS='
containerd containerd
runc runc
nft nftables
iptables iptables
conntrack conntrack
ip iproute2
busybox busybox-static
buildah buildah
openssl openssl
flock util-linux
cc gcc
'

# cni_bin: the folder with the CNI plugins.
cni_bin() {
	local folder
	for folder in /usr/lib/cni /opt/cni/bin; do
		if [ -x "$folder/ptp" ] && [ -x "$folder/host-local" ] && [ -x "$folder/portmap" ]; then
			printf '%s\n' "$folder"
			return 0
		fi
	done
	return 1
}

missing_packages() {
	local command package
	while read -r command package; do
		[ -z "$command" ] || command -v "$command" >/dev/null || printf '%s\n' "$package"
	done <<<"$NEEDED_COMMANDS"
	[ -e /usr/include/stdlib.h ] || printf 'libc6-dev\n'
	cni_bin >/dev/null || printf 'containernetworking-plugins\n'
}

install_packages() {
	if [ -z "$(missing_packages)" ]; then
		say "packages: all there"
		return 0
	fi
	need_root
	# apt's own locks do not make two of it take turns in everything.
	(
		flock -n 7 || { say "packages: another build installs some, waiting for it" && flock 7; }
		install_missing 7>&-
	) 7>/run/lock/portcullis-packages.lock
}

install_missing() {
	local missing
	missing=$(missing_packages | sort -u | tr '\n' ' ')
	[ -n "$missing" ] || return 0
	command -v apt-get >/dev/null || die "install these by hand, this is not Debian: $missing"
	say "packages: installing $missing"
	# Its lock on the lists has no time-out; somebody else may be at it.
	for _ in 1 2 3 4 5; do
		! apt-get update --quiet=2 >&2 || break
		sleep 5
	done
	case " $missing " in
	*' containerd '*) without_service_start apt_install "$missing" ;;
	*) apt_install "$missing" ;;
	esac
	missing=$(missing_packages | sort -u | tr '\n' ' ')
	[ -z "$missing" ] || die "these are still missing: $missing"
}

apt_install() {
	# shellcheck disable=SC2086  # a list of packages
	DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install \
		--yes --quiet=2 --no-install-recommends $1 >&2
}

# without_service_start COMMAND...: the packages' services stay off, for the
# cluster starts a containerd of its own. policy-rc.d is Debian's switch for
# that; one that is there already is somebody's decision and is left alone.
without_service_start() {
	local policy=/usr/sbin/policy-rc.d ours='' result=0
	if [ ! -e "$policy" ]; then
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod 755 "$policy"
		ours=yes
	fi
	"$@" || result=$?
	[ -z "$ours" ] || rm -f "$policy"
	if [ -d /run/systemd/system ]; then
		systemctl disable --now --quiet containerd || true
	fi
	return "$result"
}
