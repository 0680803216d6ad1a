package pecgateway_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/devenv/dovecot"
	"ceralacca.dev/services/internal/run/runtest"
	"ceralacca.dev/services/sandbox/client"
)

// openDovecot is a gateway whose mailboxes are at a real Dovecot; the sandbox only signs receipts.
func openDovecot(t testing.TB, extra string, o dovecot.Options, change ...func(*runtest.Options)) *house {
	t.Helper()
	o.Progress = os.Stderr
	server, err := dovecot.Start(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(server.Log())
		}
		require.NoError(t, server.Stop())
	})
	trusted := func(o *runtest.Options) {
		file := filepath.Join(o.Dir, "ca.pem")
		before, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, append(before, server.CAPEM()...), 0o600))
	}
	h := open(t, extra, append([]func(*runtest.Options){trusted}, change...)...)
	h.dovecot = server
	return h
}

// account makes a mailbox at Dovecot.
func (h *house) account(address string) {
	h.t.Helper()
	if _, ok := h.secrets[address]; !ok {
		h.secrets[address] = "Pw-" + uuid.NewString()
	}
	require.NoError(h.t, h.dovecot.SetPassword(address, h.secrets[address]))
}

// keep takes a mailbox at Dovecot into keeping.
func (h *house) keep(address string, change ...func(*pecv1.Mailbox)) *pecv1.Mailbox {
	h.t.Helper()
	h.account(address)
	in := &pecv1.Mailbox{Address: address, Provider: "generic", Servers: &pecv1.MailboxServers{Imap: h.dovecot.IMAPS(), Pop3: h.dovecot.POP3S()}}
	for _, fn := range change {
		fn(in)
	}
	m, err := h.api.CreateMailbox(h.t.Context(), &pecv1.CreateMailboxRequest{
		Parent: parent, Mailbox: in, Password: h.secrets[address], RequestId: uuid.NewString(), Untested: true,
	})
	require.NoError(h.t, err)
	return m
}

// through has a mailbox read over a wire of the test.
func through(w *wire) func(*pecv1.Mailbox) {
	return func(m *pecv1.Mailbox) { m.Servers = &pecv1.MailboxServers{Imap: w.address(), Pop3: w.address()} }
}

func overPOP3(m *pecv1.Mailbox) { m.Access = pecv1.MailboxAccess_MAILBOX_ACCESS_POP3 }

// deliver puts a message into a mailbox at Dovecot.
func (h *house) deliver(address, text string, how ...dovecot.Delivery) {
	h.t.Helper()
	d := dovecot.Delivery{}
	if len(how) > 0 {
		d = how[0]
	}
	raw := []byte(strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\n", "\r\n"))
	require.NoError(h.t, h.dovecot.Deliver(address, raw, d))
}

// receiptBytes is a receipt that the sandbox's provider of the sender issued, or a forged one.
func (h *house) receiptBytes(f client.PECForge) string {
	h.t.Helper()
	h.next++
	f.Mailbox = fmt.Sprintf("forge%d@alfa.test", h.next)
	if f.Tipo == "avvenuta-consegna" && f.How == "valid" { // the recipient's provider issues it
		f.Mailbox = fmt.Sprintf("forge%d@beta.test", h.next)
	}
	_, err := h.sandbox.SetPECMailbox(h.t.Context(), client.PECMailbox{Address: f.Mailbox, Password: "any"})
	require.NoError(h.t, err)
	require.NoError(h.t, h.sandbox.ForgePEC(h.t.Context(), f))
	list, err := h.sandbox.PECMessages(h.t.Context(), f.Mailbox)
	require.NoError(h.t, err)
	require.Len(h.t, list, 1)
	raw, err := h.sandbox.PECRaw(h.t.Context(), list[0].ID)
	require.NoError(h.t, err)
	return string(raw)
}

// atDovecot says whether a mailbox is there, and gives what it holds.
func (h *house) atDovecot(address string) ([]dovecot.Stored, bool) {
	h.t.Helper()
	if h.dovecot == nil || !h.dovecot.Has(address) {
		return nil, false
	}
	list, err := h.dovecot.Messages(address)
	require.NoError(h.t, err)
	return list, true
}

// renumber has the provider forget all numbers of a mailbox. Dovecot is away meanwhile, and nobody is to be told.
func (h *house) renumber(box *pecv1.Mailbox) {
	h.t.Helper()
	if h.dovecot == nil || !h.dovecot.Has(box.GetAddress()) {
		require.NoError(h.t, h.sandbox.ChangePECUIDValidity(h.t.Context(), box.GetAddress()))
		return
	}
	_, err := h.api.SuspendMailbox(h.t.Context(), &pecv1.SuspendMailboxRequest{Name: box.GetName()})
	require.NoError(h.t, err)
	require.NoError(h.t, h.dovecot.ChangeUIDValidity(h.t.Context(), box.GetAddress()))
	_, err = h.api.ResumeMailbox(h.t.Context(), &pecv1.ResumeMailboxRequest{Name: box.GetName()})
	require.NoError(h.t, err)
}

// unwell is what was told of mailboxes that somebody has to look after: each by the address that its owner knows.
func (h *house) unwell() []*pecv1.MailboxDegraded {
	h.t.Helper()
	told := heard[*pecv1.MailboxDegraded](h)
	for _, ev := range told {
		box, err := h.api.GetMailbox(h.t.Context(), &pecv1.GetMailboxRequest{Name: ev.GetMailbox()})
		require.NoError(h.t, err)
		require.Equal(h.t, box.GetAddress(), ev.GetMailboxAddress(), ev.GetReason())
	}
	return told
}

// degraded says how often a mailbox was said to be unwell for a reason.
func (h *house) degraded(code string) int {
	n := 0
	for _, ev := range h.unwell() {
		if ev.GetCode() == code {
			n++
		}
	}
	return n
}

// stranger is another program on the same mailbox: it says lines of IMAP.
type stranger struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
	n    int
}

