# shellcheck shell=bash
# The cluster's certificates and kubeconfigs, made anew by every `up`. They
# last ten days: longer than any test run, too short to be kept.

PKI_DAYS=10

# make_ca NAME
make_ca() {
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days "$PKI_DAYS" \
		-subj "/CN=$1" -keyout "$PKI/$1.key" -out "$PKI/$1.crt" \
		-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null
}

# make_cert FILE SUBJECT CA client|server [SUBJECT_ALT_NAMES]
make_cert() {
	local extensions="extendedKeyUsage=$4Auth
keyUsage=critical,digitalSignature
basicConstraints=CA:FALSE"
	[ -z "${5:-}" ] || extensions+="
subjectAltName=$5"
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "$2" \
		-keyout "$PKI/$1.key" -out "$PKI/$1.csr" 2>/dev/null
	openssl x509 -req -in "$PKI/$1.csr" -CA "$PKI/$3.crt" -CAkey "$PKI/$3.key" -days "$PKI_DAYS" \
		-extfile <(printf '%s\n' "$extensions") -out "$PKI/$1.crt" 2>/dev/null
	rm "$PKI/$1.csr"
}

# make_kubeconfig FILE SUBJECT: a client certificate and the kubeconfig that
# carries it.
make_kubeconfig() {
	local name
	name=$(basename "$1" .kubeconfig)
	make_cert "$name" "$2" ca client
	cat >"$PKI/$name.kubeconfig" <<-END
		apiVersion: v1
		kind: Config
		clusters:
		  - name: portcullis-$SLOT
		    cluster:
		      server: https://$NODE_IP:6443
		      certificate-authority-data: $(base64 -w0 "$PKI/ca.crt")
		users:
		  - name: $name
		    user:
		      client-certificate-data: $(base64 -w0 "$PKI/$name.crt")
		      client-key-data: $(base64 -w0 "$PKI/$name.key")
		contexts:
		  - name: portcullis-$SLOT
		    context: { cluster: portcullis-$SLOT, user: $name }
		current-context: portcullis-$SLOT
	END
}

make_pki() {
	PKI=$STATE_DIR/pki
	mkdir -m 700 "$PKI"
	make_ca ca
	make_ca front-proxy-ca
	make_cert apiserver /CN=kube-apiserver ca server \
		"DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,DNS:localhost,IP:127.0.0.1,IP:$NODE_IP,IP:$API_SERVICE_IP"
	make_cert kubelet-server "/CN=$NODE_NAME" ca server "DNS:$NODE_NAME,IP:$NODE_IP"
	make_cert apiserver-kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client ca client
	make_cert front-proxy-client /CN=front-proxy-client front-proxy-ca client
	make_kubeconfig admin /O=system:masters/CN=kubernetes-admin
	make_kubeconfig controller-manager /CN=system:kube-controller-manager
	make_kubeconfig scheduler /CN=system:kube-scheduler
	make_kubeconfig kubelet "/O=system:nodes/CN=system:node:$NODE_NAME"
	make_kubeconfig proxy /CN=system:kube-proxy
	make_kubeconfig netpol /O=system:masters/CN=portcullis-netpol
	# RSA, as on most clusters: tokens are then signed RS256.
	openssl genrsa -out "$PKI/service-account.key" 2048 2>/dev/null
	openssl rsa -in "$PKI/service-account.key" -pubout -out "$PKI/service-account.pub" 2>/dev/null
	install -m 600 "$PKI/admin.kubeconfig" "$KUBECONFIG_FILE"
}
