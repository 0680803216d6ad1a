package pec

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"ceralacca.dev/services/sandbox/client"
)

const (
	popIdle = 10 * time.Minute
	popLine = 512
)

// popServer is POP3 over TLS: the INBOX alone, deletions at QUIT. spec: RFC1939, RFC2449
type popServer struct {
	w *World

	mu    sync.Mutex
	l     net.Listener
	conns map[net.Conn]bool
	gone  sync.WaitGroup
}

func (p *popServer) serve(l net.Listener) {
	p.mu.Lock()
	p.l, p.conns = l, map[net.Conn]bool{}
	p.mu.Unlock()
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		if p.conns == nil {
			p.mu.Unlock()
			_ = c.Close()
			return
		}
		p.conns[c] = true
		p.gone.Add(1)
		p.mu.Unlock()
		go func() {
			defer p.gone.Done()
			(&popSession{w: p.w, c: c, r: bufio.NewReaderSize(c, popLine)}).run()
			_ = c.Close()
			p.mu.Lock()
			delete(p.conns, c)
			p.mu.Unlock()
		}()
	}
}

func (p *popServer) close() {
	p.mu.Lock()
	if p.l != nil {
		_ = p.l.Close()
	}
	for c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
	p.mu.Unlock()
	p.gone.Wait()
}

type popSession struct {
	w    *World
	c    net.Conn
	r    *bufio.Reader
	user string
	mb   *mailbox
	list []*letter
	uidl []string
	dele map[int]bool
}

func (s *popSession) say(format string, args ...any) bool {
	_, err := fmt.Fprintf(s.c, format+"\r\n", args...)
	return err == nil
}

// text writes a multi-line answer, dots doubled. spec: RFC1939 §3
func (s *popSession) text(head string, body []byte) bool {
	var b bytes.Buffer
	b.WriteString(head + "\r\n")
	for line := range bytes.SplitAfterSeq(body, []byte("\n")) {
		if bytes.HasPrefix(line, []byte(".")) {
			b.WriteByte('.')
		}
		b.Write(line)
	}
	if len(body) > 0 && !bytes.HasSuffix(body, []byte("\n")) {
		b.WriteString("\r\n")
	}
	b.WriteString(".\r\n")
	_, err := s.c.Write(b.Bytes())
	return err == nil
}

func (s *popSession) run() {
	if !s.say("+OK SANDBOX - NOT VALID") {
		return
	}
	for {
		_ = s.c.SetDeadline(time.Now().Add(popIdle)) // a deadline of the socket: real time
		line, err := s.r.ReadSlice('\n')
		if err != nil {
			return
		}
		cmd, arg, _ := strings.Cut(strings.TrimRight(string(line), "\r\n"), " ")
		cmd = strings.ToUpper(cmd)
		if cmd == "QUIT" {
			s.quit()
			return
		}
		if s.mb == nil {
			if !s.before(cmd, arg) {
				return
			}
			continue
		}
		if !s.command(cmd, arg) {
			return
		}
	}
}

// before is the state of authorization.
func (s *popSession) before(cmd, arg string) bool {
	switch cmd {
	case "CAPA":
		return s.text("+OK", []byte("USER\r\nUIDL\r\nTOP\r\n"))
	case "USER":
		s.user = arg
		return s.say("+OK")
	case "PASS":
		mb, ok := s.w.login(s.user, arg, "pop3")
		if !ok {
			return s.say("-ERR [AUTH] authentication failed")
		}
		s.mb, s.dele = mb, map[int]bool{}
		mb.mu.Lock()
		f := mb.folders[inbox]
		for _, l := range f.letters {
			s.list = append(s.list, l)
			s.uidl = append(s.uidl, fmt.Sprintf("%d.%d", f.validity, l.uid))
		}
		mb.mu.Unlock()
		return s.say("+OK %d messages", len(s.list))
	}
	return s.say("-ERR log in first")
}

// number reads a message number of the client; 0 when it is none.
func (s *popSession) number(arg string) int {
	n, err := strconv.Atoi(strings.TrimSpace(arg))
	if err != nil || n < 1 || n > len(s.list) || s.dele[n] {
		return 0
	}
	return n
}

// command is the state of transaction.
func (s *popSession) command(cmd, arg string) bool {
	switch cmd {
	case "CAPA":
		return s.text("+OK", []byte("USER\r\nUIDL\r\nTOP\r\n"))
	case "NOOP":
		return s.say("+OK")
	case "RSET":
		s.dele = map[int]bool{}
		return s.say("+OK")
	case "STAT":
		n, size := 0, 0
		for i, l := range s.list {
			if !s.dele[i+1] {
				n++
				size += len(l.raw)
			}
		}
		return s.say("+OK %d %d", n, size)
	case "LIST":
		return s.each(arg, func(i int) string { return strconv.Itoa(len(s.list[i].raw)) })
	case "UIDL":
		return s.each(arg, func(i int) string { return s.uidl[i] })
	}
	first, rest, _ := strings.Cut(strings.TrimSpace(arg), " ")
	n := s.number(first)
	if n == 0 {
		return s.say("-ERR no such command or message")
	}
	switch cmd {
	case "RETR":
		return s.text("+OK", s.list[n-1].raw)
	case "TOP":
		lines, err := strconv.Atoi(rest)
		if err != nil || lines < 0 {
			return s.say("-ERR TOP wants a number of lines")
		}
		return s.text("+OK", top(s.list[n-1].raw, lines))
	case "DELE":
		s.dele[n] = true
		return s.say("+OK")
	}
	return s.say("-ERR no such command")
}

func (s *popSession) each(arg string, show func(i int) string) bool {
	if arg != "" {
		n := s.number(arg)
		if n == 0 {
			return s.say("-ERR no such message")
		}
		return s.say("+OK %d %s", n, show(n-1))
	}
	var b bytes.Buffer
	for i := range s.list {
		if !s.dele[i+1] {
			fmt.Fprintf(&b, "%d %s\r\n", i+1, show(i))
		}
	}
	return s.text("+OK", b.Bytes())
}

func top(raw []byte, lines int) []byte {
	i := bytes.Index(raw, []byte("\r\n\r\n"))
	if i < 0 {
		return raw
	}
	i += 4
	for ; lines > 0; lines-- {
		j := bytes.IndexByte(raw[i:], '\n')
		if j < 0 {
			return raw
		}
		i += j + 1
	}
	return raw[:i]
}

// quit makes deletions real.
func (s *popSession) quit() {
	if s.mb != nil && len(s.dele) > 0 {
		gone := map[int]bool{}
		for n := range s.dele {
			gone[s.list[n-1].id] = true
		}
		s.mb.mu.Lock()
		s.mb.expunge(s.mb.folders[inbox], func(l *letter) bool { return gone[l.id] })
		s.mb.mu.Unlock()
	}
	s.say("+OK")
}

// Listeners opens a listener for each server; the names are for messages.
type Listeners func(ctx context.Context, name string) (net.Listener, error)

func addresses(ls map[string]net.Listener) client.PEC {
	return client.PEC{
		SMTPSAddr: ls[SMTPS].Addr().String(), SubmissionAddr: ls[Submission].Addr().String(), IMAPSAddr: ls[IMAPS].Addr().String(),
		POP3SAddr: ls[POP3S].Addr().String(), MXAddr: ls[MX].Addr().String(),
	}
}
