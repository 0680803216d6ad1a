package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	kubernetes "github.com/hashicorp/vault-plugin-auth-kubernetes"
	kv "github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/audit"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/logical/totp"
	"github.com/hashicorp/vault/builtin/logical/transit"
	"github.com/hashicorp/vault/command/server"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical"
	"github.com/hashicorp/vault/sdk/physical/file"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

const (
	leaseTTL       = 768 * time.Hour // Vault's own default
	maxRequestSize = 32 << 20        // bytes, Vault's own default
	maxRequestTime = 90 * time.Second
	closeGrace     = 3 * time.Second
)

type options struct {
	addr, dir, rootToken, audit, logLevel string
}

// instance is a running server.
type instance struct {
	addr   string // http://host:port
	token  string // root token
	failed chan error

	core *vault.Core
	http *http.Server
	lock *os.File // keeps a second server off the folder; nil in memory
}

// start brings the core up, unsealed, with its listener answering.
func start(ctx context.Context, o options) (_ *instance, err error) {
	log := hclog.New(&hclog.LoggerOptions{Name: "vault", Level: hclog.LevelFromString(o.logLevel), Output: os.Stderr})
	s := &instance{failed: make(chan error, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	store := &keyFile{dir: o.dir}
	if o.dir != "" {
		s.lock, err = store.take(ctx)
		if err != nil {
			return nil, err
		}
	}
	backend, kind, err := storage(o.dir, log)
	if err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	listener, err := net.Listen("tcp", o.addr)
	if err != nil {
		return nil, err
	}
	s.addr = "http://" + listener.Addr().String()
	s.core, err = vault.NewCore(config(backend, kind, s.addr, o.logLevel, log))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("vault core: %w", err), listener.Close())
	}
	s.serve(listener)
	s.token, err = unseal(s.core, store, o.rootToken)
	if err != nil {
		return nil, err
	}
	if o.audit != "" {
		path, err := filepath.Abs(o.audit)
		if err != nil {
			return nil, err
		}
		return s, enableAudit(s.core, s.token, path)
	}
	return s, nil
}

func storage(dir string, log hclog.Logger) (physical.Backend, string, error) {
	if dir == "" {
		backend, err := inmem.NewInmem(nil, log)
		return backend, "inmem", err
	}
	backend, err := file.NewFileBackend(map[string]string{"path": filepath.Join(dir, "storage")}, log)
	return backend, "file", err
}

func config(backend physical.Backend, kind, addr, level string, log hclog.Logger) *vault.CoreConfig {
	return &vault.CoreConfig{
		Physical:           backend,
		StorageType:        kind,
		Logger:             log,
		LogLevel:           level,
		DisableMlock:       true, // needs a right that a developer's process has not
		RedirectAddr:       addr,
		DefaultLeaseTTL:    leaseTTL,
		MaxLeaseTTL:        leaseTTL,
		BuiltinRegistry:    registry{},
		LogicalBackends:    engines[consts.PluginTypeSecrets],
		CredentialBackends: engines[consts.PluginTypeCredential],
		AuditBackends:      map[string]audit.Factory{"file": audit.NewFileBackend},
		RawConfig:          &server.Config{SharedConfig: &configutil.SharedConfig{}},
	}
}

func (s *instance) serve(listener net.Listener) {
	properties := &vault.HandlerProperties{Core: s.core, ListenerConfig: &configutil.Listener{
		Type: "tcp", Address: listener.Addr().String(),
		MaxRequestSize: maxRequestSize, MaxRequestDuration: maxRequestTime,
	}}
	s.http = &http.Server{Handler: vaulthttp.Handler.Handler(properties), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		err := s.http.Serve(listener)
		if !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("listener: %w", err)
		}
	}()
}

// close lets running requests end, seals the core and gives the folder back.
func (s *instance) close() error {
	var errs []error
	if s.http != nil {
		ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
		defer cancel()
		err := s.http.Shutdown(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			err = s.http.Close()
		}
		errs = append(errs, err)
	}
	if s.core != nil {
		errs = append(errs, s.core.Shutdown())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// engines are the only ones this server has: what the signer needs and no more.
var engines = map[consts.PluginType]map[string]logical.Factory{
	consts.PluginTypeSecrets:    {"transit": transit.Factory, "totp": totp.Factory, "kv": kv.Factory},
	consts.PluginTypeCredential: {"approle": approle.Factory, "kubernetes": kubernetes.Factory},
}

// registry tells the core about the built-in engines.
type registry struct{}

func (registry) Contains(name string, kind consts.PluginType) bool {
	_, ok := engines[kind][name]
	return ok
}

func (registry) Get(name string, kind consts.PluginType) (func() (any, error), bool) {
	factory, ok := engines[kind][name]
	return func() (any, error) { return factory, nil }, ok
}

func (registry) Keys(kind consts.PluginType) []string {
	var names []string
	for name := range engines[kind] {
		names = append(names, name)
	}
	return names
}

func (registry) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	_, ok := engines[kind][name]
	return consts.Supported, ok
}

func (registry) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }
