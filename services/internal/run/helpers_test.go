package run_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	channelzv1 "google.golang.org/grpc/channelz/grpc_channelz_v1"

	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/internal/rpc"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/run/runtest"
)

// yamlFor is a complete configuration in a folder of the test, plus extra.
func yamlFor(t *testing.T, extra string, targets ...string) string {
	t.Helper()
	dir := t.TempDir()
	files, err := rpc.DevCertificates(filepath.Join(dir, "tls"), targets...)
	require.NoError(t, err)
	return fmt.Sprintf(`
log: {level: warn, format: text}
nats: {embedded: {dir: %q}}
blob: {fs: {dir: %q}}
admin: {listen: '127.0.0.1:0'}
rpc:
  listen: 127.0.0.1:0
  tls: {cert_file: %q, key_file: %q, ca_file: %q}
  peers: {tenancy: '127.0.0.1:1'}
start: {wait: 300ms, drain: 5s}
`, filepath.Join(dir, "nats"), filepath.Join(dir, "blobs"), files.Cert, files.Key, files.CA) + extra
}

// serveOnce runs a target that is expected to fail and returns why.
func serveOnce(t *testing.T, target run.Target, extra string) error {
	t.Helper()
	file, err := run.ParseFile("test.yaml", []byte(yamlFor(t, extra, target.Name)), []string{target.Name}, nil)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err = run.Serve(ctx, run.ServeOptions{Config: file, Targets: []run.Target{target},
		OpenDB: func(context.Context, string) (*pg.DB, error) { return pgtest.Schema(t, target.Name), nil }})
	require.NoError(t, ctx.Err(), "the process did not end by itself")
	return err
}

// startFar is another process, of one target, that shares the CA in dir.
func startFar(t *testing.T, tlsDir, tenancyAt string) *runtest.Process {
	t.Helper()
	return runtest.Start(t, runtest.Options{
		TLSDir:  tlsDir, // the second process must trust the first one's CA
		Targets: []run.Target{idle("invoice")}, Peers: map[string]string{"tenancy": tenancyAt},
		Config: "auth: {key_ttl: 1m}\n",
	})
}

// registerWithoutAccess registers a service whose methods say nothing about
// who may call them.
func registerWithoutAccess(r grpc.ServiceRegistrar) {
	channelzv1.RegisterChannelzServer(r, channelzv1.UnimplementedChannelzServer{})
}

// listen takes a port for the time of the test.
func listen(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l.Addr().String()
}

// getAny reads a page whatever its status.
func getAny(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(body)
}
