package main

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
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
	now         func() time.Time

	server, caFile, keyFile, tenant, format string
	anonymous                               bool // no key is sent
	timeout                                 time.Duration
	limit                                   int // of the command that lists

	conn    *router
	further bool // the list that is being shown goes on
}

func (c *cli) check() error {
	if c.format != formatText && c.format != formatJSON {
		return usage("--format is text or json, not %q", c.format)
	}
	if c.timeout <= 0 {
		return usage("--timeout is a time such as 10s, not %s", c.timeout)
	}
	return nil
}

// router sends each call to the process that hosts its service: one address for all, or one for each.
type router struct {
	all       *grpc.ClientConn
	byService map[string]*grpc.ClientConn
}

// services are all targets; owners says which target answers a gRPC service.
var (
	services = []string{"tenancy", "invoice", "signer", "sdi-gateway", "pec-gateway", "conservation", "notification"}
	owners   = map[string]string{
		"ceralacca.tenancy.v1": "tenancy", "ceralacca.invoice.v1": "invoice", "ceralacca.sign.v1": "signer", "ceralacca.sdi.v1": "sdi-gateway",
		"ceralacca.pec.v1":          "pec-gateway",
		"ceralacca.conservation.v1": "conservation", "ceralacca.notification.v1": "notification",
	}
)

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
	if c.anonymous { // another token stands for the caller
		key, err = "", nil
	}
	if err != nil {
		return nil, err
	}
	config, err := c.tls()
	if err != nil {
		return nil, err
	}
	connect := func(address string) (*grpc.ClientConn, error) {
		err := checkAddress(address)
		if err != nil {
			return nil, err
		}
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
		if !ok || !slices.Contains(services, name) {
			return nil, usage("--server: %q is not service=host:port; the services are %s", part, strings.Join(services, ", "))
		}
		r.byService[name], err = connect(address)
		if err != nil {
			return nil, err
		}
	}
	c.conn = r
	return r, nil
}

func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	number, numberErr := strconv.ParseUint(port, 10, 16)
	if err != nil || numberErr != nil || number == 0 || host == "" || strings.ContainsAny(host, "/@ ") {
		return usage("--server: %q is no address: give host:port without a scheme, such as api.example.com:443", address)
	}
	return nil
}

// key reads the API key; what cannot be one never reaches the network.
func (c *cli) key() (string, error) {
	key := os.Getenv("CERALACCA_API_KEY")
	if c.keyFile != "" {
		raw, err := c.readFlag("--key-file", c.keyFile, largestText)
		if err != nil {
			return "", err
		}
		key = strings.TrimSpace(string(raw))
	}
	if key == "" {
		return "", usage("no API key: set CERALACCA_API_KEY, or give --key-file")
	}
	if strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", usage("what --key-file or CERALACCA_API_KEY holds is no key: a key is one line, cl_test_... or cl_live_...")
	}
	if auth.IsKey(key) {
		_, err := auth.CheckKey(key)
		if err != nil {
			return "", err
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
		return nil, usage("--ca-file: %s", strings.TrimPrefix(inWords(err), "rpc: "))
	}
	return config, nil
}

// tenantName is tenants/{tenant} of --tenant.
func (c *cli) tenantName() (string, error) {
	if c.tenant == "" {
		return "", usage("no tenant: give --tenant or set CERALACCA_TENANT")
	}
	id := strings.TrimPrefix(c.tenant, "tenants/")
	if id == "" || strings.Contains(id, "/") {
		return "", usage("--tenant: %q is no tenant: give acme or tenants/acme", c.tenant)
	}
	return "tenants/" + id, nil
}

// within completes a short name: rossi becomes tenants/acme/companies/rossi.
func (c *cli) within(collection, name string) (string, error) {
	if name == "" {
		return "", usage("an empty name is given for %s", collection)
	}
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

// need refuses empty values of flags: name, value, name, value.
func need(pairs ...string) error {
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			return usage("--%s is missing", pairs[i])
		}
	}
	return nil
}

// enumOf reads a word of a flag as a value of an enum, without its prefix and in any case; empty is 0.
func enumOf(flag, prefix, word string, values map[string]int32) (int32, error) {
	if word == "" {
		return 0, nil
	}
	value := values[prefix+strings.ToUpper(strings.ReplaceAll(word, "-", "_"))]
	if value != 0 {
		return value, nil
	}
	var words []string
	for name, n := range values {
		if n != 0 {
			words = append(words, strings.ToLower(strings.TrimPrefix(name, prefix)))
		}
	}
	slices.Sort(words)
	return 0, usage("--%s %q is none of %s", flag, word, strings.Join(words, ", "))
}
