package pec

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/emersion/go-imap/v2/imapserver"
)

// quotaListener takes connections on which a mailbox tells how much room it has. The library behind does not know the commands
// of RFC 2087, and has no way to add one.
type quotaListener struct{ net.Listener }

func (l quotaListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &quotaConn{Conn: c, in: bufio.NewReaderSize(c, 16<<10)}, nil
}

// quotaConn is one connection, read and written a line at a time. A question for room goes on to the server as NOOP, and what it
// asked for is put before the answer to that, so everything stays in its order. What stands in literals is nobody's command and passes as
// it is. Capabilities get QUOTA once somebody is logged in. spec: RFC2087 §4.2, §4.3, §5.1, §5.2; RFC3501 §4.3
type quotaConn struct {
	net.Conn
	mb atomic.Pointer[mailbox] // whose; nil before the login

	in      *bufio.Reader // from the client
	ready   []byte        // to be handed to the server
	literal int64         // bytes of a literal that are still to come
	inside  bool          // in the middle of a command: after a literal, or of a line that is too long
	asked   atomic.Pointer[quotaAsked]

	out  []byte // of the server, the beginning of a line
	skip int64  // bytes of a literal of the server that are still to come
}

// quotaAsked is a question that the server is answering as NOOP.
type quotaAsked struct{ tag, command, root string }

// Read gives the server what the client says.
func (c *quotaConn) Read(p []byte) (int, error) {
	if len(c.ready) > 0 {
		n := copy(p, c.ready)
		c.ready = c.ready[n:]
		return n, nil
	}
	if c.literal > 0 {
		n, err := c.in.Read(p[:min(int64(len(p)), c.literal)])
		c.literal -= int64(n)
		return n, err
	}
	line, err := c.in.ReadSlice('\n')
	if !c.inside && err == nil {
		line = c.command(line)
	}
	c.literal = literalAt(line)
	c.inside = c.literal > 0 || err == bufio.ErrBufferFull //nolint:errorlint // as it is given
	c.ready = bytes.Clone(line)
	if len(c.ready) > 0 {
		return c.Read(p)
	}
	return 0, err
}

// command looks at a whole line that begins a command, and gives what the server is to read in its place.
func (c *quotaConn) command(line []byte) []byte {
	words := strings.Fields(string(line))
	if len(words) != 3 || c.mb.Load() == nil {
		return line
	}
	q := &quotaAsked{tag: words[0], command: strings.ToUpper(words[1])}
	switch q.command {
	case "GETQUOTAROOT":
		q.root = words[2]
	case "GETQUOTA":
	default:
		return line
	}
	c.asked.Store(q)
	return []byte(q.tag + " NOOP\r\n")
}

// literalAt gives the length of the literal that a line announces, 0 for none.
func literalAt(line []byte) int64 {
	line = bytes.TrimRight(line, "\r\n")
	i := bytes.LastIndexByte(line, '{')
	if i < 0 || line[len(line)-1] != '}' {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSuffix(string(line[i+1:len(line)-1]), "+"), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// Write hands on what the server says.
func (c *quotaConn) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		if c.skip > 0 {
			n, err := c.Conn.Write(rest[:min(int64(len(rest)), c.skip)])
			c.skip -= int64(n)
			if err != nil {
				return 0, err
			}
			rest = rest[n:]
			continue
		}
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			c.out = append(c.out, rest...)
			break
		}
		line := append(c.out, rest[:i+1]...)
		rest, c.out = rest[i+1:], nil
		c.skip = literalAt(line)
		if _, err := c.Conn.Write(c.answer(line)); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// answer puts into a line of the server what it does not say itself.
func (c *quotaConn) answer(line []byte) []byte {
	mb := c.mb.Load()
	if mb == nil {
		return line
	}
	if text, ok := bytes.CutSuffix(line, []byte("\r\n")); ok && bytes.HasPrefix(line, []byte("* CAPABILITY ")) {
		return append(bytes.Clone(text), " QUOTA\r\n"...)
	}
	if before, after, ok := bytes.Cut(line, []byte(" OK [CAPABILITY ")); ok && !bytes.ContainsAny(before, " *") {
		list, rest, _ := bytes.Cut(after, []byte("]"))
		return fmt.Appendf(nil, "%s OK [CAPABILITY %s QUOTA]%s", before, list, rest)
	}
	q := c.asked.Load()
	if q == nil || !bytes.HasPrefix(line, []byte(q.tag+" OK ")) {
		return line
	}
	c.asked.Store(nil)
	var out []byte
	if q.root != "" {
		out = fmt.Appendf(out, "* QUOTAROOT %s \"\"\r\n", q.root)
	}
	mb.mu.Lock()
	defer mb.mu.Unlock()
	// In units of 1024 bytes, what is begun counted whole: a mailbox that is full says so.
	out = fmt.Appendf(out, "* QUOTA \"\" (STORAGE %d %d)\r\n", (mb.used+1023)>>10, (mb.quota+1023)>>10)
	return fmt.Appendf(out, "%s OK %s completed\r\n", q.tag, q.command)
}

// tellsRoom has a connection tell of a mailbox from here on.
func tellsRoom(conn *imapserver.Conn, mb *mailbox) {
	if c, ok := conn.NetConn().(*quotaConn); ok {
		c.mb.Store(mb)
	}
}
