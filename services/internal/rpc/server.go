// Package rpc is the gRPC edge: a server that knows who calls and refuses what
// they may not do before any service sees it, a dial that turns the other
// side's refusals back into faults, TLS from files, and idempotency by request
// id.
//
// It refuses to hold domain rules: who may call a method stands in the method's
// .proto option, what a request must look like in its protovalidate rules.
package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"buf.build/go/protovalidate"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/internal/auth"
)

// maxMessage is the largest message either way, in bytes: SdI takes files up to
// 5 MB, and a somewhat larger one should reach the service whose error names
// the limit of SdI rather than ours.
const maxMessage = 16 << 20

// Config is what a server needs. Only Resolver and Log are required.
type Config struct {
	TLS       *tls.Config   // nil: plain text, for tests of this package; see ServerTLS
	Resolver  auth.Resolver // bearer credential -> caller
	Validator protovalidate.Validator
	Log       *slog.Logger
	Deadline  time.Duration // for unary calls that come without one; default 30 s
	Now       func() time.Time
	// Enrich adds to the context of an accepted call, for example the actor
	// of audit records.
	Enrich func(ctx context.Context, c auth.Caller) context.Context
}

// Server is a gRPC server with the platform's interceptors, reflection and
// health. Services register before Serve.
type Server struct {
	cfg    Config
	grpc   *grpc.Server
	health *health.Server

	draining chan struct{} // closed when Stop begins
	once     sync.Once

	mu     sync.Mutex
	access map[string]*tenancyv1.Access
	faults []error
}

var _ grpc.ServiceRegistrar = (*Server)(nil)

// NewServer makes a server. A wrong configuration is an error of Serve.
func NewServer(cfg Config) *Server {
	s := &Server{cfg: cfg, health: health.NewServer(), access: map[string]*tenancyv1.Access{}}
	s.draining = make(chan struct{})
	if s.cfg.Deadline <= 0 {
		s.cfg.Deadline = 30 * time.Second
	}
	if s.cfg.Now == nil {
		s.cfg.Now = time.Now
	}
	if s.cfg.Log == nil {
		s.cfg.Log = slog.Default()
	}
	if s.cfg.Resolver == nil {
		s.faults = append(s.faults, errors.New("rpc: a server needs a resolver of bearer credentials"))
	}
	if s.cfg.Validator == nil {
		validator, err := protovalidate.New()
		if err != nil {
			s.faults = append(s.faults, fmt.Errorf("rpc: protovalidate: %w", err))
		}
		s.cfg.Validator = validator
	}
	opts := []grpc.ServerOption{
		grpc.StatsHandler(otelgrpc.NewServerHandler()),
		grpc.UnaryInterceptor(s.unary),
		grpc.StreamInterceptor(s.stream),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxSendMsgSize(maxMessage),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: 20 * time.Second}),
	}
	if cfg.TLS != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(cfg.TLS)))
	}
	s.grpc = grpc.NewServer(opts...)
	grpc_health_v1.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)
	return s
}

// RegisterService adds a service. A method without the access option makes
// Serve fail.
func (s *Server) RegisterService(desc *grpc.ServiceDesc, impl any) {
	rules, err := accessRules(desc)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.faults = append(s.faults, err)
	}
	for method, access := range rules {
		s.access[method] = access
	}
	s.grpc.RegisterService(desc, impl)
}

// Err reports what would make Serve fail: methods without the access option
// and a configuration that cannot work.
func (s *Server) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.faults...)
}

// Serve answers calls on the listener until Stop; it closes the listener.
func (s *Server) Serve(lis net.Listener) error {
	if err := s.Err(); err != nil {
		return errors.Join(err, lis.Close())
	}
	err := s.grpc.Serve(lis)
	if errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return err
}

// SetServing publishes the health of a service or target under its name; ""
// stands for the whole process.
func (s *Server) SetServing(name string, serving bool) {
	status := grpc_health_v1.HealthCheckResponse_NOT_SERVING
	if serving {
		status = grpc_health_v1.HealthCheckResponse_SERVING
	}
	s.health.SetServingStatus(name, status)
}

// Services lists the registered gRPC services, without gRPC's own.
func (s *Server) Services() []string {
	var names []string
	for name := range s.grpc.GetServiceInfo() {
		if !slices.Contains(open, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Stop refuses new calls, ends the contexts of running streams, lets running
// calls finish until ctx ends, then cuts them off.
func (s *Server) Stop(ctx context.Context) {
	s.health.Shutdown()
	s.once.Do(func() { close(s.draining) })
	done := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.grpc.Stop()
		<-done
	}
}

// own reports whether a method belongs to gRPC itself (health, reflection).
func own(method string) bool {
	service, _, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	return slices.Contains(open, service)
}
