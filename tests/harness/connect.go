package harness

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
)

// connections are shared by all clients of a platform.
type connections struct {
	mu     sync.Mutex
	byName map[string]*grpc.ClientConn
}

func (c *connections) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.byName {
		_ = conn.Close()
	}
	c.byName = nil
}

// Conn connects to the process that hosts a target.
func (p *Platform) Conn(target string) (*grpc.ClientConn, error) {
	name := p.ProcessOf(target)
	p.conns.mu.Lock()
	defer p.conns.mu.Unlock()
	if p.conns.byName[name] != nil {
		return p.conns.byName[name], nil
	}
	pem, err := os.ReadFile(p.CAFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	retry := backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.5, MaxDelay: time.Second}
	conn, err := grpc.NewClient(p.RPC[name],
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS12})),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: retry, MinConnectTimeout: 2 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(32<<20)))
	if err != nil {
		return nil, err
	}
	if p.conns.byName == nil {
		p.conns.byName = map[string]*grpc.ClientConn{}
	}
	p.conns.byName[name] = conn
	return conn, nil
}

// As puts an API key on the calls made with ctx.
func As(ctx context.Context, key string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
}

// AwaitReady waits until every process answers that it is ready.
func (p *Platform) AwaitReady(ctx context.Context) error {
	for _, name := range p.names() {
		for {
			select {
			case <-p.end(name): // whoever answers on its port now is somebody else
				return fmt.Errorf("process %s ended; its log: %s", name, p.logFile(name))
			default:
			}
			if p.ready(name) {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("process %s is not ready: %w; its log: %s", name, ctx.Err(), p.logFile(name))
			case <-p.end(name):
				return fmt.Errorf("process %s ended; its log: %s", name, p.logFile(name))
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	return nil
}

// Ready says whether the process that hosts a target answers that it is ready.
func (p *Platform) Ready(target string) bool { return p.ready(p.ProcessOf(target)) }

func (p *Platform) ready(name string) bool {
	resp, err := http.Get("http://" + p.Admin[name] + "/readyz")
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func (p *Platform) end(name string) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.processes[name] == nil {
		gone := make(chan struct{})
		close(gone)
		return gone
	}
	return p.processes[name].done
}
