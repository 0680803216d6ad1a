# Every target sets up what it needs by itself. `make` alone lists them.
ifneq ($(words $(CURDIR)),1)
$(error make takes a blank for the end of a name: move this checkout to a folder without one in its path ($(CURDIR)))
endif
SHELL := /bin/sh
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

GO       ?= go
ROOT     := $(CURDIR)
CACHE    := $(ROOT)/.cache
BIN      := $(CACHE)/bin
PROGRESS := $(ROOT)/deploy/progress.sh
MODULES  := proto migrations services tests
# What is cached does not depend on where the checkout lies: a fresh clone builds what has changed.
export GOFLAGS := $(filter-out -trimpath,$(shell $(GO) env GOFLAGS)) -trimpath
# Tools and modules that must not see the workspace.
ALONE    := GOWORK=off
# The whole run, per package: the slowest ones kill and restart real servers.
TIMEOUT  ?= 10m
# Further words for go test, the demo or a bench, e.g. make test ARGS='-run Signed -v'
ARGS     ?=
# Test packages at a time: those that wait much run their own tests side by side, and all share one database server.
AT_ONCE  ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); if [ "$$n" -gt 4 ]; then echo 4; else echo "$$n"; fi)
# The longest first, so that no processor idles at the end. go test prints results in this order.
TESTED   := ./tests/... ./services/sdi-gateway ./services/signer ./services/conservation work
# make lint vets tests too, with more analyzers than go test would.
GO_TEST   = $(GO) test -count=1 -vet=off

include deploy/tools.mk

## Use

demo: ceralacca-dev ## one invoice through the whole platform, documents left in out/
	@$(BIN)/ceralacca-dev demo $(ARGS)

dev: ceralacca-dev ceralacca ## the same platform kept running for work (Ctrl-C ends it)
	@$(BIN)/ceralacca-dev serve $(ARGS)

build: ## every program into .cache/bin
	@mkdir -p $(BIN)
	@cd services && $(PROGRESS) "building the programs" $(GO) build -v -o $(BIN)/ ./cmd/...

## Check

test: prepare ## all tests of the workspace, on real servers
	@$(BIN)/devenv with-postgres $(GO_TEST) -p $(AT_ONCE) -timeout $(TIMEOUT) $(ARGS) $(TESTED)

# Soaks write more than a machine has memory for, so their files are on disk.
test-all: prepare $(versitygw) ## the same with faults, soaks and S3, a browser, and the dev Vault's own tests
	@TMPDIR=$${TMPDIR:-/tmp} $(BIN)/devenv with-postgres $(GO_TEST) -p $(AT_ONCE) -tags soak,s3 -timeout 40m $(ARGS) $(TESTED)
	@$(MAKE) test-browser
	@$(MAKE) test-vaultdev

test-browser: prepare ## what opens in a browser, in a headless Chromium (apt-get install chromium)
	@cd services && $(BIN)/devenv with-postgres $(GO_TEST) -tags browser -run Test43 -timeout $(TIMEOUT) $(ARGS) ./conservation

bare := .cache/bare
test-bare: prepare ## packages checked in a Debian that has openssl and xmllint and nothing else (as root; apt-get install debootstrap)
	@[ -e $(bare)/made ] || { rm -rf $(bare) && debootstrap --variant=minbase --include=openssl,libxml2-utils $(or $(SUITE),stable) $(bare) && touch $(bare)/made; }
	@cd services && CERALACCA_BARE_ROOT=$(abspath $(bare)) $(BIN)/devenv with-postgres $(GO_TEST) -run 'TestDistributions$$/Test44|Test28' -count=1 -timeout $(TIMEOUT) $(ARGS) ./conservation

test-s3: $(versitygw) ## blob stores against a real S3-compatible server
	@cd services && $(GO) test -tags s3 -count=1 $(ARGS) ./internal/blob/s3test ./conservation/internal/vault ./conservation/eraser

test-vaultdev: ## the tests of the dev Vault (a module of its own)
	@cd deploy/vaultdev && $(ALONE) $(PROGRESS) "testing the dev Vault" $(GO) test -v -trimpath -vet=off .

