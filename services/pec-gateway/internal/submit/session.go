package submit

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// connect opens the connection, encrypted, up to the greeting and, with STARTTLS, the first EHLO.
func (s *session) connect(ctx context.Context) error {
	s.enter(PhaseConnect)
	if err := ctx.Err(); err != nil {
		return fail(Deferred, CauseStopped, err, "stopped before connecting")
	}
	d := net.Dialer{}
	if s.srv.Dialer != nil {
		d = *s.srv.Dialer
	}
	d.Timeout = s.t.Connect
	conn, err := d.DialContext(ctx, "tcp", s.srv.Address)
	if err != nil {
		return s.lost(ctx, err, "no connection to "+s.srv.Address)
	}
	s.conn, s.raw = conn, conn
	s.release = context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // wakes whoever waits
	if !s.srv.StartTLS {
		if err := s.handshake(ctx); err != nil {
			return err
		}
	}
	s.in = newReplyReader(s.conn)
	s.enter(PhaseGreeting)
	if err := s.expect(ctx, s.t.Command, 220); err != nil {
		return err
	}
	if !s.srv.StartTLS {
		return nil
	}
	return s.startTLS(ctx)
}

// startTLS turns a clear connection into an encrypted one, or gives up. spec: RFC3207 §4
func (s *session) startTLS(ctx context.Context) error {
	if err := s.hello(ctx); err != nil {
		return err
	}
	s.enter(PhaseStartTLS)
	if _, ok := s.ext["STARTTLS"]; !ok {
		return fail(Deferred, CauseTLS, nil, "%s does not offer STARTTLS: nothing is sent in the clear", s.srv.Address)
	}
	if err := s.command(ctx, s.t.Command, 220, "STARTTLS"); err != nil {
		return err
	}
	if s.in.pending() {
		return fail(Deferred, CauseTLS, nil, "%s sent more than the answer to STARTTLS in the clear: somebody may be putting words in", s.srv.Address)
	}
	if err := s.handshake(ctx); err != nil {
		return err
	}
	s.in, s.ext = newReplyReader(s.conn), nil
	return nil
}

func (s *session) handshake(ctx context.Context) error {
	s.enter(PhaseTLS)
	conf := s.srv.TLS.Clone()
	conf.MinVersion = max(conf.MinVersion, tls.VersionTLS12)
	conf.InsecureSkipVerify = false
	if conf.ServerName == "" {
		conf.ServerName, _, _ = net.SplitHostPort(s.srv.Address)
	}
	if err := s.deadline(ctx, s.t.TLS); err != nil {
		return err
	}
	c := tls.Client(s.conn, conf)
	if err := c.Handshake(); err != nil {
		if cause := TLSProblem(err); cause != "" {
			return fail(Deferred, CauseTLS, err, "the TLS connection to %s was not made: %s", s.srv.Address, cause)
		}
		return s.lost(ctx, err, "the TLS handshake was not finished")
	}
	s.conn = c
	s.res.TLS = tls.VersionName(c.ConnectionState().Version) + " " + tls.CipherSuiteName(c.ConnectionState().CipherSuite)
	return nil
}

// hello says EHLO and reads the extensions.
func (s *session) hello(ctx context.Context) error {
	s.enter(PhaseHello)
	name := s.srv.Hello
	if name == "" {
		name = "[127.0.0.1]"
	}
	if err := s.command(ctx, s.t.Command, 250, "EHLO "+name); err != nil {
		return err
	}
	s.ext = map[string]string{}
	for _, line := range s.last.Lines[1:] {
		key, value, _ := strings.Cut(line, " ")
		s.ext[strings.ToUpper(key)] = value
	}
	return nil
}

