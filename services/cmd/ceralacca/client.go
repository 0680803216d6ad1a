package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"

	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/rpc"
)

const (
	formatText     = "text"
	formatJSON     = "json"
	defaultTimeout = 30 * time.Second
)

// cli is one run of the tool: its flags and its connections.
type cli struct {
	in          io.Reader
	out, errOut io.Writer

	server, caFile, keyFile, tenant, format string
	timeout                                 time.Duration

	conn *router
}

func (c *cli) check() error {
	if c.format != formatText && c.format != formatJSON {
		return usage("--format is text or json, not %q", c.format)
	}
	return nil
}

// router sends each call to the process that hosts its service: one address for all, or one for each.
type router struct {
	all       *grpc.ClientConn
	byService map[string]*grpc.ClientConn
}

// owners says which target answers a gRPC service.
var owners = map[string]string{
	"ceralacca.tenancy.v1": "tenancy", "ceralacca.invoice.v1": "invoice", "ceralacca.sign.v1": "signer", "ceralacca.sdi.v1": "sdi-gateway",
	"ceralacca.conservation.v1": "conservation", "ceralacca.notification.v1": "notification",
}

func (r *router) pick(method string) (*grpc.ClientConn, error) {
	if r.all != nil {
		return r.all, nil
	}
	pkg := strings.TrimPrefix(method, "/")
	pkg = pkg[:strings.LastIndex(pkg[:strings.Index(pkg, "/")], ".")]
	conn := r.byService[owners[pkg]]
	if conn == nil {
		return nil, usage("--server names no address for %s", owners[pkg])
	}
	return conn, nil
}

// Invoke implements grpc.ClientConnInterface.
func (r *router) Invoke(ctx context.Context, method string, in, out any, opts ...grpc.CallOption) error {
	conn, err := r.pick(method)
	if err != nil {
		return err
	}
	return conn.Invoke(ctx, method, in, out, opts...)
}

// NewStream implements grpc.ClientConnInterface.
func (r *router) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	conn, err := r.pick(method)
	if err != nil {
		return nil, err
	}
	return conn.NewStream(ctx, desc, method, opts...)
}

// Close closes all connections.
func (r *router) Close() error {
	if r.all != nil {
		return r.all.Close()
	}
	for _, conn := range r.byService {
		_ = conn.Close()
	}
	return nil
}

// dial connects by the flags. The network is touched by the first call only.
func (c *cli) dial() (*router, error) {
	if c.conn != nil {
		return c.conn, nil
	}
	if c.server == "" {
		return nil, usage("no server: give --server host:port or set CERALACCA_SERVER")
	}
	key, err := c.key()
	if err != nil {
		return nil, err
	}
	config, err := c.tls()
	if err != nil {
		return nil, err
	}
	connect := func(address string) (*grpc.ClientConn, error) {
		conn, err := rpc.Dial(context.Background(), rpc.DialConfig{
			Address: address, TLS: config, Timeout: c.timeout, Agent: "ceralacca",
			Bearer: func(context.Context) (string, error) { return key, nil },
		})
		if err != nil {
			return nil, usage("--server: %v", err)
		}
		return conn, nil
	}
	r := &router{}
	if !strings.Contains(c.server, "=") {
		r.all, err = connect(c.server)
		c.conn = r
		return r, err
	}
	r.byService = map[string]*grpc.ClientConn{}
	for _, part := range strings.Split(c.server, ",") {
		name, address, ok := strings.Cut(part, "=")
		if !ok {
			return nil, usage("--server: %q is not service=host:port", part)
		}
		r.byService[name], err = connect(address)
		if err != nil {
			return nil, err
		}
	}
	c.conn = r
	return r, nil
}

func (c *cli) key() (string, error) {
	key := os.Getenv("CERALACCA_API_KEY")
	if c.keyFile != "" {
		raw, err := os.ReadFile(c.keyFile)
		if err != nil {
			return "", usage("--key-file: %v", err)
		}
		key = strings.TrimSpace(string(raw))
	}
	if key == "" {
		return "", usage("no API key: set CERALACCA_API_KEY, or give --key-file")
	}
	if auth.IsKey(key) {
		_, err := auth.CheckKey(key)
		if err != nil {
			return "", fmt.Errorf("the API key was mistyped: %w", err)
		}
	}
	return key, nil
}

func (c *cli) tls() (*tls.Config, error) {
	if c.caFile == "" {
		return &tls.Config{MinVersion: tls.VersionTLS12}, nil
	}
	config, err := rpc.ClientTLS(rpc.Files{CA: c.caFile}, "", "")
	if err != nil {
		return nil, usage("--ca-file: %v", err)
	}
	return config, nil
}

// tenantName is tenants/{tenant} of --tenant.
func (c *cli) tenantName() (string, error) {
	if c.tenant == "" {
		return "", usage("no tenant: give --tenant or set CERALACCA_TENANT")
	}
	if strings.HasPrefix(c.tenant, "tenants/") {
		return c.tenant, nil
	}
	return "tenants/" + c.tenant, nil
}

// within completes a short name: rossi becomes tenants/acme/companies/rossi.
func (c *cli) within(collection, name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	tenant, err := c.tenantName()
	if err != nil {
		return "", err
	}
	return tenant + "/" + collection + "/" + name, nil
}

// invoiceName completes the id of an invoice; the company may be left out.
func (c *cli) invoiceName(name string) (string, error) { return c.within("companies/-/invoices", name) }
