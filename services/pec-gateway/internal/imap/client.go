package imap

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// ServerError is a refusal: the server understood and answered NO, BAD or BYE.
type ServerError struct {
	Command string // first word of the command; "" for a greeting or an unasked BYE
	Status  string // NO, BAD, BYE
	Code    string // response code such as AUTHENTICATIONFAILED, OVERQUOTA; upper case
	Text    string
}

func (e *ServerError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("imap: %s answered %s %s", orGreeting(e.Command), e.Status, e.Text))
}

func orGreeting(command string) string {
	if command == "" {
		return "the server"
	}
	return command
}

// ErrProtocol: the server wrote something that is no IMAP. The connection is of no use any more.
var ErrProtocol = errors.New("imap: the server does not keep to the protocol")

// Refused says whether err is a NO to a command: the connection can go on.
func Refused(err error) bool {
	var e *ServerError
	return errors.As(err, &e) && e.Status == "NO"
}

// Client is one connection. It is used by one goroutine at a time; after an error other than a NO it
// is only good for Close.
type Client struct {
	conn    *timedConn
	r       *bufio.Reader
	tag     int
	caps    map[string]bool
	exists  bool // an EXISTS came
	stopped func() bool
}

// timedConn gives each read and write its own deadline: a server may take long, but not be silent long.
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

// Dial connects with TLS from the first byte and reads the greeting. silence is the longest pause of
// the server. The end of ctx cuts the connection.
func Dial(ctx context.Context, by *net.Dialer, address string, conf *tls.Config, silence time.Duration) (*Client, error) {
	dialer := &tls.Dialer{NetDialer: by, Config: conf}
	dialCtx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	conn, err := dialer.DialContext(dialCtx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("imap: %w", err)
	}
	return New(ctx, conn, silence)
}

// New takes over a connection and reads the greeting.
func New(ctx context.Context, conn net.Conn, silence time.Duration) (*Client, error) {
	timed := &timedConn{Conn: conn, silence: silence}
	c := &Client{conn: timed, r: bufio.NewReaderSize(timed, 32<<10)}
	c.stopped = context.AfterFunc(ctx, func() { _ = conn.Close() })
	err := c.greeting()
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

// Logout says goodbye and closes.
func (c *Client) Logout() error {
	err := c.run("LOGOUT", "", nil)
	return errors.Join(err, c.Close())
}

func (c *Client) greeting() error {
	begin, err := c.r.Peek(1)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("imap: %w", err)
	}
	if begin[0] != '*' {
		begin, _ = c.r.Peek(min(c.r.Buffered(), 60)) // they are there
		return fmt.Errorf("%w: it greets with %q, which is no IMAP", ErrProtocol, begin)
	}
	p, err := c.next()
	if err != nil {
		return err
	}
	status := strings.ToUpper(p.word())
	if p.tag != "*" || (status != "OK" && status != "PREAUTH") {
		return c.refusal("", status, p)
	}
	c.code(p)
	return p.rest()
}

// Login gives the credentials. They are written to the connection and nowhere else.
func (c *Client) Login(username, password string) error {
	err := c.run("LOGIN", "", nil, username, password)
	if err != nil {
		return err
	}
	if c.caps == nil { // not said with the answer
		return c.run("CAPABILITY", "", nil)
	}
	return nil
}

// Has says whether the server can do something, such as IDLE.
func (c *Client) Has(capability string) bool { return c.caps[strings.ToUpper(capability)] }

// Noop asks for news and keeps the connection alive.
func (c *Client) Noop() error { return c.run("NOOP", "", nil) }

// run sends a command and reads until its answer. args after the text are strings, sent quoted or as
// literals. untagged is asked about each untagged response that the client itself does not keep.
func (c *Client) run(command, text string, untagged func(name string, number uint32, p *response) error, args ...string) error {
	tag, err := c.send(command, text, args)
	if err != nil {
		return err
	}
	return c.await(tag, command, untagged)
}

