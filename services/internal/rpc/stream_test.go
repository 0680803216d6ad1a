package rpc_test

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/rpc"
)

// events sends a heartbeat and then waits for the end of its stream.
type events struct {
	invoicev1.UnimplementedInvoiceServiceServer
}

func (events) StreamEvents(req *invoicev1.StreamEventsRequest, stream invoicev1.InvoiceService_StreamEventsServer) error {
	c, _ := auth.From(stream.Context())
	err := stream.Send(&invoicev1.StreamEventsResponse{Event: &invoicev1.Event{Type: c.Tenant + req.GetParent()}})
	if err != nil {
		return err
	}
	<-stream.Context().Done()
	return stream.Context().Err()
}

// TestStreams: streams are checked as unary calls are, have no deadline of the
// server's, and end at once when it drains.
func TestStreams(t *testing.T) {
	key := map[string]auth.Caller{
		"good":  {Kind: "key", Role: auth.RoleTenant, Tenant: "t1", Scopes: []string{"invoices.read"}},
		"other": {Kind: "key", Role: auth.RoleTenant, Tenant: "t1", Scopes: []string{"keys.read"}},
	}
	s := rpc.NewServer(rpc.Config{Log: slog.New(slog.DiscardHandler), Deadline: 50 * time.Millisecond,
		Resolver: auth.ResolverFunc(func(_ context.Context, bearer string) (auth.Caller, error) { return key[bearer], nil })})
	invoicev1.RegisterInvoiceServiceServer(s, events{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	open := func(bearer, parent string) (invoicev1.InvoiceService_StreamEventsClient, error) {
		conn, err := rpc.Dial(t.Context(), rpc.DialConfig{Address: l.Addr().String(),
			Bearer: func(context.Context) (string, error) { return bearer, nil }})
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		stream, err := invoicev1.NewInvoiceServiceClient(conn).StreamEvents(t.Context(), &invoicev1.StreamEventsRequest{Parent: parent})
		require.NoError(t, err)
		_, err = stream.Recv()
		return stream, err
	}
	for name, c := range map[string]struct{ bearer, parent, code string }{
		"no scope":       {"other", "tenants/t1", "SCOPE_MISSING"},
		"foreign tenant": {"good", "tenants/t2", "FOREIGN_RESOURCE"},
		"bad request":    {"good", "t1", "REQUEST_INVALID"},
	} {
		_, err := open(c.bearer, c.parent)
		require.Equal(t, c.code, fault.Of(err).Code, name)
	}
	stream, err := open("good", "tenants/t1")
	require.NoError(t, err)
	time.Sleep(100 * time.Millisecond) // longer than the deadline of unary calls

	begin := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	s.Stop(ctx)
	require.Less(t, time.Since(begin), 10*time.Second, "a drain does not wait for subscribers")
	_, err = stream.Recv()
	require.Equal(t, "DRAINING", fault.Of(err).Code)
	require.Equal(t, fault.KindUnavailable, fault.Of(err).Kind)
	require.NoError(t, <-served)
}

// away fails as a method does whose database call was cut off when its caller left.
type away struct {
	invoicev1.UnimplementedInvoiceServiceServer
	err error
}

func (a away) StreamEvents(_ *invoicev1.StreamEventsRequest, stream invoicev1.InvoiceService_StreamEventsServer) error {
	err := stream.Send(&invoicev1.StreamEventsResponse{})
	if err != nil {
		return err
	}
	<-stream.Context().Done()
	if a.err != nil {
		return a.err
	}
	return stream.Context().Err()
}

// TestCallerGoesAway: a stream whose client leaves is no error in the log, whatever failed by it; a defect is one all the same.
func TestCallerGoesAway(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"cancelled": {nil, "level=INFO msg=rpc method=/ceralacca.invoice.v1.InvoiceService/StreamEvents caller=key:k code=Canceled"},
		"query cut": {fault.Unavailable("DATABASE_AWAY", "the database is away"), "level=INFO msg=rpc method=/ceralacca.invoice.v1.InvoiceService/StreamEvents caller=key:k code=Canceled"},
		"defect":    {fault.Internal("BROKEN", "broken"), "level=ERROR msg=rpc method=/ceralacca.invoice.v1.InvoiceService/StreamEvents caller=key:k code=Internal"},
	} {
		t.Run(name, func(t *testing.T) {
			log := &lines{}
			s := rpc.NewServer(rpc.Config{Log: slog.New(slog.NewTextHandler(log, nil)),
				Resolver: auth.ResolverFunc(func(context.Context, string) (auth.Caller, error) {
					return auth.Caller{Kind: "key", ID: "k", Role: auth.RoleTenant, Tenant: "t1", Scopes: []string{"*"}}, nil
				})})
			invoicev1.RegisterInvoiceServiceServer(s, away{err: c.err})
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			served := make(chan error, 1)
			go func() { served <- s.Serve(l) }()
			conn, err := rpc.Dial(t.Context(), rpc.DialConfig{Address: l.Addr().String(),
				Bearer: func(context.Context) (string, error) { return "x", nil }})
			require.NoError(t, err)
			ctx, leave := context.WithCancel(t.Context())
			stream, err := invoicev1.NewInvoiceServiceClient(conn).StreamEvents(ctx, &invoicev1.StreamEventsRequest{Parent: "tenants/t1"})
			require.NoError(t, err)
			_, err = stream.Recv()
			require.NoError(t, err)
			leave()
			require.Eventually(t, func() bool { return strings.Contains(log.String(), c.want) }, 10*time.Second, 5*time.Millisecond, "log: %s", log)
			require.NoError(t, conn.Close())
			s.Stop(t.Context())
			require.NoError(t, <-served)
		})
	}
}
