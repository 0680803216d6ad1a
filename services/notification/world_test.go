package notification

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	notificationv1 "ceralacca.dev/proto/gen/ceralacca/notification/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/run/runtest"
)

// receiver is a customer's endpoint.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	posts  []post
	answer func(n int, w http.ResponseWriter) // n counts from 1; nil answers 204
}

type post struct {
	header http.Header
	body   []byte
}

func receive(t *testing.T, answer func(n int, w http.ResponseWriter)) *receiver {
	r := &receiver{answer: answer}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		r.posts = append(r.posts, post{header: req.Header.Clone(), body: body})
		n := len(r.posts)
		r.mu.Unlock()
		if r.answer == nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		r.answer(n, w)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) got() []post {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.posts)
}

// sink is a mail server that keeps what it gets.
type sink struct {
	mu      sync.Mutex
	mails   []letter
	refuse  error // at RCPT
	address string
}

type letter struct {
	from, to string
	raw      []byte
}

func (s *sink) NewSession(*smtp.Conn) (smtp.Session, error) { return &session{sink: s}, nil }

type session struct {
	sink *sink
	letter
}

func (s *session) Reset()        { s.letter = letter{} }
func (s *session) Logout() error { return nil }

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	s.from = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.sink.mu.Lock()
	defer s.sink.mu.Unlock()
	s.to = to
	return s.sink.refuse
}

func (s *session) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	s.sink.mu.Lock()
	defer s.sink.mu.Unlock()
	s.raw = raw
	s.sink.mails = append(s.sink.mails, s.letter)
	return err
}

func (s *sink) got() []letter {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mails)
}

func (s *sink) refuses(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = err
}

func listenSMTP(t *testing.T) *sink {
	t.Helper()
	s := &sink{}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.address = lis.Addr().String()
	server := smtp.NewServer(s)
	server.Domain = "localhost"
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(lis) // ends when the server is closed
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return s
}

// world is a running notification service.
type world struct {
	*runtest.Process
	t    *testing.T
	api  notificationv1.NotificationServiceClient // of tenant acme
	bus  *bus.Bus
	mail *sink
}

const invoiceName = "tenants/acme/companies/main/invoices/0198c0de-0000-7000-8000-000000000001"

func start(t *testing.T, more string) *world {
	t.Helper()
	w := &world{t: t, mail: listenSMTP(t)}
	key := keyFile(t, base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32)))
	if !strings.Contains(more, "retry_schedule") {
		more += ", retry_schedule: [50ms, 100ms, 100ms]"
	}
	if !strings.Contains(more, "timeout") { // no endpoint that answers is told twice, however full the machine is
		more += ", timeout: 10s"
	}
	target := run.Target{Name: "notification", Start: func(ctx context.Context, h *run.Host) error {
		w.bus = h.Bus
		return Target.Start(ctx, h)
	}}
	w.Process = runtest.Start(t, runtest.Options{Targets: []run.Target{target}, Config: fmt.Sprintf(
		"notification: {secret_key_file: %s, allow_networks: [127.0.0.0/8], smtp: {address: %q, from: 'Ceralacca <no-reply@ceralacca.example>', tls: none}%s}\n",
		key, w.mail.address, more)})
	w.api = notificationv1.NewNotificationServiceClient(w.Tenant("notification", "acme"))
	return w
}

func (w *world) endpoint(url string, types ...string) *notificationv1.WebhookEndpoint {
	w.t.Helper()
	e, err := w.api.CreateWebhookEndpoint(w.t.Context(), &notificationv1.CreateWebhookEndpointRequest{Parent: "tenants/acme",
		WebhookEndpoint: &notificationv1.WebhookEndpoint{Url: url, EventTypes: types}})
	require.NoError(w.t, err)
	return e
}

func (w *world) state(tenant string, events ...proto.Message) []string {
	w.t.Helper()
	var ids []string
	err := w.DB("notification").Tx(w.t.Context(), tenant, func(ctx context.Context, tx pgx.Tx) error {
		for _, ev := range events {
			id, err := w.bus.EmitID(ctx, tx, ev)
			if err != nil {
				return err
			}
			ids = append(ids, id.String())
		}
		return nil
	})
	require.NoError(w.t, err)
	return ids
}

func rejected() proto.Message {
	return &sdiv1.InvoiceDiscarded{Invoice: invoiceName, SdiId: "42", Receipt: &sdiv1.Receipt{Type: "NS", FileName: "IT01_1_NS_001.xml"},
		Errors: []*sdiv1.RejectionError{{Code: "00423", Message: "PrezzoTotale", Hint: "sum again"}}}
}

func accepted() proto.Message {
	return &invoicev1.InvoiceAccepted{Invoice: invoiceName, Format: "FPR12"}
}

func (w *world) deliveries(target string) []*notificationv1.Delivery {
	w.t.Helper()
	list, err := w.api.ListDeliveries(w.t.Context(), &notificationv1.ListDeliveriesRequest{Parent: "tenants/acme", Target: target})
	require.NoError(w.t, err)
	return list.GetDeliveries()
}

func (w *world) eventually(cond func() bool, what string) {
	w.t.Helper()
	require.Eventually(w.t, cond, 20*time.Second, 10*time.Millisecond, what)
}

// ends waits for the only delivery to the target to reach the state.
func (w *world) ends(target string, state notificationv1.DeliveryState) *notificationv1.Delivery {
	w.t.Helper()
	var d *notificationv1.Delivery
	w.eventually(func() bool {
		list := w.deliveries(target)
		if len(list) == 1 {
			d = list[0]
		}
		return d.GetState() == state
	}, "the delivery ends as "+state.String())
	return d
}

func (w *world) count(sql string, args ...any) (n int) {
	w.t.Helper()
	err := w.DB("notification").System(w.t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, sql, args...).Scan(&n)
	})
	require.NoError(w.t, err)
	return n
}

func requireFault(t *testing.T, err error, code string) {
	t.Helper()
	f := fault.Of(err)
	require.NotNil(t, f, "want %s", code)
	require.Equal(t, code, f.Code, "%v", err)
}

// verify checks a post as the receiver does, with the secret that it was shown.
func verify(t *testing.T, p post, secret string) {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	require.NoError(t, err)
	var at int64
	_, err = fmt.Sscan(p.header.Get("webhook-timestamp"), &at)
	require.NoError(t, err)
	require.InDelta(t, time.Now().Unix(), at, 60)
	want := signatures([][]byte{raw}, p.header.Get("webhook-id"), time.Unix(at, 0), p.body)
	require.Contains(t, strings.Fields(p.header.Get("webhook-signature")), want)
}
