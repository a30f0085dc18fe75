# The project's commands. `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

# Where make build leaves the program.
BIN ?= bin

# Two packages at a time: the tests measure latencies and memory, and those of
# more packages than cores would measure each other.
GOTEST ?= -p 2 -timeout 20m -shuffle=on

# The tools are pinned in tools/go.mod, a module of its own, so that none of
# their dependencies is one of ours. The stamp's name holds what decides the
# binaries; golangci-lint takes minutes to build and is built once per such name.
TOOLS := bin/tools/.$(shell { cat tools/go.mod tools/go.sum tools/generate/*.go; go version; } | sha256sum | cut -c1-16)

# The libraries of Helm, Compose and Envoy, and nfpm, are in one more module, which is large: most of its time is Kubernetes's types.
DEPLOY_TOOLS := bin/tools/.tools-deploy-$(shell { cat tools/deploy/*.go tools/deploy/go.mod tools/deploy/go.sum; go version; } | sha256sum | cut -c1-16)

# What make generate makes code of.
PROTOS := push/protocol/centrifuge/wire/client.proto

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## Build and start a server for a first try: http://localhost:8000/
	bin/millpond serve --dev

# Static and without the builder's paths: the binary runs on any Linux of its
# architecture, and the same commit, wherever it is checked out, gives the same bytes.
build: ## Build bin/millpond.
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)' -o $(BIN)/millpond ./cmd/millpond

# What the container's image is made of, and by what.
IMAGE_ROOT ?= build/image
IMAGE ?= millpond:latest
CONTAINER ?= docker

# The bill of materials of a program, $(call sbom,PROGRAM,FILE); tools/sbom is a small module, which need not be built before.
sbom = env -u GOOS -u GOARCH go -C tools/sbom run . -root $(CURDIR) -version $(VERSION) $(abspath $(1)) > $(2)

image-root: build
	@mkdir -p $(IMAGE_ROOT)/data
	install -m 755 $(BIN)/millpond $(IMAGE_ROOT)/
	$(call sbom,$(BIN)/millpond,$(IMAGE_ROOT)/millpond.cdx.json)
	install -m 644 /etc/ssl/certs/ca-certificates.crt LICENSE THIRD_PARTY_LICENSES.txt $(IMAGE_ROOT)/

image: image-root ## Build the container's image, by CONTAINER=docker, podman or buildah.
	$(CONTAINER) build -t $(IMAGE) -f deploy/container/Containerfile $(IMAGE_ROOT)

# Versions of packages begin with a digit, and the same commit gives the same bytes.
DIST ?= build/dist
ARCHES ?= amd64 arm64
export PACKAGE_VERSION = $(subst -,+,$(if $(filter v%,$(VERSION)),$(VERSION:v%=%),0.0.0~$(VERSION)))
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)

dist: $(DEPLOY_TOOLS) ## Build what is released, in build/dist: programs, their bills of materials, deb and rpm for amd64 and arm64, and checksums.
	@rm -rf $(DIST) && mkdir -p $(DIST)
	@for arch in $(ARCHES); do \
		GOARCH=$$arch $(MAKE) --no-print-directory build BIN=$(DIST)/$$arch; \
		bill=$(DIST)/millpond_$(PACKAGE_VERSION)_linux_$$arch.cdx.json; \
		$(call sbom,$(DIST)/$$arch/millpond,$$bill); \
		for kind in deb rpm; do \
			ARCH=$$arch PROGRAM=$(DIST)/$$arch/millpond BILL=$$bill bin/tools/nfpm package -f deploy/nfpm.yaml -p $$kind -t $(DIST)/; \
		done; \
		mv $(DIST)/$$arch/millpond $(DIST)/millpond_$(PACKAGE_VERSION)_linux_$$arch; rmdir $(DIST)/$$arch; \
	done
	cd $(DIST) && sha256sum * > SHA256SUMS

test: setup $(TOOLS) $(DEPLOY_TOOLS) ## Run all tests, the real-browser ones among them.
	bin/tools/gotestsum --format pkgname --format-hide-empty-pkg -- $(GOTEST) ./...
	cd bench/peers && ../../bin/tools/gotestsum --format pkgname -- $(GOTEST) ./...
	cd tools/sbom && ../../bin/tools/gotestsum --format pkgname -- $(GOTEST) ./...

check: format generated vet lint vuln race ## Run everything a change must pass before it lands, except make test.

format: $(TOOLS)
	@unformatted=$$(bin/tools/gofumpt -l .); \
	if [ -n "$$unformatted" ]; then echo "gofumpt would change these (bin/tools/gofumpt -w FILE):"; echo "$$unformatted"; exit 1; fi

generate: $(TOOLS) ## Write the Go code of the .proto files, what docs have of the settings, and the licences of what is linked.
	bin/tools/generate $(PROTOS)
	MILLPOND_WRITE_DOCS=1 go test ./cmd/millpond ./internal/licenses -run 'TestReference|TestSchema|TestThirdParty' -count=1

generated: $(TOOLS)
	@bin/tools/generate -l $(PROTOS) || { echo "the code above is not what its .proto says: make generate"; exit 1; }

vet:
	go vet ./...
	cd bench/peers && go vet ./...
	cd tools/sbom && go vet ./...

# staticcheck runs by itself, at its own release; golangci-lint leaves it out.
lint: $(TOOLS)
	bin/tools/golangci-lint run
	bin/tools/staticcheck ./...
	cd bench/peers && ../../bin/tools/golangci-lint run && ../../bin/tools/staticcheck ./...
	cd tools/sbom && ../../bin/tools/golangci-lint run && ../../bin/tools/staticcheck ./...

vuln: $(TOOLS)
	@.ci/vuln

# The detector slows code several times over and allocates: budgets are for
# make test to hold, on the code that ships.
race: setup $(TOOLS) $(DEPLOY_TOOLS)
	bin/tools/gotestsum --format pkgname --format-hide-empty-pkg -- $(GOTEST) -race ./...
	cd bench/peers && ../../bin/tools/gotestsum --format pkgname -- $(GOTEST) -race ./...
	cd tools/sbom && ../../bin/tools/gotestsum --format pkgname -- $(GOTEST) -race ./...

bench: build ## Measure what an idle connection costs.
	bin/millpond bench idle

benchmarks: build ## Run every scenario and write its reports to docs/benchmarks: half an hour, on a machine with nothing else to do.
	docs/benchmarks/run.sh

# The other servers are dependencies of a module of its own, in bench/peers.
peers: build ## Measure millpond beside other Go servers: docs/benchmarks/peers.md, a quarter of an hour.
	mkdir -p docs/benchmarks
	cd bench/peers && go run . -millpond ../../bin/millpond -out ../../docs/benchmarks/peers.md $(PEERS)

# In an emulated machine, for few hosts give a process a million descriptors. MILLION=-connections=20000 takes less of all.
million: build setup ## Measure a million connections: 14 GB of memory, and half an hour or more.
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w' -o bin/million ./bench/million
	bin/million $(MILLION)

setup:
	@.ci/setup

clean: ## Remove what make built.
	rm -rf bin build internal/sdk/node_modules

$(TOOLS):
	@echo "building the pinned tools, once: some minutes"
	@rm -f bin/tools/.[0-9a-f]*
	cd tools && go build -o ../bin/tools/ tool
	@touch $@

$(DEPLOY_TOOLS):
	@echo "building the tools that check and package what is in deploy/, once: some minutes"
	@rm -f bin/tools/.tools-deploy-*
	@mkdir -p bin/tools
	cd tools/deploy && go build -o ../../bin/tools/ . tool
	@touch $@

.PHONY: help run build image image-root dist test check format generate generated vet lint vuln race bench benchmarks peers million setup clean
