package rpc

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
)

// DialConfig names the other side of a connection.
type DialConfig struct {
	Address string      // gRPC target: host:port or dns:///name:port
	TLS     *tls.Config // see ClientTLS; nil: plain text, for tests of this package
	// Bearer, when set, gives the credential that is sent with each call. It
	// is asked every time, so that a rotated key is taken up.
	Bearer func(ctx context.Context) (string, error)
	// Timeout limits unary calls whose context has no deadline; default 10 s.
	Timeout time.Duration
	Agent   string // user agent, for example ceralacca/1.2
}

// Dial prepares a connection; the network is touched by the first call, and
// again by itself after each loss. Errors of calls are faults (FromStatus), and
// each call is a span of the caller's trace. Calls are not repeated here:
// whether that is safe is known to the caller only.
func Dial(_ context.Context, cfg DialConfig) (*grpc.ClientConn, error) {
	if cfg.Timeout <= 0 {
		cfg.Timeout = 10 * time.Second
	}
	creds := insecure.NewCredentials()
	if cfg.TLS != nil {
		creds = credentials.NewTLS(cfg.TLS)
	}
	retry := backoff.DefaultConfig
	retry.BaseDelay, retry.MaxDelay = 100*time.Millisecond, 3*time.Second
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithStatsHandler(otelgrpc.NewClientHandler()),
		grpc.WithUnaryInterceptor(cfg.unary),
		grpc.WithStreamInterceptor(cfg.stream),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: retry, MinConnectTimeout: 5 * time.Second}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
	}
	if cfg.Agent != "" {
		opts = append(opts, grpc.WithUserAgent(cfg.Agent))
	}
	conn, err := grpc.NewClient(cfg.Address, opts...)
	if err != nil {
		return nil, fmt.Errorf("rpc: address %q: %w", cfg.Address, err)
	}
	return conn, nil
}

func (cfg DialConfig) unary(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, cfg.Timeout)
		defer cancel()
	}
	ctx, err := cfg.authorize(ctx)
	if err != nil {
		return err
	}
	return FromStatus(invoke(ctx, method, req, reply, conn, opts...))
}

func (cfg DialConfig) stream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	ctx, err := cfg.authorize(ctx)
	if err != nil {
		return nil, err
	}
	stream, err := open(ctx, desc, conn, method, opts...)
	if err != nil {
		return nil, FromStatus(err)
	}
	return faultStream{stream}, nil
}

func (cfg DialConfig) authorize(ctx context.Context) (context.Context, error) {
	if cfg.Bearer == nil {
		return ctx, nil
	}
	bearer, err := cfg.Bearer(ctx)
	if err != nil || bearer == "" {
		return ctx, err
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+bearer), nil
}

// WithBearer makes the calls of this context carry a credential, for a service
// that acts for its user (the console).
func WithBearer(ctx context.Context, bearer string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+bearer)
}

// faultStream maps the errors of a stream; io.EOF stays what it is.
type faultStream struct{ grpc.ClientStream }

func (s faultStream) RecvMsg(m any) error { return FromStatus(s.ClientStream.RecvMsg(m)) }
func (s faultStream) SendMsg(m any) error { return FromStatus(s.ClientStream.SendMsg(m)) }
func (s faultStream) CloseSend() error    { return FromStatus(s.ClientStream.CloseSend()) }
