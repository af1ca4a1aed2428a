# Portcullis. `make help` lists what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help

export PORTCULLIS_CACHE ?= $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/portcullis
export CARGO_TARGET_DIR ?= $(PORTCULLIS_CACHE)/target

##@ Try it
.PHONY: demo demo-down
demo: ## A cluster, the operator, a gateway, and a real MCP call through it (first run: about 40 minutes; then 6)
	@tests/demo/up
demo-down: ## Take the demo down, without a trace
	@tests/demo/down

##@ Test it
.PHONY: test test-unit test-cluster test-netpol-conformance fuzz bench
test: ## Everything CI runs: lint, unit, charts, images, the API-server and cluster tiers
	@tests/run all
test-unit: ## What needs no cluster
	@tests/run unit
test-cluster: ## What needs the cluster: starts one, tests, takes it down
	@tests/run cluster
test-netpol-conformance: ## Kubernetes' own NetworkPolicy suite against the test cluster's enforcer (about 30 minutes)
	@tests/netpol/conformance/run
fuzz: ## What strangers send, made up by a fuzzer: each target for FUZZ_SECONDS (600); wants a nightly compiler
	@gateway/fuzz/run
bench: ## The gateway against nginx on one core; Markdown and JSON in bench-results/
	@tests/bench/run

##@ The cluster of the tests
.PHONY: cluster-up cluster-down
cluster-up: ## Start it (builds it the first time: about 15 minutes)
	@tests/cluster/build && tests/cluster/up
cluster-down: ## Stop it, without a trace
	@tests/cluster/down

##@ Build it
.PHONY: images generate lint
images: ## Both images as OCI archives, from the Dockerfiles
	@tests/images/build
generate: ## CRDs, manifests and reference docs from their sources
	@tests/run generate
lint: ## Format, clippy, docs, scripts, Dockerfiles, dependency bans
	@tests/run lint

.PHONY: help
help: ## This list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  %-26s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
