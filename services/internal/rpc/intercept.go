package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
)

// call is one call on its way through the interceptors.
type call struct {
	server *Server
	method string
	start  time.Time
	caller auth.Caller
	known  bool
}

// unary runs, outermost first: log, fault mapping, recovery, deadline, caller,
// access, names, validation, method.
func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	c := &call{server: s, method: info.FullMethod, start: s.cfg.Now()}
	resp, err := c.guard(func() (any, error) {
		ctx, cancel, err := s.deadline(ctx)
		if err != nil {
			return nil, err
		}
		defer cancel()
		if ctx, err = c.admit(ctx); err != nil {
			return nil, err
		}
		if err := c.check(req); err != nil {
			return nil, err
		}
		return handler(ctx, req)
	})
	return resp, c.finish(ctx, err)
}

// errDraining ends the streams of a server that stops: the client connects
// again, to another process, and resumes where it was.
var errDraining = fault.Unavailable("DRAINING", "this server is stopping: connect again and resume")

// stream is unary for streams: each received message is checked as it comes. A
// stream without a deadline has none, but ends when the server drains.
func (s *Server) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	c := &call{server: s, method: info.FullMethod, start: s.cfg.Now()}
	_, err := c.guard(func() (any, error) {
		ctx, err := c.admit(ss.Context())
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		go func() {
			select {
			case <-s.draining:
				cancel(errDraining)
			case <-ctx.Done():
			}
		}()
		err = handler(srv, &checkedStream{ServerStream: ss, ctx: ctx, call: c})
		if errors.Is(err, context.Canceled) && errors.Is(context.Cause(ctx), errDraining) {
			return nil, errDraining
		}
		return nil, err
	})
	return c.finish(ss.Context(), err)
}

type checkedStream struct {
	grpc.ServerStream
	ctx  context.Context
	call *call
}

func (s *checkedStream) Context() context.Context { return s.ctx }

func (s *checkedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return s.call.check(m)
}