func (c *Client) send(command, text string, args []string) (tag string, err error) {
	c.tag++
	tag = "a" + strconv.Itoa(c.tag)
	line := tag + " " + command
	if text != "" {
		line += " " + text
	}
	for _, a := range args {
		if quotable(a) {
			line += " " + quote(a)
			continue
		}
		// A literal waits for the server's leave. spec: RFC3501 §4.3
		_, err = fmt.Fprintf(c.conn, "%s {%d}\r\n", line, len(a))
		if err != nil {
			return tag, fmt.Errorf("imap: %s: %w", command, err)
		}
		err = c.leave(tag, command)
		if err != nil {
			return tag, err
		}
		line = a
	}
	_, err = c.conn.Write([]byte(line + "\r\n"))
	if err != nil {
		return tag, fmt.Errorf("imap: %s: %w", command, err)
	}
	return tag, nil
}

// leave reads until the server says that more may come.
func (c *Client) leave(tag, command string) error {
	for {
		p, err := c.next()
		if err != nil {
			return err
		}
		switch p.tag {
		case "+":
			return p.rest()
		case tag:
			return c.refusal(command, strings.ToUpper(p.word()), p)
		}
		err = c.unasked(command, p, nil)
		if err != nil {
			return err
		}
	}
}

// await reads until the answer to a command.
func (c *Client) await(tag, command string, untagged func(name string, number uint32, p *response) error) error {
	for {
		p, err := c.next()
		if err != nil {
			return err
		}
		switch p.tag {
		case tag:
			status := strings.ToUpper(p.word())
			if status != "OK" {
				return c.refusal(command, status, p)
			}
			c.code(p)
			return p.rest()
		case "*":
			err = c.unasked(command, p, untagged)
			if err != nil {
				return err
			}
		default:
			return fmt.Errorf("%w: an answer to %.20q, which was not asked", ErrProtocol, p.tag)
		}
	}
}

// unasked takes an untagged response.
func (c *Client) unasked(command string, p *response, untagged func(name string, number uint32, p *response) error) error {
	word := strings.ToUpper(p.word())
	var number uint32
	if n, err := strconv.ParseUint(word, 10, 32); err == nil {
		number = uint32(n)
		word = strings.ToUpper(p.word())
	}
	switch word {
	case "BYE":
		if command == "LOGOUT" {
			return p.rest()
		}
		return c.refusal("", "BYE", p)
	case "CAPABILITY":
		c.caps = map[string]bool{}
		for w := p.word(); w != ""; w = p.word() {
			c.caps[strings.ToUpper(w)] = true
		}
		return p.rest()
	case "OK":
		if untagged != nil {
			return firstError(untagged(word, number, p), p)
		}
		c.code(p)
	case "EXISTS":
		c.exists = true
		if untagged != nil {
			return firstError(untagged(word, number, p), p)
		}
	default:
		if untagged != nil {
			return firstError(untagged(word, number, p), p)
		}
	}
	return p.rest()
}

func firstError(err error, p *response) error {
	if err != nil {
		return err
	}
	return p.rest()
}

// refusal makes the error of a NO, BAD or BYE.
func (c *Client) refusal(command, status string, p *response) error {
	switch status {
	case "NO", "BAD", "BYE":
	default:
		return fmt.Errorf("%w: %.40q where an answer has to be", ErrProtocol, status)
	}
	code := p.respCode()
	text := p.text()
	if err := p.rest(); err != nil {
		return err
	}
	return &ServerError{Command: command, Status: status, Code: code, Text: text}
}

// code keeps a CAPABILITY that comes as a response code.
func (c *Client) code(p *response) {
	code := p.respCode()
	name, list, _ := strings.Cut(code, " ")
	if name != "CAPABILITY" {
		return
	}
	c.caps = map[string]bool{}
	for _, w := range strings.Fields(list) {
		c.caps[w] = true
	}
}

// quotable: what may stand between quotes. spec: RFC3501 §9 QUOTED-CHAR
func quotable(s string) bool {
	return len(s) < 1000 && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
