# shellcheck shell=bash
# A DNS client in bash, so that readiness needs no package for it.

# dns_lookup SERVER NAME: the addresses NAME has, one a line; fails when there
# is none. One UDP question for an A record.
dns_lookup() {
	local server=$1 name=$2 label question='' answer
	local -a labels bytes
	IFS=. read -ra labels <<<"$name"
	for label in "${labels[@]}"; do
		question+=$(printf '\\x%02x%s' ${#label} "$label")
	done
	# dd makes one write, hence one datagram, of it: printf would send what
	# it has at each byte that is a newline, and a length of ten is one.
	answer=$(timeout 2 bash -c '
		exec 3<>"/dev/udp/$1/53"
		printf "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00$2\x00\x00\x01\x00\x01" |
			dd bs=4096 count=1 iflag=fullblock >&3 2>/dev/null
		dd bs=4096 count=1 <&3 2>/dev/null | od -An -v -tu1' - "$server" "$question") || return 1
	read -ra bytes <<<"${answer//$'\n'/ }"
	dns_answers "${bytes[@]}"
}

# dns_answers BYTES...: the A records of a message whose answers all point
# back at their name by compression, as CoreDNS writes them.
dns_answers() {
	local -a byte=("$@")
	local answers at index kind size found=1
	[ ${#byte[@]} -gt 12 ] || return 1
	answers=$((byte[6] * 256 + byte[7]))
	# Past the header and the question: labels, a zero, type and class.
	at=12
	while [ "${byte[at]}" -ne 0 ]; do at=$((at + byte[at] + 1)); done
	at=$((at + 5))
	for ((index = 0; index < answers; index++)); do
		if [ "${byte[at]}" -ge 192 ]; then
			at=$((at + 2))
		else
			while [ "${byte[at]}" -ne 0 ]; do at=$((at + byte[at] + 1)); done
			at=$((at + 1))
		fi
		kind=$((byte[at] * 256 + byte[at + 1]))
		size=$((byte[at + 8] * 256 + byte[at + 9]))
		at=$((at + 10))
		if [ "$kind" -eq 1 ]; then
			printf '%d.%d.%d.%d\n' "${byte[at]}" "${byte[at + 1]}" "${byte[at + 2]}" "${byte[at + 3]}"
			found=0
		fi
		at=$((at + size))
	done
	return "$found"
}