// guard turns a panic into an Internal fault with its stack as cause.
func (c *call) guard(fn func() (any, error)) (resp any, err error) {
	defer func() {
		if p := recover(); p != nil {
			resp, err = nil, fault.Internal("PANIC", "a method panicked").With(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	return fn()
}

// deadline gives the method a little less time than its caller has, and a
// limit to calls that came without one.
func (s *Server) deadline(ctx context.Context) (context.Context, context.CancelFunc, error) {
	until, ok := ctx.Deadline()
	if !ok {
		ctx, cancel := context.WithTimeout(ctx, s.cfg.Deadline)
		return ctx, cancel, nil
	}
	if time.Until(until) <= shave {
		return nil, nil, fault.Unavailable("DEADLINE_EXCEEDED",
			"less than %s of the call's deadline is left: nothing was done; allow more time", shave).With(context.DeadlineExceeded)
	}
	ctx, cancel := context.WithDeadline(ctx, until.Add(-shave))
	return ctx, cancel, nil
}

// admit finds out who calls and whether the method is open to them.
func (c *call) admit(ctx context.Context) (context.Context, error) {
	if own(c.method) {
		return ctx, nil
	}
	access, ok := c.server.access[c.method]
	if !ok {
		return nil, status.Errorf(codes.Unimplemented, "unknown method %s", c.method)
	}
	var err error
	c.caller, c.known, err = c.server.identify(ctx)
	if err != nil {
		return nil, err
	}
	if err := allow(access, c.caller, c.known); err != nil {
		return nil, err
	}
	if !c.known {
		return ctx, nil
	}
	ctx = auth.With(ctx, c.caller)
	if c.server.cfg.Enrich != nil {
		ctx = c.server.cfg.Enrich(ctx, c.caller)
	}
	return ctx, nil
}

// identify reads the bearer credential; without one, the verified client
// certificate. A service that passes on a user's credential acts as that user
// and gains nothing from its own certificate.
func (s *Server) identify(ctx context.Context) (auth.Caller, bool, error) {
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	switch {
	case len(values) > 1:
		return auth.Caller{}, false, auth.Unauthenticated("CREDENTIAL_AMBIGUOUS",
			"the call carries %d authorization values: send one", len(values))
	case len(values) == 1:
		caller, err := s.bearer(ctx, values[0])
		return caller, err == nil, err
	}
	if name := serviceName(ctx); name != "" {
		return auth.Caller{Kind: auth.KindService, ID: name, Role: auth.RoleService, Live: true}, true, nil
	}
	return auth.Caller{}, false, nil
}

// bearer resolves the value of an authorization header.
func (s *Server) bearer(ctx context.Context, authorization string) (auth.Caller, error) {
	scheme, bearer, ok := strings.Cut(authorization, " ")
	if !ok || !strings.EqualFold(scheme, "bearer") {
		return auth.Caller{}, auth.Unauthenticated("CREDENTIAL_MALFORMED",
			"metadata authorization must be: Bearer <API key or token>")
	}
	return s.cfg.Resolver.Resolve(ctx, strings.TrimSpace(bearer))
}

// Admit lets a service offer over HTTP what it offers over gRPC, to the same callers: it finds out who
// calls by the Authorization header, asks the access option of the gRPC method (/package.Service/Method)
// that stands behind, and gives the context in which that method may be called. A request that is made
// of such a call names resources of the caller's own tenant only: that check is the service's.
func (s *Server) Admit(ctx context.Context, method, authorization string) (context.Context, auth.Caller, error) {
	s.mu.Lock()
	access, ok := s.access[method]
	s.mu.Unlock()
	if !ok {
		return ctx, auth.Caller{}, fault.Internal("METHOD_UNKNOWN", "no method %s is registered", method)
	}
	var caller auth.Caller
	if authorization != "" {
		var err error
		if caller, err = s.bearer(ctx, authorization); err != nil {
			return ctx, caller, err
		}
	}
	if err := allow(access, caller, authorization != ""); err != nil {
		return ctx, caller, err
	}
	ctx = auth.With(ctx, caller)
	if s.cfg.Enrich != nil {
		ctx = s.cfg.Enrich(ctx, caller)
	}
	return ctx, caller, nil
}

// serviceName is the common name of the client certificate that TLS verified
// against our CA, or "".
func serviceName(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 || len(info.State.VerifiedChains[0]) == 0 {
		return ""
	}
	return info.State.VerifiedChains[0][0].Subject.CommonName
}

// check refuses foreign resource names, then what the message's rules forbid.
func (c *call) check(req any) error {
	msg, ok := req.(proto.Message)
	if !ok || own(c.method) {
		return nil
	}
	if c.known {
		if err := checkNames(msg, c.caller); err != nil {
			return err
		}
	}
	if err := c.server.cfg.Validator.Validate(msg); err != nil {
		return invalidFields(err)
	}
	return nil
}

// finish writes the one access log line and maps the error. It is the only
// place where an internal cause is logged.
func (c *call) finish(ctx context.Context, err error) error {
	traceID := ""
	if span := trace.SpanContextFromContext(ctx); span.HasTraceID() {
		traceID = span.TraceID().String()
	}
	st := Status(err, traceID)
	// The caller went away in the middle: whatever failed by that (a query, a send) is no outage of ours.
	gone := err != nil && errors.Is(ctx.Err(), context.Canceled) && (st.Code() == codes.Canceled || st.Code() == codes.Unavailable)
	if gone {
		st = status.New(codes.Canceled, "the caller went away")
	}
	if own(c.method) && err == nil {
		return nil
	}
	level := slog.LevelInfo
	attrs := []slog.Attr{
		slog.String("method", c.method),
		slog.String("caller", c.caller.Actor()),
		slog.String("code", st.Code().String()),
		slog.Duration("took", c.server.cfg.Now().Sub(c.start)),
	}
	if c.caller.Tenant != "" {
		attrs = append(attrs, slog.String("tenant", c.caller.Tenant))
	}
	if err != nil {
		f := asFault(err)
		attrs = append(attrs, slog.String("fault", f.Code))
		switch {
		case gone, errors.Is(err, errDraining):
			// That is how streams end, and no defect.
		case f.Kind == fault.KindInternal, f.Kind == fault.KindUnavailable:
			level = slog.LevelError
			attrs = append(attrs, slog.String("error", err.Error()))
		}
	}
	c.server.cfg.Log.LogAttrs(ctx, level, "rpc", attrs...)
	return st.Err()
}
