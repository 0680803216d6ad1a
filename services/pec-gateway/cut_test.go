package pecgateway_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/pg/pgtest"
)

// cutter stands between the gateway and its provider's server for sending, ends TLS on both sides, and resets connections (RST, as a
// machine does that knows nothing of them any more) at the moment that it is told.
type cutter struct {
	address string
	far     string
	conf    *tls.Config // as a server
	trust   *tls.Config // as a client

	mu   sync.Mutex
	at   []string // where each of the next connections is cut; "": nowhere
	held net.Conn // that waits until letGo
	free sync.Cond
}

// newCutter gives one, and what has to be trusted to speak to it.
func newCutter(t *testing.T, far string, roots []byte) (*cutter, []byte) {
	t.Helper()
	conf, text := selfSigned(t, "localhost", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(roots))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c := &cutter{address: "localhost:" + strconv.Itoa(l.Addr().(*net.TCPAddr).Port), far: far, conf: conf,
		trust: &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: tls.VersionTLS12}}
	c.free.L = &c.mu
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { c.carry(conn) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); c.letGo(); all.Wait() })
	return c, text
}

// cutNext says where the connections to come are cut.
func (c *cutter) cutNext(at ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = append(c.at, at...)
}

func (c *cutter) next() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.at) == 0 {
		return ""
	}
	at := c.at[0]
	c.at = c.at[1:]
	return at
}

// left is how many cuts are still to come.
func (c *cutter) left() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.at)
}

func (c *cutter) letGo() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = nil
	c.free.Broadcast()
}

func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

func (c *cutter) carry(raw net.Conn) {
	at := c.next()
	defer func() { _ = raw.Close() }()
	if tcp, ok := raw.(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(64 << 10)
	}
	switch at {
	case "connect":
		reset(raw)
		return
	case "tls":
		_, _ = raw.Read(make([]byte, 5)) // the beginning of its hello
		reset(raw)
		return
	}
	near := tls.Server(raw, c.conf)
	if near.Handshake() != nil {
		return
	}
	if at == "greeting" {
		reset(raw)
		return
	}
	far, err := tls.Dial("tcp", c.far, c.trust)
	if err != nil {
		return
	}
	defer func() { _ = far.Close() }()
	var late atomic.Bool
	go func() {
		defer func() { _ = raw.Close() }()
		buf := make([]byte, 32<<10)
		for {
			n, err := far.Read(buf)
			if late.Load() {
				time.Sleep(300 * time.Millisecond) // its word takes its time
			}
			if _, werr := near.Write(buf[:n]); err != nil || werr != nil {
				return
			}
		}
	}()
	in := bufio.NewReader(near)
	rcpt, size, seen := 0, -1, 0 // size of the content that is coming; -1: none is
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		step := ""
		if size < 0 {
			verb, _, _ := strings.Cut(strings.TrimSpace(line), " ")
			step = strings.ToLower(verb)
			if step == "rcpt" {
				rcpt++
				step = fmt.Sprint("rcpt ", rcpt)
			}
			if i := strings.Index(line, " SIZE="); i > 0 {
				seen, _ = strconv.Atoi(strings.TrimSpace(line[i+len(" SIZE="):]))
			}
			if step == "data" {
				size, seen = seen, 0
			}
		} else {
			step = "body"
			if seen == 0 {
				step = "first"
			}
			seen += len(strings.TrimPrefix(line, "."))
		}
		if at != "" && at == step {
			reset(raw)
			return
		}
		if at == "early" && step == "body" { // no dot is here yet, and it says that it has the message
			_, _ = near.Write([]byte("250 2.0.0 taken\r\n"))
			_, _ = io.Copy(io.Discard, near)
			return
		}
		if at == "dot" && step == "data" {
			c.hold(raw)
		}
		if _, err = far.Write([]byte(line)); err != nil {
			return
		}
		if at == "counts" && seen == size { // that are all the bytes that were announced: it takes the message and waits for no dot
			late.Store(true)
			_, _ = far.Write([]byte(".\r\n"))
			_, _ = io.Copy(io.Discard, near)
			return
		}
	}
}

// hold has a connection wait before its content begins.
func (c *cutter) hold(raw net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = raw
	for c.held != nil {
		c.free.Wait()
	}
}

// holding gives the connection that waits.
func (c *cutter) holding() net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held
}