func (h *house) stranger(address string) *stranger {
	h.t.Helper()
	conn, err := tls.Dial("tcp", h.dovecot.IMAPS(), h.clientTLS())
	require.NoError(h.t, err)
	h.t.Cleanup(func() { _ = conn.Close() })
	s := &stranger{t: h.t, conn: conn, r: bufio.NewReader(conn)}
	_, err = s.r.ReadString('\n')
	require.NoError(h.t, err)
	s.say(fmt.Sprintf("LOGIN %s %s", address, h.secrets[address]))
	return s
}

func (h *house) clientTLS() *tls.Config {
	pool := x509.NewCertPool()
	require.True(h.t, pool.AppendCertsFromPEM(h.dovecot.CAPEM()))
	return &tls.Config{RootCAs: pool, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}
}

// say gives everything up to the answer OK.
func (s *stranger) say(line string) string {
	s.t.Helper()
	s.n++
	tag := fmt.Sprintf("s%d ", s.n)
	_, err := s.conn.Write([]byte(tag + line + "\r\n"))
	require.NoError(s.t, err)
	var out strings.Builder
	for {
		got, err := s.r.ReadString('\n')
		require.NoError(s.t, err)
		out.WriteString(got)
		if strings.HasPrefix(got, tag) {
			require.Contains(s.t, got, tag+"OK", "%.100s", line)
			return out.String()
		}
	}
}

// store appends a message as it is. spec: RFC7888 (literal without waiting)
func (s *stranger) store(folder, flags string, raw []byte) {
	s.t.Helper()
	s.say(fmt.Sprintf("APPEND %q (%s) {%d+}\r\n%s", folder, flags, len(raw), raw))
}

// wire is what lies between the gateway and Dovecot: it ends TLS on both sides, so that the test can hold, change
// and cut what is said.
type wire struct {
	t       testing.TB
	l       net.Listener
	mu      sync.Mutex
	on      func(line string, to net.Conn) bool // true: the line goes no further
	change  func(said []byte) []byte            // what the server said
	frozen  map[net.Conn]bool
	open    map[net.Conn]bool
	dialled int
	times   []time.Time // of each connection
	most    int         // connections at a time
}

// wireTo opens a wire to a server of Dovecot.
func (h *house) wireTo(target string) *wire {
	h.t.Helper()
	pair, err := tls.X509KeyPair(h.dovecot.CAPEM(), h.dovecot.KeyPEM())
	require.NoError(h.t, err)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
	require.NoError(h.t, err)
	w := &wire{t: h.t, l: l, frozen: map[net.Conn]bool{}, open: map[net.Conn]bool{}}
	var all sync.WaitGroup
	h.t.Cleanup(func() { _ = l.Close(); w.cut(); all.Wait() })
	conf := h.clientTLS()
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { w.carry(conn, target, conf) })
		}
	})
	return w
}

func (w *wire) address() string { return w.l.Addr().String() }

// when sets what is done with each line that the gateway says; nil: nothing.
func (w *wire) when(fn func(line string, to net.Conn) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.on = fn
}

// alter sets what becomes of what the server says, on connections that are made from here on.
func (w *wire) alter(fn func(said []byte) []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.change = fn
}

// freeze lets nothing pass any more on the connections that are open now; they stay open.
func (w *wire) freeze() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.open {
		w.frozen[c] = true
	}
}

// cut ends all connections.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.open {
		_ = c.Close()
	}
}

func (w *wire) connections() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dialled
}

func (w *wire) silent(c net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.frozen[c]
}

func (w *wire) carry(near net.Conn, target string, conf *tls.Config) {
	w.mu.Lock()
	change := w.change
	w.dialled++
	w.open[near] = true
	w.times, w.most = append(w.times, time.Now()), max(w.most, len(w.open))
	w.mu.Unlock()
	hangUp := func() { // who sees the end comes again at once, and is not to be counted beside the connection that has ended
		w.mu.Lock()
		delete(w.open, near)
		w.mu.Unlock()
		_ = near.Close()
	}
	defer hangUp()
	far, err := tls.Dial("tcp", target, conf)
	if err != nil {
		return // the server is down for now
	}
	defer far.Close()
	var back sync.WaitGroup
	back.Go(func() {
		defer hangUp()
		buf := make([]byte, 32<<10)
		for {
			n, err := far.Read(buf)
			if n > 0 && !w.silent(near) {
				said := buf[:n]
				if change != nil {
					said = change(said)
				}
				if _, err := near.Write(said); err != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	})
	r := bufio.NewReader(near)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			break
		}
		w.mu.Lock()
		on := w.on
		w.mu.Unlock()
		if on != nil && on(line, near) || w.silent(near) {
			continue
		}
		if _, err := far.Write([]byte(line)); err != nil {
			break
		}
	}
	_ = far.Close()
	back.Wait()
}

// hexSum is the SHA-256 of a message as the archive names it.
func hexSum(raw []byte) string {
	sum := sha256.Sum256(bytes.ReplaceAll(bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n")))
	return hex.EncodeToString(sum[:])
}
