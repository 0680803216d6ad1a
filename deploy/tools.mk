# The programs that development uses, each pinned and built from its Go module into
# .cache/bin, only when a target needs it. A stamp named after the version says that
# it is there, so raising a version here rebuilds it.

BUF_VERSION                := v1.75.0
SQLC_VERSION               := v1.31.1
PROTOC_GEN_GO_VERSION      := v1.36.12
PROTOC_GEN_GO_GRPC_VERSION := v1.6.2
GOLANGCI_LINT_VERSION      := v2.15.0
GOVULNCHECK_VERSION        := v1.8.0
VERSITYGW_VERSION          := v1.8.0

# Without C and with the paths left out as everywhere: the standard library is compiled once for tools and programs, and sqlc reads SQL with
# Postgres's own parser as WebAssembly, where it would compile it from C first.
# tool NAME,PACKAGE,VERSION defines the stamp $(NAME) and how to make it.
define tool
$(subst -,_,$(1)) := $(BIN)/.$(1)@$(3)
$(BIN)/.$(1)@$(3):
	@mkdir -p $(BIN)
	@$(PROGRESS) "building $(1) $(3)" env GOWORK=off CGO_ENABLED=0 GOFLAGS=-trimpath $(GO) run -v -exec '$(ROOT)/deploy/keep.sh $(BIN)/$(1)' $(2)@$(3)
	@rm -f $(BIN)/.$(1)@* && touch $$@
endef

$(eval $(call tool,buf,github.com/bufbuild/buf/cmd/buf,$(BUF_VERSION)))
$(eval $(call tool,sqlc,github.com/sqlc-dev/sqlc/cmd/sqlc,$(SQLC_VERSION)))
$(eval $(call tool,protoc-gen-go,google.golang.org/protobuf/cmd/protoc-gen-go,$(PROTOC_GEN_GO_VERSION)))
$(eval $(call tool,protoc-gen-go-grpc,google.golang.org/grpc/cmd/protoc-gen-go-grpc,$(PROTOC_GEN_GO_GRPC_VERSION)))
$(eval $(call tool,golangci-lint,github.com/golangci/golangci-lint/v2/cmd/golangci-lint,$(GOLANGCI_LINT_VERSION)))
$(eval $(call tool,govulncheck,golang.org/x/vuln/cmd/govulncheck,$(GOVULNCHECK_VERSION)))
$(eval $(call tool,versitygw,github.com/versity/versitygw/cmd/versitygw,$(VERSITYGW_VERSION)))