// cutter is one before the server for sending, which the gateway trusts.
func (h *house) cutter(t *testing.T) *cutter {
	t.Helper()
	c, text := newCutter(t, h.world.Endpoints().PEC.SMTPSAddr, h.world.CAPEM())
	file := filepath.Join(h.opts.Dir, "ca.pem")
	before, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, append(append(before, '\n'), text...), 0o600))
	return c
}

// openCut is a gateway that sends through a cutter.
func openCut(t *testing.T, extra string) (*post, *cutter) {
	t.Helper()
	h := prepare(t, extra)
	far := h.world.Endpoints().PEC.SMTPSAddr
	c := h.cutter(t)
	h.opts.Config = strings.Replace(h.opts.Config, strconv.Quote(far), strconv.Quote(c.address), 1)
	h.start()
	p := &post{house: h}
	p.begin()
	p.believe()
	return p, c
}

// TestA2TakenTooEarly: the server says in the middle of the content that it has taken the message. It may have, whatever the rules are:
// nothing is sent again, receipts are awaited, and then a person is asked. TESTPLAN A2, I3.
func TestA2TakenTooEarly(t *testing.T) {
	t.Parallel()
	p, c := openCut(t, quickly)
	c.cutNext("early")
	req := p.request(recipient)
	req.Attachments[0].Data = make([]byte, 9<<20) // more than what waits between the two: the word is there before the last of it is written
	m, err := p.api.SendMessage(t.Context(), req)
	require.NoError(t, err)
	d := p.reaches(m, pecv1.DeliveryStep_DELIVERY_STEP_DECISION_NEEDED)
	require.Len(t, d.GetAttempts(), 1, "it was sent again without a word")
	require.Equal(t, "unknown body protocol", fmt.Sprint(d.GetAttempts()[0].GetOutcome(), " ", d.GetAttempts()[0].GetPhase(), " ", d.GetAttempts()[0].GetCause()), d.GetAttempts()[0])
	require.Contains(t, d.GetAttempts()[0].GetText(), "before the message was over")
	require.Equal(t, pecv1.MessageState_MESSAGE_STATE_OUTCOME_UNKNOWN, d.GetState())
	p.eventually("somebody is asked", func() bool { return len(heard[*pecv1.DeliveryDecisionNeeded](p.house)) == 1 })
	require.Zero(t, p.taken(m))
	p.everything()
}