// auth logs in with PLAIN, or LOGIN where PLAIN is not offered. spec: RFC4616, RFC4954 §4
func (s *session) auth(ctx context.Context) error {
	if s.res.TLS == "" { // hello runs twice with STARTTLS, the login only here
		return fail(Deferred, CauseTLS, nil, "the connection to %s is not encrypted: nothing is sent in the clear", s.srv.Address)
	}
	s.enter(PhaseAuth)
	offered := strings.Fields(strings.ToUpper(s.ext["AUTH"]))
	b64 := base64.StdEncoding.EncodeToString
	var err error
	switch {
	case contains(offered, "PLAIN"):
		err = s.command(ctx, s.t.Command, 235, "AUTH PLAIN "+b64([]byte("\x00"+s.cred.User+"\x00"+s.cred.Password)))
	case contains(offered, "LOGIN"):
		err = s.command(ctx, s.t.Command, 334, "AUTH LOGIN")
		if err == nil {
			err = s.command(ctx, s.t.Command, 334, b64([]byte(s.cred.User)))
		}
		if err == nil {
			err = s.command(ctx, s.t.Command, 235, b64([]byte(s.cred.Password)))
		}
	default:
		return fail(Deferred, CauseProtocol, nil, "%s offers neither AUTH PLAIN nor AUTH LOGIN, but %q", s.srv.Address, clean(s.ext["AUTH"], 100))
	}
	return err
}

func contains(list []string, want string) bool {
	for _, s := range list {
		if s == want {
			return true
		}
	}
	return false
}

// mail names the sender. A size beyond the server's is not even announced. spec: RFC1870 §4
func (s *session) mail(ctx context.Context) error {
	s.enter(PhaseMail)
	line := "MAIL FROM:<" + s.msg.From + ">"
	if text, ok := s.ext["SIZE"]; ok {
		most, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		if err == nil && most > 0 && s.msg.Size > most {
			return fail(Refused, CauseSize, nil, "the message has %d bytes, the server takes at most %d", s.msg.Size, most)
		}
		line += " SIZE=" + strconv.FormatInt(s.msg.Size, 10)
	}
	return s.command(ctx, s.t.Command, 250, line)
}

// rcpt names the recipients. When one is refused nobody gets the message: an acceptance that lists
// fewer recipients than the message names would prove something else than was meant.
func (s *session) rcpt(ctx context.Context) error {
	s.enter(PhaseRcpt)
	var worst *failure
	for i, a := range s.msg.To {
		err := s.command(ctx, s.t.Command, 250, "RCPT TO:<"+a+">")
		if err == nil || s.last != nil && s.last.Code == 251 {
			continue
		}
		var f *failure
		if !errors.As(err, &f) || f.reply == nil {
			return err
		}
		if i > 0 && tooMany(f.reply) {
			return fail(Refused, CauseTooMany, nil, "the server takes at most %d recipients in one message: %d %s", i, f.reply.Code, f.reply.Text())
		}
		if f.cause == CauseThrottled || f.cause == CauseSuspended || f.reply.Code == 421 {
			return err
		}
		s.res.Recipients = append(s.res.Recipients, RecipientReply{Address: a, Code: f.reply.Code, Text: f.reply.Text()})
		if worst == nil || f.outcome == Refused && worst.outcome != Refused {
			worst = f
		}
		if len(s.res.Recipients) == maxRefused {
			break
		}
	}
	if worst == nil {
		return nil
	}
	_ = s.command(ctx, 5*time.Second, 250, "RSET") // a courtesy; the connection ends in any case
	s.last = worst.reply
	return fail(worst.outcome, CauseRecipients, nil, "%d of %d recipients are refused, so nobody was sent anything: <%s> %d %s",
		len(s.res.Recipients), len(s.msg.To), s.res.Recipients[0].Address, s.res.Recipients[0].Code, s.res.Recipients[0].Text)
}

// maxRefused bounds how many refused recipients are asked for before giving up.
const maxRefused = 100

// data asks for the content. From here to the final dot the connection does not end but is reset.
func (s *session) data(ctx context.Context) error {
	s.enter(PhaseData)
	s.unended(true)
	err := s.command(ctx, s.t.Data, 354, "DATA")
	var f *failure
	if errors.As(err, &f) && f.reply != nil {
		s.unended(false) // it wants no content
	}
	return err
}

// unended says whether a message has begun that has no end yet. As long as it has none whatever ends the connection, the death of this
// process too, resets it: where an end of the connection is taken for the end of the message, against the rule, there is none to be seen.
// spec: RFC5321 §4.1.1.4; RFC9293 §3.10.4
func (s *session) unended(yes bool) {
	s.open = yes
	after := -1 // what has been written still leaves
	if yes {
		after = 0
	}
	if tcp, ok := s.raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(after) // of a connection that is gone already there is nothing to set
	}
}

