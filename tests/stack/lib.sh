# What demo and cluster tests share: a cluster, the images in it, the operator installed. Sourced.
# shellcheck shell=bash

REPOSITORY=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
TESTS=$REPOSITORY/tests
export PORTCULLIS_CACHE="${PORTCULLIS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/portcullis}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PORTCULLIS_CACHE/target}"
export PATH="$PORTCULLIS_CACHE/tools/bin:$PATH"
SYSTEM_NAMESPACE=portcullis-system

say() { printf '%s\n' "$*"; }
heading() { printf '\n\033[1m%s\033[0m\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# wait_for SECONDS DESCRIPTION COMMAND...: until the command succeeds.
wait_for() {
  local seconds=$1 what=$2 end=$((SECONDS + $1))
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || { printf 'not within %ss: %s\n' "$seconds" "$what" >&2; return 1; }
    sleep 0.5
  done
}

# stack_cluster FOLDER: the cluster that FOLDER/cluster.env leads to, if it answers; else a new one.
stack_cluster() {
  local exports
  if [ -e "$1/cluster.env" ]; then
    # shellcheck source=/dev/null
    . "$1/cluster.env"
    if kubectl get --raw /readyz --request-timeout 5s >/dev/null 2>&1; then
      say "  the one that is up already, slot ${PORTCULLIS_CLUSTER_SLOT:-none}"
      return
    fi
    "$TESTS/cluster/down" --slot "$PORTCULLIS_CLUSTER_SLOT" || true
    rm "$1/cluster.env"
    unset PORTCULLIS_CLUSTER_SLOT
  fi
  exports=$("$TESTS/cluster/up") || return 1
  eval "$exports"
  "$TESTS/cluster/env" >"$1/cluster.env"
}

# stack_images: builds the product's and the test servers' images and loads them. Sets DIGEST_mcp_everything and the like.
stack_images() {
  local name digest archive line images
  images=$("$TESTS/images/build") && images+=$'\n'$("$TESTS/images/servers/build" mcp-everything mcp-python) || return 1
  while read -r name digest archive; do
    "$TESTS/cluster/load-image" "$archive" >/dev/null
    line=${name#localhost/}
    line=${line%%:*}
    printf -v "DIGEST_${line//-/_}" '%s' "$digest" # NAME@sha256:...
    say "  $name"
  done <<<"$images"
}

# stack_install_helm: the operator, by the charts.
stack_install_helm() {
  helm upgrade --install portcullis-crds "$REPOSITORY/charts/portcullis-crds" --namespace "$SYSTEM_NAMESPACE" --create-namespace --wait >/dev/null
  kubectl label namespace "$SYSTEM_NAMESPACE" pod-security.kubernetes.io/enforce=restricted --overwrite >/dev/null
  helm upgrade --install portcullis "$REPOSITORY/charts/portcullis" --namespace "$SYSTEM_NAMESPACE" --wait --timeout 180s \
    --values "$TESTS/stack/values.yaml" \
    --set "image.digest=${DIGEST_portcullis_operator#*@}" --set "gateway.image.digest=${DIGEST_portcullis_gateway#*@}" \
    --set "cluster.podCIDRs={$PORTCULLIS_CLUSTER_POD_CIDR}" --set "cluster.serviceCIDRs={$PORTCULLIS_CLUSTER_SERVICE_CIDR}" \
    --set "cluster.apiServerCIDRs={$PORTCULLIS_CLUSTER_NODE_IP/32}" >/dev/null
}

# stack_end FILE: ends the process whose number is in FILE, if it still is the one that FILE's folder started.
stack_end() {
  local pid
  [ -e "$1" ] || return 0
  pid=$(cat "$1")
  if tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q "tests/stack/"; then kill "$pid" 2>/dev/null || true; fi
  rm -f "$1"
}

# portcullis ARGS...: the operator's command line, as it was built for this machine.
portcullis() { "$(stack_program portcullis)" "$@"; }
stack_program() {
  local program=$CARGO_TARGET_DIR/debug/$1
  [ -x "$program" ] || cargo build --quiet --locked --manifest-path "$REPOSITORY/Cargo.toml" --workspace --bins >&2
  echo "$program"
}

# api_key CLIENT NAMESPACE SECRET FOLDER: mints a key into FOLDER/CLIENT.key and applies the Secret that verifies it.
api_key() {
  rm -f "$4/$1.key"
  portcullis credential api-key "$1" --namespace "$2" --secret-name "$3" --key-file "$4/$1.key" 2>/dev/null |
    kubectl apply --server-side --field-manager="$1" -f - >/dev/null
}

# idp_start FOLDER: a key set at https://idp.test:8444/jwks, as pods see it; its PID in FOLDER/pid.
idp_start() {
  "$TESTS/stack/idp.py" init "$1"
  "$TESTS/stack/idp.py" certificate "$1" gateway localhost
  setsid "$TESTS/stack/idp.py" serve "$1" "$PORTCULLIS_CLUSTER_HOST_IP" 8444 >"$1/log" 2>&1 </dev/null &
  echo $! >"$1/pid"
}

# client WHICH URL ...: a real MCP client (tests/clients/run).
client() { "$TESTS/clients/run" "$@"; }
