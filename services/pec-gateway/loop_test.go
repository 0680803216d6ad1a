package pecgateway_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	gosmtp "github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/run/runtest"
	"ceralacca.dev/services/notification"
	"ceralacca.dev/services/sandbox/client"
)

// carrier is the mail system between two platforms: what one of them sends on comes into a mailbox of the other.
type carrier struct {
	mu      sync.Mutex
	into    map[string]*client.Client // whose mailbox an address is
	carried []string                  // addresses, in order
}

func (c *carrier) NewSession(*gosmtp.Conn) (gosmtp.Session, error) { return &carriage{c: c}, nil }

type carriage struct {
	c        *carrier
	from, to string
}

func (s *carriage) Reset()        {}
func (s *carriage) Logout() error { return nil }

func (s *carriage) Mail(from string, _ *gosmtp.MailOptions) error {
	s.from = from
	return nil
}

func (s *carriage) Rcpt(to string, _ *gosmtp.RcptOptions) error {
	s.to = to
	return nil
}

func (s *carriage) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.c.carried = append(s.c.carried, s.to)
	there := s.c.into[s.to]
	if there == nil {
		return errors.New("nobody is there")
	}
	return there.InjectPEC(context.Background(), s.to, client.PECInject{Data: append([]byte("Return-Path: <"+s.from+">\r\n"), raw...)})
}

func (c *carrier) hops() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string{}, c.carried...)
}

// listen carries mail until the end of the test.
func (c *carrier) listen(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := gosmtp.NewServer(c)
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
	return lis.Addr().String()
}

// TestE14TwoGatewaysForwardToEachOther: two platforms that know nothing of each other, each with its own provider, database and
// mail server, whose mailboxes send everything that is not certified on to each other. A message goes over once, whoever has it
// first, and stays there: none of them is told of it again. TESTPLAN E14.
func TestE14TwoGatewaysForwardToEachOther(t *testing.T) {
	t.Parallel()
	c := &carrier{into: map[string]*client.Client{}}
	address := c.listen(t)
	key := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(key, []byte(base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32)))), 0o600))
	platform := func() *house {
		return open(t, quick, func(o *runtest.Options) {
			o.Targets = append(o.Targets, notification.Target)
			o.Config += fmt.Sprintf("notification: {secret_key_file: %q, timeout: 5s, smtp: {address: %q, from: 'Ceralacca <no-reply@ceralacca.example>', tls: none}}\n", key, address)
		})
	}
	one, two := platform(), platform() // they trust no list: each takes the other's address for an ordinary one
	boxes := map[*house]*pecv1.Mailbox{one: one.add(recipient), two: two.add(sender)}
	c.mu.Lock()
	c.into[recipient], c.into[sender] = one.sandbox, two.sandbox
	c.mu.Unlock()
	for h, to := range map[*house]string{one: sender, two: recipient} {
		h.eventually("read for the first time", func() bool { return h.box(boxes[h]).GetSync().GetDone() })
		_, err := h.policy(boxes[h], &pecv1.MailboxPolicy{Rules: []*pecv1.MailRule{
			{Scope: pecv1.RuleScope_RULE_SCOPE_ORDINARY, Action: pecv1.RuleAction_RULE_ACTION_FORWARD, ForwardTo: to}}}, "rules")
		require.NoError(t, err)
	}
	for n, way := range []struct {
		from, to *house
		at, over string
	}{{one, two, recipient, sender}, {two, one, sender, recipient}} {
		subject := fmt.Sprintf("giro%d", n)
		way.from.inject(way.at, plain(subject))
		way.to.eventually("it goes over", func() bool { return len(c.hops()) == n+1 })
		way.to.kept(boxes[way.to])
		way.from.kept(boxes[way.from])
		for h, sent := range map[*house]int{one: 1, two: n} {
			h.lookedAgain(boxes[h])
			h.business() // comes to rest
			require.Len(t, heard[*pecv1.ForwardDue](h), sent, "%s: each sends on what came to it first, and nothing else", subject)
			require.Len(t, h.list(boxes[h]), n+1, "%s is in both", subject)
		}
		require.Len(t, c.hops(), n+1, "%s: one hop", subject)
		require.Equal(t, way.over, c.hops()[n])
	}
	one.invariants(boxes[one])
	two.invariants(boxes[two])
	require.Len(t, c.hops(), 2)
}