// lastPiece is how much of the content waits for the caller's mark, at most: all of a short message. Whoever takes a message by the bytes
// that MAIL announced, and does not wait for the dot, cannot have it before the mark.
const lastPiece = 32 << 10

// body sends the content up to the final dot, which it leaves out. Before the last piece the caller is asked.
func (s *session) body(ctx context.Context) error {
	s.enter(PhaseBody)
	in, err := s.msg.Open()
	if err != nil {
		return fail(Deferred, CauseMessageSource, err, "the content cannot be read: %v", err)
	}
	defer func() { _ = in.Close() }() // only read
	ear := s.overhear()
	defer ear.stop()
	timed := &timedWriter{s: s, ctx: ctx, ear: ear}
	end := &gate{w: timed, left: max(0, s.msg.Size-lastPiece), open: func() error {
		ear.stop()
		err := s.consent(ctx)
		timed.ctx = context.WithoutCancel(ctx) // a message that may be taken is ended
		return err
	}}
	buffered := bufio.NewWriterSize(end, 32<<10)
	out := &stuffer{w: buffered}
	check := &scanner{}
	_, err = io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{io.TeeReader(in, scanWriter{check})}, make([]byte, 32<<10))
	if err == nil && out.taken != s.msg.Size {
		err = fail(Deferred, CauseMessageSource, nil, "the content has %d bytes at the second reading, %d were announced", out.taken, s.msg.Size)
	}
	if err == nil {
		err = out.finish()
	}
	if err == nil {
		err = buffered.Flush()
	}
	if err == nil {
		err = end.pass()
	}
	s.res.Sent = out.taken
	if err == nil {
		return s.listen(timed.ctx)
	}
	ear.stop()
	var f *failure
	ours := errors.As(err, &f)
	if ours && !end.passed {
		return f
	}
	if early := s.early(); early != nil {
		return early
	}
	var bad *ContentError
	switch {
	case ours:
		return f
	case errors.As(err, &bad):
		return fail(Deferred, CauseMessageSource, err, "the content changed while it was sent: %v", err)
	case ear.err != nil:
		err = ear.err
	}
	return s.lost(ctx, err, "the connection ended in the middle of the content")
}

// consent asks the caller whether the message may be ended: from here on it may be taken.
func (s *session) consent(ctx context.Context) error {
	if err := s.listen(ctx); err != nil {
		return err
	}
	if s.hooks.BeforeEnd != nil {
		if err := s.hooks.BeforeEnd(ctx); err != nil {
			return fail(Deferred, CauseStopped, err, "stopped before the end of the message: %v", err)
		}
	}
	if err := s.listen(ctx); err != nil { // making that durable took its time
		return err
	}
	if !s.release() || ctx.Err() != nil {
		return fail(Deferred, CauseStopped, context.Cause(ctx), "stopped before the end of the message")
	}
	return nil
}

// gate lets so many bytes pass, then asks, once, and lets the rest pass.
type gate struct {
	w      io.Writer
	left   int64
	open   func() error
	passed bool
}

func (g *gate) Write(p []byte) (int, error) {
	if g.passed || int64(len(p)) <= g.left {
		g.left -= int64(len(p))
		return g.w.Write(p)
	}
	n := 0
	if g.left > 0 {
		var err error
		n, err = g.w.Write(p[:g.left])
		if err != nil {
			return n, err
		}
	}
	if err := g.pass(); err != nil {
		return n, err
	}
	more, err := g.w.Write(p[n:])
	return n + more, err
}

func (g *gate) pass() error {
	if g.passed {
		return nil
	}
	err := g.open()
	g.passed = err == nil
	return err
}

// ear hears whether the server speaks while the content leaves. Its first word stops the writing, which may be waiting for a server that
// does not read any more.
type ear struct {
	s    *session
	word atomic.Bool
	err  error // what ended the connection; nil: words are there, or nothing was heard
	done chan struct{}
}

