// Package pop3 reads mailboxes over POP3: log in, list, stream messages. spec: RFC1939
//
// It refuses to delete (it has no DELE) and to connect without TLS. POP3 has one folder and no
// numbering that lasts: who reads with it goes by unique ids and by what the bytes are.
package pop3

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// ServerError is an answer -ERR.
type ServerError struct{ Command, Text string }

func (e *ServerError) Error() string {
	return fmt.Sprintf("pop3: %s answered -ERR %s", e.Command, e.Text)
}

// ErrProtocol: the server wrote something that is no POP3.
var ErrProtocol = errors.New("pop3: the server does not keep to the protocol")

const (
	maxLine    = 8 << 10
	maxEntries = 5_000_000
)

// Client is one connection, used by one goroutine at a time.
type Client struct {
	conn    *timedConn
	r       *bufio.Reader
	stopped func() bool
}

type timedConn struct {
	net.Conn
	silence time.Duration
}

func (c *timedConn) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.silence)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *timedConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.silence)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// Dial connects with TLS from the first byte and reads the greeting. The end of ctx cuts the connection.
func Dial(ctx context.Context, by *net.Dialer, address string, conf *tls.Config, silence time.Duration) (*Client, error) {
	dialer := &tls.Dialer{NetDialer: by, Config: conf}
	dialCtx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	conn, err := dialer.DialContext(dialCtx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("pop3: %w", err)
	}
	return New(ctx, conn, silence)
}

// New takes over a connection and reads the greeting.
func New(ctx context.Context, conn net.Conn, silence time.Duration) (*Client, error) {
	timed := &timedConn{Conn: conn, silence: silence}
	c := &Client{conn: timed, r: bufio.NewReaderSize(timed, 32<<10)}
	c.stopped = context.AfterFunc(ctx, func() { _ = conn.Close() })
	_, err := c.answer("the server")
	if errors.Is(err, ErrProtocol) {
		err = fmt.Errorf("%w: this is no POP3", err)
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// Close cuts the connection.
func (c *Client) Close() error {
	c.stopped()
	return c.conn.Close()
}

// Quit says goodbye and closes.
func (c *Client) Quit() error {
	_, err := c.call("QUIT", "")
	return errors.Join(err, c.Close())
}

func (c *Client) line() (string, error) {
	var b []byte
	for {
		part, err := c.r.ReadSlice('\n')
		b = append(b, part...)
		if err == nil {
			return strings.TrimRight(string(b), "\r\n"), nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) || len(b) > maxLine {
			if errors.Is(err, bufio.ErrBufferFull) {
				return "", fmt.Errorf("%w: a line of more than %d bytes", ErrProtocol, maxLine)
			}
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return "", fmt.Errorf("pop3: %w", err)
		}
	}
}

func (c *Client) answer(command string) (string, error) {
	l, err := c.line()
	if err != nil {
		return "", err
	}
	switch {
	case strings.HasPrefix(l, "+OK"):
		return strings.TrimSpace(l[3:]), nil
	case strings.HasPrefix(l, "-ERR"):
		text := strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f {
				return -1
			}
			return r
		}, strings.ToValidUTF8(strings.TrimSpace(l[4:]), "?"))
		return "", &ServerError{Command: command, Text: text[:min(len(text), 1000)]}
	}
	return "", fmt.Errorf("%w: %.40q where an answer has to be", ErrProtocol, l)
}

func (c *Client) call(command, argument string) (string, error) {
	l := command
	if argument != "" {
		l += " " + argument
	}
	_, err := c.conn.Write([]byte(l + "\r\n"))
	if err != nil {
		return "", fmt.Errorf("pop3: %s: %w", command, err)
	}
	return c.answer(command)
}

// Login gives the credentials. They are written to the connection and nowhere else.
func (c *Client) Login(username, password string) error {
	if strings.ContainsAny(username+password, "\r\n\x00") {
		return &ServerError{Command: "USER", Text: "a name or a password with line ends cannot be sent"}
	}
	_, err := c.call("USER", username)
	if err != nil {
		return err
	}
	_, err = c.call("PASS", password)
	return err
}