// TestA2KilledWhenTakenTooEarly: the server takes a message as soon as it has as many bytes as MAIL announced, without the dot, and the
// gateway is killed: when it is about to mark that the message may be taken, and when the server's word is there and not recorded. The
// provider has the message once. TESTPLAN A2, A5, A6, I3.
func TestA2KilledWhenTakenTooEarly(t *testing.T) {
	t.Parallel()
	var c *cutter
	w := newWard(t, func(h *house) string {
		c = h.cutter(t)
		return c.address
	})
	w.believe()
	w.box = w.add(sender).GetName()
	unrecorded := boundary{"taken before the dot, not recorded", "sending_attempt", "UPDATE", "OLD.outcome = '' AND NEW.outcome <> ''"}
	for b, size := range map[boundary]int{beforeTheDot: 100_000, unrecorded: 10} {
		w.step(b.name, func(t *testing.T) {
			w.stopAt(b)
			c.cutNext("counts")
			req := w.request(recipient)
			req.Attachments[0].Data = make([]byte, size)
			m, err := w.api.SendMessage(t.Context(), req)
			require.NoError(t, err)
			w.reached(b)
			if b == unrecorded {
				w.eventually("the provider takes it", func() bool { return w.taken(m) == 1 })
			} else {
				time.Sleep(200 * time.Millisecond) // what has left has arrived
			}
			w.killAt(b)
			w.run()
			w.exec(`UPDATE sending_queue SET lease_until = lease_until - interval '1 hour'`) // of who is dead
			next := w.send(recipient)
			w.state(next, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
			w.state(m, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
			w.eventually("nothing of it is to leave any more", func() bool {
				step := w.way(m).GetStep()
				return step != pecv1.DeliveryStep_DELIVERY_STEP_QUEUED && step != pecv1.DeliveryStep_DELIVERY_STEP_LEAVING
			})
			require.Equal(t, 1, w.taken(m))
			attempts := w.way(m).GetAttempts()
			if b == unrecorded {
				require.Len(t, attempts, 1)
				require.Equal(t, "unknown", attempts[0].GetOutcome())
				return
			}
			require.Len(t, attempts, 2)
			require.Equal(t, []string{"deferred", "accepted"}, []string{attempts[0].GetOutcome(), attempts[1].GetOutcome()})
		})
	}
	require.Zero(t, c.left())
	w.toldOnce()
	w.post.invariants()
	w.house.invariants(w.mailbox())
}

// TestA1A2ResetInEveryPhase: the connection to the provider is reset before the banner, in the handshake, instead of an answer to each
// command, in the content, and when its last piece is about to leave. The message was not taken: it is tried again under its
// Message-ID after pauses that grow, each attempt is logged with its phase, and the provider accepts it once. TESTPLAN A1, A2.
func TestA1A2ResetInEveryPhase(t *testing.T) {
	t.Parallel()
	p, c := openCut(t, strings.Replace(quickly, "retry_every: 20ms, retry_most: 50ms", "retry_every: 100ms, retry_most: 1s", 1))
	const cuts = 2
	for _, step := range []struct{ at, phase string }{
		{"connect", "tls"}, {"tls", "tls"}, {"greeting", "greeting"}, {"ehlo", "hello"}, {"auth", "auth"}, {"mail", "mail"}, {"rcpt 1", "rcpt"}, {"rcpt 2", "rcpt"},
		{"data", "data"}, {"first", "body"}, {"body", "body"},
	} {
		for range cuts {
			c.cutNext(step.at)
		}
		req := p.request(recipient, "destinatario@alfa.test")
		if step.phase == "body" {
			req.Attachments[0].Data = make([]byte, 9<<20) // more than what the kernel takes from who writes and keeps from who reads
		}
		m, err := p.api.SendMessage(t.Context(), req)
		require.NoError(t, err)
		p.state(m, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
		d := p.reaches(m, pecv1.DeliveryStep_DELIVERY_STEP_DONE)
		require.Zero(t, c.left(), step.at)
		require.Len(t, d.GetAttempts(), cuts+1, step.at)
		for i, a := range d.GetAttempts()[:cuts] {
			require.Equal(t, "deferred network", a.GetOutcome()+" "+a.GetCause(), "%s: %v", step.at, a)
			require.Contains(t, []string{step.phase, map[string]string{"connect": "connect"}[step.at]}, a.GetPhase(), "%s: %v", step.at, a)
			require.Nil(t, a.GetDotTime(), step.at)
			least := 50 * time.Millisecond << i // half of a pause is chance
			require.GreaterOrEqual(t, d.GetAttempts()[i+1].GetStartTime().AsTime().Sub(a.GetStartTime().AsTime()), least, "%s: pause %d", step.at, i+1)
		}
		require.Equal(t, "accepted", d.GetAttempts()[cuts].GetOutcome())
		require.Equal(t, 1, p.taken(m), step.at)
	}

	// Just before the end: the gateway waits for its database, which is to say that the last piece is about to leave, when the connection
	// goes.
	c.cutNext("dot")
	req := p.request(recipient)
	m, err := p.api.SendMessage(t.Context(), req)
	require.NoError(t, err)
	p.eventually("the content is about to begin", func() bool { return c.holding() != nil })
	conn := c.holding()
	admin := pgtest.Admin(t, p.DB("pec-gateway"))
	tx, err := admin.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `LOCK TABLE sending_attempt IN SHARE MODE`)
	require.NoError(t, err)
	c.letGo()
	p.eventually("the gateway is about to end the message", func() bool {
		return p.query(`SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'sending_attempt'::regclass`) > 0
	})
	reset(conn)
	require.NoError(t, tx.Rollback(context.Background()))
	p.state(m, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
	d := p.reaches(m, pecv1.DeliveryStep_DELIVERY_STEP_DONE)
	require.Len(t, d.GetAttempts(), 2)
	require.Equal(t, "deferred body network", fmt.Sprint(d.GetAttempts()[0].GetOutcome(), " ", d.GetAttempts()[0].GetPhase(), " ", d.GetAttempts()[0].GetCause()), d.GetAttempts()[0])
	require.Equal(t, 1, p.taken(m))
	require.Empty(t, heard[*pecv1.DeliveryDecisionNeeded](p.house))
	p.everything()
}
