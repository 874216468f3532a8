# `make` alone shows what there is.
SHELL := /bin/sh
export CGO_ENABLED ?= 1
# Tests and the demo find the Python with stock Pyro5 here.
export PCLUSTER_PYTHON ?= $(CURDIR)/.venv/bin/python

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
FUZZTIME ?= 20s
VALUES ?= 5000
BENCHTIME ?= 1s

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## the program, as bin/pyro-cluster
	CGO_ENABLED=0 go build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/pyro-cluster ./cmd/pyro-cluster

# The image has the name in deploy/k8s, unless told otherwise.
ARCH ?= amd64
IMAGE ?= localhost/pyro-cluster:devel
IMAGE_ARCHIVE ?= bin/pyro-cluster-linux-$(ARCH).tar

.PHONY: image
image: ## container image as an archive, made without an engine (IMAGE=name:tag, ARCH=amd64, IMAGE_ARCHIVE=file)
	@go build -o bin/mkimage ./internal/mkimage
	@SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct 2>/dev/null)} \
	  bin/mkimage -o '$(IMAGE_ARCHIVE)' -name '$(IMAGE)' -arch '$(ARCH)' -version '$(VERSION)'

.PHONY: test
test: venv ## all tests, with the race detector and with stock Python programs
	go vet ./...
	go test -race -timeout 20m ./...
	go test -run Alloc ./core ./failover ./metrics

.PHONY: demo
demo: build venv ## real programs calling each other while replicas and nodes are killed, 30 s
	go build -o bin/demo ./examples/demo
	bin/demo -program bin/pyro-cluster -python $(PCLUSTER_PYTHON)

.PHONY: test-examples
test-examples: build venv ## Pyro5's own examples with our name server, and with servers in Go, two minutes (EXAMPLES='-run banks')
	@go build -o bin/pyro5/ ./examples/pyro5/...
	@go build -o bin/examples5 ./internal/examples5
	bin/examples5 -python $(PCLUSTER_PYTHON) $(EXAMPLES)

.PHONY: test-java
test-java: ## a Java program with Pyrolite, a JDK and Maven are installed if they are missing
	@scripts/java.sh
	go vet -tags java ./internal/pyrolite
	go test -tags java -count=1 -timeout 5m ./internal/pyrolite

.PHONY: lint
lint: ## formatting, vet, staticcheck
	@files=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$files" ] || { echo "not formatted: $$files"; exit 1; }
	go vet ./...
	go tool staticcheck ./...

.PHONY: test-kube
test-kube: image ## the story on the Kubernetes of KUBECONFIG, see docs/kubernetes-story.md (STORY='-out story', IMAGE_LOAD=...)
	@go build -o bin/story ./deploy/k8s/story
	bin/story -archive '$(IMAGE_ARCHIVE)' -image '$(IMAGE)' $(STORY)

.PHONY: bench
bench: ## all benchmarks (BENCHTIME=1s), then bench-rpc: calls against raw TCP, net/rpc and grpc-go (BENCHRPC='-rounds 5', see -h)
	go test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./...
	$(MAKE) bench-rpc

.PHONY: bench-rpc
bench-rpc:
	go build -o bin/bench ./loadtest/bench
	bin/bench $(BENCHRPC)

.PHONY: fuzz
fuzz: venv ## every fuzz target for a while (FUZZTIME=20s), random values to and from stock Pyro5 (VALUES=5000)
	go test -count 1 -v -run TestValues ./internal/interop -values.seed $$(date +%s) -values.count $(VALUES)
	@set -e; for package in $$(go list ./...); do \
	  for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
	    echo "$$package $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package; \
	  done; \
	done

.PHONY: venv
venv:
	@scripts/venv.sh

.PHONY: clean
clean: ## remove what the other targets made
	rm -rf bin .venv .cache