// Entry is a message of the session.
type Entry struct {
	Number int    // of this session only
	UID    string // "" when the server has no unique ids
	Size   int64
}

// List gives the messages in order.
func (c *Client) List() ([]Entry, error) {
	var out []Entry
	byNumber := map[int]int{}
	err := c.lines("LIST", func(number int, rest string) error {
		size, err := strconv.ParseInt(rest, 10, 64)
		if err != nil {
			return fmt.Errorf("%w: %.30q is no size", ErrProtocol, rest)
		}
		byNumber[number] = len(out)
		out = append(out, Entry{Number: number, Size: size})
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = c.lines("UIDL", func(number int, uid string) error {
		if at, ok := byNumber[number]; ok {
			out[at].UID = uid
		}
		return nil
	})
	var refused *ServerError
	if errors.As(err, &refused) { // UIDL is optional. spec: RFC1939 §7
		return out, nil
	}
	return out, err
}

func (c *Client) lines(command string, fn func(number int, rest string) error) error {
	_, err := c.call(command, "")
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		l, err := c.line()
		if err != nil {
			return err
		}
		if l == "." {
			return nil
		}
		if n >= maxEntries {
			return fmt.Errorf("%w: more than %d messages", ErrProtocol, maxEntries)
		}
		word, rest, _ := strings.Cut(strings.TrimSpace(l), " ")
		number, err := strconv.Atoi(word)
		if err != nil {
			return fmt.Errorf("%w: %.40q in the answer to %s", ErrProtocol, l, command)
		}
		// Some servers write more behind the size or the id.
		rest, _, _ = strings.Cut(strings.TrimSpace(rest), " ")
		err = fn(number, rest)
		if err != nil {
			return err
		}
	}
}

// maxHeader bounds the header that is read to tell one message from another.
const maxHeader = 4 << 20

// Header gives the SHA-256 of a message's header, without its body. TOP is optional: a server may refuse it.
// spec: RFC1939 §7 (TOP)
func (c *Client) Header(number int) ([]byte, error) {
	_, err := c.call("TOP", strconv.Itoa(number)+" 0")
	if err != nil {
		return nil, err
	}
	body := &dotReader{r: c.r, start: true}
	text, err := io.ReadAll(io.LimitReader(body, maxHeader))
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, body)
	return HeaderSum(text), err
}

// HeaderSum is what Header gives, of a message that was fetched.
func HeaderSum(message []byte) []byte {
	if end := bytes.Index(message, []byte("\r\n\r\n")); end >= 0 {
		message = message[:end]
	}
	sum := sha256.Sum256(bytes.TrimRight(message[:min(len(message), maxHeader)], "\r\n"))
	return sum[:]
}

// Retrieve streams a message, dots taken off, line ends CRLF as they travel. fn may leave bytes.
func (c *Client) Retrieve(number int, fn func(r io.Reader) error) error {
	_, err := c.call("RETR", strconv.Itoa(number))
	if err != nil {
		return err
	}
	body := &dotReader{r: c.r, start: true}
	err = fn(body)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, body)
	return err
}

// dotReader ends at a line with a dot alone and takes the first dot off other lines. spec: RFC1939 §3
type dotReader struct {
	r     *bufio.Reader
	buf   []byte
	start bool // of a line
	end   bool
}

func (d *dotReader) Read(p []byte) (int, error) {
	for len(d.buf) == 0 {
		if d.end {
			return 0, io.EOF
		}
		part, err := d.r.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return 0, fmt.Errorf("pop3: %w", err)
		}
		if d.start && bytes.HasPrefix(part, []byte(".")) {
			if l := bytes.TrimRight(part, "\r\n"); err == nil && len(l) == 1 {
				d.end = true
				return 0, io.EOF
			}
			part = part[1:]
		}
		d.start = err == nil
		d.buf = part // stands until the next read, which comes when it is used up
	}
	n := copy(p, d.buf)
	d.buf = d.buf[n:]
	return n, nil
}
