package run

import (
	"context"
	"net"
	"strings"

	"google.golang.org/grpc"

	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/rpc"
)

// Dial connects to another target with this target's certificate. The network
// is touched by the first call, so targets may start in any order. A target
// that this process hosts is reached over loopback, through the same TLS and
// the same checks. A target without address in rpc.peers stops the start.
func (h *Host) Dial(target string) grpc.ClientConnInterface {
	h.mu.Lock()
	defer h.mu.Unlock()
	if conn, ok := h.conns[target]; ok {
		return conn
	}
	conn, err := h.process.dial(h.Name, target)
	if err != nil {
		h.missing = append(h.missing, err)
		return brokenConn{err}
	}
	h.conns[target] = conn
	return conn
}

// Reaches says whether there is an address of a target: for one that a service can do without, and whose absence it tells.
func (h *Host) Reaches(target string) bool {
	_, err := h.process.addressOf(target)
	return err == nil
}

func (p *process) dial(self, target string) (*grpc.ClientConn, error) {
	address, err := p.addressOf(target)
	if err != nil {
		return nil, err
	}
	tls, err := rpc.ClientTLS(p.files, self, target)
	if err != nil {
		return nil, err
	}
	return rpc.Dial(context.Background(), rpc.DialConfig{
		Address: address, TLS: tls, Timeout: p.cfg.RPC.Timeout, Agent: "ceralaccad/" + self,
	})
}

// addressOf finds a target: its peer entry, or this process's own listener.
func (p *process) addressOf(target string) (string, error) {
	if address := p.cfg.RPC.Peers[target]; address != "" {
		return address, nil
	}
	for _, t := range p.opts.Targets {
		if t.Name == target {
			return loopback(p.rpcListener.Addr().String()), nil
		}
	}
	return "", p.file.locate("", BadField("rpc.peers",
		"has no address of target %q, which this process calls and does not host: add `%s: host:port` (known: %s)",
		target, target, strings.Join(known(p.cfg.RPC.Peers), ", ")))
}

// loopback is how a process reaches its own listener.
func loopback(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// brokenConn fails every call; the process does not get to serve with it.
type brokenConn struct{ err error }

func (c brokenConn) Invoke(context.Context, string, any, any, ...grpc.CallOption) error {
	return fault.Unavailable("PEER_UNKNOWN", "the address of a needed service is not configured").With(c.err)
}

func (c brokenConn) NewStream(ctx context.Context, _ *grpc.StreamDesc, method string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, c.Invoke(ctx, method, nil, nil)
}