func (s *session) overhear() *ear {
	e := &ear{s: s, done: make(chan struct{})}
	_ = s.conn.SetReadDeadline(time.Time{}) // of a connection that is gone the reading says so
	go func() {
		defer close(e.done)
		_, err := s.in.r.Peek(1)
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return
		}
		e.err = err
		e.word.Store(true)
		_ = s.conn.SetWriteDeadline(time.Unix(1, 0))
	}()
	return e
}

// stop ends the hearing; what was heard is there to be read.
func (e *ear) stop() {
	select {
	case <-e.done:
	default:
		_ = e.s.conn.SetReadDeadline(time.Unix(1, 0))
		<-e.done
	}
}

// errWord ends the writing when the server speaks.
var errWord = errors.New("the server speaks before the message is over")

// scanWriter lets a scanner look at what passes.
type scanWriter struct{ c *scanner }

func (w scanWriter) Write(p []byte) (int, error) {
	if err := w.c.scan(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// timedWriter gives each piece its time.
type timedWriter struct {
	s   *session
	ctx context.Context
	ear *ear
}

func (w *timedWriter) Write(p []byte) (int, error) {
	if err := w.s.deadline(w.ctx, w.s.t.Block); err != nil {
		return 0, err
	}
	if w.ear.word.Load() { // its deadline may have come before ours
		return 0, errWord
	}
	return w.s.conn.Write(p)
}

// listen looks whether the server has answered although the message is not over: an answer that was
// given before the final dot must not be taken for the answer to it.
func (s *session) listen(ctx context.Context) error {
	const look = 2 * time.Millisecond
	for try := 1; ; try++ {
		if err := s.deadline(ctx, look); err != nil {
			return err
		}
		began := time.Now()
		_, err := s.in.r.Peek(1)
		var timeout net.Error
		switch {
		case err == nil:
			if early := s.early(); early != nil {
				return early
			}
			return fail(Deferred, CauseProtocol, nil, "the server began to answer before the message was over, and made no sense")
		case !errors.As(err, &timeout) || !timeout.Timeout() || ctx.Err() != nil:
			return s.lost(ctx, err, "the connection ended before the end of the message")
		case time.Since(began) < 2*look || try == 5:
			return nil
		} // so late that the time may have been over before anybody looked
	}
}

// early reads the answer of a server that gives one before the final dot has left; nil when it gives none. One that says that it has
// taken the message breaks the rules and may be believed all the same: it is not sent again without a word.
func (s *session) early() error {
	_ = s.conn.SetDeadline(time.Now().Add(time.Second))
	reply, err := s.in.read()
	if err != nil {
		return nil
	}
	s.last = reply
	switch reply.class() {
	case 4, 5:
		return s.judge(reply)
	case 2:
		return fail(Unknown, CauseProtocol, nil, "the server answered %d before the message was over: it may have taken what it had", reply.Code)
	}
	return fail(Deferred, CauseProtocol, nil, "the server answered %d before the message was over", reply.Code)
}

// dot ends the message and waits for the answer, whatever ctx says. From here on silence means that the outcome is
// unknown. spec: RFC5321 §4.1.1.4
func (s *session) dot(ctx context.Context) error {
	s.enter(PhaseDot)
	s.last = nil
	if err := s.conn.SetDeadline(time.Now().Add(s.t.Dot)); err != nil {
		return fail(Deferred, CauseNetwork, err, "the connection ended before the end of the message: %v", err)
	}
	s.unended(false)
	if _, err := io.WriteString(s.conn, ".\r\n"); err != nil {
		s.unended(true)
		return s.undotted(context.WithoutCancel(ctx), err)
	}
	reply, err := s.in.read()
	var nonsense *ReplyError
	switch {
	case errors.As(err, &nonsense):
		return fail(Unknown, CauseProtocol, err, "the answer to the message cannot be read: %v", err)
	case err != nil:
		return fail(Unknown, CauseNetwork, err, "the message was sent to its end and no answer came: %v", err)
	}
	s.last = reply
	switch reply.class() {
	case 2:
		return nil
	case 4, 5:
		if more := s.leave(); more != nil && more.class() == 2 && more.Code != 221 {
			return fail(Unknown, CauseProtocol, nil, "the server answered the message twice: %d %s, then %d %s", reply.Code, reply.Text(), more.Code, more.Text())
		}
		return s.judge(reply)
	}
	return fail(Unknown, CauseProtocol, nil, "the answer to the message makes no sense: %d %s", reply.Code, reply.Text())
}

// undotted is a final dot that could not be written. It is three bytes, so one record of TLS, and that is one write: what the kernel did
// not take whole is no record, which nobody can open, and of a connection that is gone nothing leaves any more. Nobody has read the dot
// then, and the message is tried again. Where the kernel says anything else, as when the time is over, that is not known for certain.
// spec: RFC8446 §5.1, §5.2; RFC5246 §6.2.3
func (s *session) undotted(ctx context.Context, err error) error {
	if early := s.early(); early != nil { // what a server says that was here before it went
		return early
	}
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ETIMEDOUT) {
		return s.lost(ctx, err, "the connection ended before the end of the message")
	}
	return fail(Unknown, CauseNetwork, err, "the end of the message could not be handed over whole: %v", err)
}

// leave says goodbye, once, and gives the answer; nil for none.
func (s *session) leave() *Reply {
	if s.left {
		return nil
	}
	s.left = true
	_ = s.conn.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := io.WriteString(s.conn, "QUIT\r\n"); err != nil {
		return nil
	}
	reply, err := s.in.read()
	if err != nil {
		return nil
	}
	return reply
}

// close says goodbye when that makes sense and ends the connection.
func (s *session) close() {
	if s.conn == nil {
		return
	}
	if s.in != nil && !s.open && s.phase != PhaseTLS && s.res.Err == nil {
		s.leave() // whatever it answers: the result stands
	}
	if s.release != nil {
		s.release()
	}
	if s.open {
		_ = s.raw.Close() // without the goodbye of TLS, which would be an end
		return
	}
	_ = s.conn.Close() // everything that matters has been read
}

// deadline gives the next step its time, unless ctx has ended.
func (s *session) deadline(ctx context.Context, d time.Duration) error {
	if err := s.conn.SetDeadline(time.Now().Add(d)); err != nil {
		return s.lost(ctx, err, "the connection is gone")
	}
	if ctx.Err() != nil { // it may have ended before the new deadline was set
		return fail(Deferred, CauseStopped, context.Cause(ctx), "stopped in phase %s", s.phase)
	}
	return nil
}

// command sends a line and expects a code. The line is never part of an error: it may be a password.
func (s *session) command(ctx context.Context, d time.Duration, want int, line string) error {
	if s.in.pending() {
		return fail(Deferred, CauseProtocol, nil, "the server says more than it is asked (phase %s)", s.phase)
	}
	if err := s.deadline(ctx, d); err != nil {
		return err
	}
	if _, err := io.WriteString(s.conn, line+"\r\n"); err != nil {
		return s.lost(ctx, err, "the connection ended")
	}
	return s.expect(ctx, d, want)
}

// expect reads an answer.
func (s *session) expect(ctx context.Context, d time.Duration, want int) error {
	if err := s.deadline(ctx, d); err != nil {
		return err
	}
	reply, err := s.in.read()
	var nonsense *ReplyError
	switch {
	case errors.As(err, &nonsense):
		return fail(Deferred, CauseProtocol, err, "phase %s: %v", s.phase, err)
	case err != nil:
		return s.lost(ctx, err, "no answer")
	}
	s.last = reply
	if reply.Code == want {
		return nil
	}
	return s.judge(reply)
}

// lost is a connection that failed before the final dot: nothing was sent.
func (s *session) lost(ctx context.Context, err error, what string) error {
	if ctx.Err() != nil {
		return fail(Deferred, CauseStopped, context.Cause(ctx), "stopped in phase %s", s.phase)
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return fail(Deferred, CauseNetwork, err, "%s: the server was silent for too long (phase %s)", what, s.phase)
	}
	return fail(Deferred, CauseNetwork, err, "%s (phase %s): %s", what, s.phase, clean(fmt.Sprint(err), 300))
}
