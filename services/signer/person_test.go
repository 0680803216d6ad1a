package signer_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/protobuf/proto"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/bus/bustest"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/run/runtest"
	"ceralacca.dev/services/sandbox/otp"
	"ceralacca.dev/services/signer"
)

// clock is a clock that a test moves.
type clock struct{ ahead, stands atomic.Int64 }

func (c *clock) now() time.Time {
	if at := c.stands.Load(); at != 0 {
		return time.Unix(0, at).UTC()
	}
	return time.Now().Add(time.Duration(c.ahead.Load()))
}

// stand stops the clock at an instant.
func (c *clock) stand(at time.Time) { c.stands.Store(at.UnixNano()) }

func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// messages is a house whose holders get messages, e-mails and pushes.
type messages struct {
	*house
	provider *otp.Provider
	now      func() time.Time // nil: the machine's
}

func openMessages(t testing.TB) *messages { return openMessagesWith(t, nil, nil, "") }

// openMessagesWith logs all to log, and moves with a clock.
func openMessagesWith(t testing.TB, log io.Writer, c *clock, more string, spans ...sdktrace.SpanProcessor) *messages {
	t.Helper()
	const token = "sandbox-token"
	m := &messages{provider: otp.New(token, nil)}
	web := httptest.NewServer(m.provider)
	t.Cleanup(web.Close)
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte(token+"\n"), 0o600))
	to := fmt.Sprintf("{url: %q, token_file: %q}", web.URL, file)
	extra := fmt.Sprintf("  authorization: {sms: %s, email: %s, push: %s}\n%s", to, to, to, more)
	if c != nil {
		m.now = c.now
	}
	m.house = openAt(t, m.now, log, extra, spans...)
	return m
}

// again starts the signer anew on the same database, as after a crash or a release.
func (m *messages) again(t testing.TB) {
	t.Helper()
	m.Stop()
	m.probe = &probe{}
	m.house.Process = runtest.Start(t, runtest.Options{
		Targets: []run.Target{signer.Target, m.probe.target()}, Config: m.config, DB: m.reopened(t), Dir: m.dir, Now: m.now,
	})
	m.client = signv1.NewSignServiceClient(m.Operator("signer"))
}

// signerOf is one person's credential as the tenant's product sees it.
type signerOf struct {
	*messages
	name    string
	caller  auth.Caller
	auth    signv1.AuthorizationServiceClient
	devices signv1.DeviceServiceClient
}

// person makes a credential with a PIN and no device.
func (m *messages) person(t testing.TB, who string) *signerOf {
	t.Helper()
	s := &signerOf{messages: m, name: m.credential(t, company, person, p256).GetName()}
	s.caller = auth.Caller{ID: "product", Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"credentials.write", "credentials.read", "credentials.sign"}}
	s.dial()
	_, err := s.auth.SetPin(context.Background(), &signv1.SetPinRequest{Name: s.name, Holder: who, NewPin: goodPIN})
	require.NoError(t, err)
	return s
}

// dial connects to the process that runs now.
func (s *signerOf) dial() {
	conn := s.DialKey("signer", s.Key(s.caller))
	s.auth, s.devices = signv1.NewAuthorizationServiceClient(conn), signv1.NewDeviceServiceClient(conn)
}

func (s *signerOf) challenge(t testing.TB, documents ...string) *signv1.Challenge {
	t.Helper()
	req := &signv1.CreateChallengeRequest{Parent: s.name}
	for _, d := range documents {
		sum := sha256.Sum256([]byte(d))
		req.DocumentSha256 = append(req.DocumentSha256, sum[:])
	}
	ch, err := s.auth.CreateChallenge(context.Background(), req)
	require.NoError(t, err)
	require.Equal(t, signv1.SignatureLevel_SIGNATURE_LEVEL_ADVANCED, ch.GetLevel())
	return ch
}

func (s *signerOf) authorize(ch *signv1.Challenge, password string) (*signv1.AuthorizeChallengeResponse, error) {
	return s.auth.AuthorizeChallenge(context.Background(), &signv1.AuthorizeChallengeRequest{Name: ch.GetName(), Pin: goodPIN, Otp: password})
}

// lastPassword is the one in the newest message to an address.
func (m *messages) lastPassword(t testing.TB, to string) string {
	t.Helper()
	list := m.provider.Sent(to)
	for i := len(list) - 1; i >= 0; i-- {
		if found := regexp.MustCompile(`codice ([0-9]{8}) `).FindStringSubmatch(list[i].Text); found != nil {
			return found[1]
		}
	}
	t.Fatalf("no password was sent to %s", to)
	return ""
}

// enrolSent enrols a telephone or mailbox.
func (s *signerOf) enrolSent(t testing.TB, kind signv1.OtpDeviceType, to string) string {
	t.Helper()
	made, err := s.auth.CreateOtpDevice(context.Background(), &signv1.CreateOtpDeviceRequest{
		Parent: s.name, Pin: goodPIN, OtpDevice: &signv1.OtpDevice{Type: kind, DisplayName: "device", Address: to},
	})
	require.NoError(t, err)
	_, err = s.auth.ConfirmOtpDevice(context.Background(), &signv1.ConfirmOtpDeviceRequest{Name: made.GetOtpDevice().GetName(), Pin: goodPIN, Otp: s.lastPassword(t, to)})
	require.NoError(t, err)
	return made.GetOtpDevice().GetName()
}

// reopened is the database of the process before, for the next.
func (h *house) reopened(t testing.TB) map[string]*pg.DB {
	t.Helper()
	return map[string]*pg.DB{"signer": pgtest.Again(t, h.DB("signer"))}
}

// hear keeps every event of a kind.
func hear[E proto.Message](p *probe, name string) {
	bustest.Hear(&p.ear, p.host.Bus, name, func(_ context.Context, ev E) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.others = append(p.others, ev)
	})
}

// heard are the events of a kind about a credential.
func heard[E interface {
	proto.Message
	GetCredential() string
}](p *probe, credential string) (out []E) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, ev := range p.others {
		if e, ok := ev.(E); ok && e.GetCredential() == credential {
			out = append(out, e)
		}
	}
	return out
}

// states are the states that were told of a credential, in the order of their times.
func (p *probe) states(credential string) string {
	list := heard[*signv1.CredentialStateChanged](p, credential)
	slices.SortFunc(list, func(a, b *signv1.CredentialStateChanged) int {
		return a.GetTime().AsTime().Compare(b.GetTime().AsTime())
	})
	var out []string
	for _, e := range list {
		out = append(out, e.GetState())
	}
	return strings.Join(out, " ")
}

func (p *probe) expiring(credential string) []*signv1.CredentialExpiring {
	return heard[*signv1.CredentialExpiring](p, credential)
}