lint: $(golangci_lint) lint-proto ## gofmt, go vet, golangci-lint, buf lint and breaking
	@unformatted=$$(git ls-files -co --exclude-standard '*.go' | xargs -r "$$($(GO) env GOROOT)/bin/gofmt" -l); \
	if [ -n "$$unformatted" ]; then echo "not formatted, run gofmt -w on:"; echo "$$unformatted"; exit 1; fi
	@$(PROGRESS) "golangci-lint" $(BIN)/golangci-lint run $(MODULES:%=./%/...)
	@$(PROGRESS) "go vet" $(GO) vet $$(deploy/unlinted.sh)
	@cd deploy/protodeps && $(ALONE) $(GO) vet .
	@echo "lint: clean"

lint-proto: $(buf) proto-deps ## contracts only: buf lint, and breaking against BASE
	@cd proto && $(BIN)/buf lint
	@BUF=$(BIN)/buf CACHE=$(CACHE) deploy/breaking.sh $(BASE)

check-gen: ## generated code is what the generators make today
	@deploy/checkgen.sh $(MAKE) gen

check: check-gen lint build-alone test ## all that CI checks

# go list -export compiles every package, as go build does, and links no program: tests and tools do that.
build-alone: build-wasm ## each module builds without the workspace
	@for m in $(MODULES); do (cd $$m && $(ALONE) $(PROGRESS) "compiling $$m alone" $(GO) list -export -f '{{""}}' ./...) || exit 1; done

build-wasm: ## the libraries of invoices build for browsers too
	@cd services && GOOS=js GOARCH=wasm $(PROGRESS) "building the invoice libraries for WebAssembly" $(GO) build ./format/fatturapa/... ./format/signature

vuln: $(govulncheck) ## known vulnerabilities in what services link
	@cd services && $(BIN)/govulncheck ./...

## Measure

bench: bench-pipeline ## the whole pipeline: invoices/s, latency, CPU per service

bench-%: prepare ## bench-AREA: pipeline, or a package of services such as fatturapa
	@deploy/bench.sh $* $(ARGS)

## Make

gen: $(buf) $(sqlc) $(protoc_gen_go) $(protoc_gen_go_grpc) proto-deps ## generated code: buf, sqlc, the texts of config docs; tables of keys and commands
	@cd proto && $(BIN)/buf generate
	@cd services && $(BIN)/sqlc generate
	@cd services && $(GO) generate ./internal/run
	@cd services && $(GO_TEST) -run 'TestReadmesDocumentEveryKey|TestCommandsAreDocumented' ./cmd/ceralaccad ./cmd/ceralacca -update >/dev/null

proto-deps: ## third-party contracts, printed from the pinned modules for buf
	@cd deploy/protodeps && $(ALONE) $(PROGRESS) "printing third-party contracts" $(GO) run . $(ROOT)/proto/.deps

tools: $(buf) $(sqlc) $(protoc_gen_go) $(protoc_gen_go_grpc) $(golangci_lint) ## the pinned tools into .cache/bin

prepare: devenv ## what tests need: peers, database programs, dev Vault, NATS server
	@$(BIN)/devenv prepare

clean: ## removes .cache (programs, databases, keys) and out
	@deploy/clean.sh $(CACHE) $(ROOT)/out

devenv:
	@mkdir -p $(BIN)
	@cd services && $(ALONE) $(PROGRESS) "building devenv" $(GO) build -v -o $(BIN)/devenv ./internal/devenv/cmd/devenv

ceralacca ceralacca-dev:
	@mkdir -p $(BIN)
	@cd services && $(PROGRESS) "building $@" $(GO) build -v -o $(BIN)/$@ ./cmd/$@

help:
	@echo "Ceralacca. First: make demo"
	@awk '/^## / { printf "\n%s\n", substr($$0, 4) } \
	/^[a-z0-9%-]+:.*## / { split($$0, a, ":"); sub(/.*## /, ""); printf "  make %-14s %s\n", a[1], $$0 }' Makefile

.PHONY: demo dev build test test-all test-bare test-browser test-s3 test-vaultdev lint lint-proto check-gen check build-alone build-wasm vuln bench \
	gen proto-deps tools prepare clean devenv ceralacca ceralacca-dev help
