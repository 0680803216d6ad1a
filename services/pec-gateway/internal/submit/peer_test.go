package submit_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/pec-gateway/internal/submit"
)

// Words of a script in place of an answer.
const (
	cut  = "\x00cut"  // close the connection instead of answering
	hang = "\x00hang" // never answer
)

// peer is an SMTP server over TLS that answers by a script: word of the command (CONNECT, EHLO, AUTH,
// MAIL, RCPT, RCPT 3, DATA, BODY, DOT) -> answer. It counts the messages whose final dot it saw.
type peer struct {
	t        *testing.T
	addr     string
	roots    *x509.CertPool
	root     []byte // what is in them, DER
	script   map[string]string
	clear    bool // begins without TLS
	bodyPart int  // BODY is played after so many bytes
	sloppy   bool // takes an end of the connection for the end of the message
	counts   bool // takes the message when so many bytes are there as MAIL announced
	all      bool // counts the dots too that are doubled on the way
	deaf     bool // says in the content that it has the message, and reads nothing more

	mu    sync.Mutex
	ended [][]byte // content with a final dot, dots undone
	lines []string // commands
	conns []net.Conn
	voice net.Conn // of the last connection, inside TLS
	read  int      // bytes of content of the last connection
	done  sync.WaitGroup
	busy  sync.WaitGroup // with connections
}

// certificate makes a self-signed authority that is the server's certificate too.
func certificate(t *testing.T, name string, from, to time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: to, DNSNames: []string{name},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func newPeer(t *testing.T, script map[string]string) *peer {
	t.Helper()
	now := time.Now()
	return newPeerWith(t, script, &tls.Config{Certificates: []tls.Certificate{certificate(t, "localhost", now.Add(-time.Hour), now.Add(time.Hour))}}, false)
}

func newPeerWith(t *testing.T, script map[string]string, conf *tls.Config, clear bool) *peer {
	t.Helper()
	p := &peer{t: t, roots: x509.NewCertPool(), script: script, clear: clear, bodyPart: 100}
	root, err := x509.ParseCertificate(conf.Certificates[0].Certificate[0])
	require.NoError(t, err)
	p.roots.AddCert(root)
	p.root = root.Raw
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p.addr = l.Addr().String()
	p.done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.conns = append(p.conns, c)
			p.mu.Unlock()
			p.busy.Go(func() { p.serve(c, conf) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		for _, c := range p.conns {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.done.Wait()
		p.busy.Wait()
	})
	return p
}

func (p *peer) serve(c net.Conn, conf *tls.Config) {
	if p.script["TLS"] == cut {
		_, _ = c.Read(make([]byte, 10))
		_ = c.Close()
		return
	}
	if !p.clear {
		c = tls.Server(c, conf)
	}
	defer func() { _ = c.Close() }()
	in := bufio.NewReader(c)
	p.speaks(c)
	// answer plays one step and says whether the conversation goes on.
	answer := func(fallback string, words ...string) bool {
		reply := fallback
		for _, w := range words {
			if r, ok := p.script[w]; ok {
				reply = r
			}
		}
		switch reply {
		case cut:
			return false
		case hang:
			_, _ = io.Copy(io.Discard, in)
			return false
		}
		_, err := io.WriteString(c, strings.ReplaceAll(reply, "\n", "\r\n")+"\r\n")
		return err == nil && !strings.HasPrefix(reply, "421")
	}
	if !answer("220 peer", "CONNECT") {
		return
	}
	rcpt, size := 0, 0
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		verb, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		p.mu.Lock()
		p.lines = append(p.lines, strings.TrimSpace(line))
		p.mu.Unlock()
		var on bool
		switch verb {
		case "EHLO":
			on = answer("250-peer\n250-SIZE 1000000\n250-STARTTLS\n250 AUTH PLAIN LOGIN", "EHLO")
		case "STARTTLS":
			on = answer("220 go on", "STARTTLS")
			if on && p.script["STARTTLS"] == "" {
				t := tls.Server(c, conf)
				c, in = t, bufio.NewReader(t)
				p.speaks(c)
			}
		case "AUTH":
			on = answer("235 ok", "AUTH")
		case "MAIL":
			rcpt = 0
			_, text, _ := strings.Cut(strings.TrimSpace(line), "SIZE=")
			size, _ = strconv.Atoi(text)
			on = answer("250 ok", "MAIL")
		case "RCPT":
			rcpt++
			on = answer("250 ok", "RCPT", fmt.Sprintf("RCPT %d", rcpt))
		case "DATA":
			if on = answer("354 go on", "DATA"); on && p.script["DATA"] == "" {
				if !p.content(in, size, answer) {
					return
				}
				on = answer("250 ok", "DOT")
			}
		case "QUIT":
			answer("221 bye", "QUIT")
			return
		default:
			on = answer("250 ok", verb)
		}
		if !on {
			return
		}
	}
}

// content takes a message and gives false when the script ends it before the dot.
func (p *peer) content(in *bufio.Reader, size int, answer func(string, ...string) bool) bool {
	var got bytes.Buffer
	wire := 0
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			if p.sloppy && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) {
				p.take(append(got.Bytes(), line...))
			}
			return false // cut before the dot: dropped
		}
		if line == ".\r\n" {
			break
		}
		got.WriteString(strings.TrimPrefix(line, "."))
		wire += len(line)
		p.mu.Lock()
		p.read = got.Len()
		p.mu.Unlock()
		if _, ok := p.script["BODY"]; ok && got.Len() >= p.bodyPart {
			answer("", "BODY")
			return false
		}
		if p.deaf && got.Len() > 0 {
			answer("250 ok", "DOT")
			<-p.t.Context().Done()
			return false
		}
		if p.counts && (got.Len() == size || p.all && wire >= size) {
			p.take(got.Bytes())
			answer("250 ok", "DOT")
			return false
		}
	}
	p.take(got.Bytes())
	return true
}

func (p *peer) take(raw []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = append(p.ended, raw)
}

func (p *peer) speaks(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.voice = c
}

// say puts in words that nobody asked for.
func (p *peer) say(words string) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := io.WriteString(p.voice, words)
	require.NoError(p.t, err)
}

// has waits until so much content has arrived.
func (p *peer) has(n int) {
	p.t.Helper()
	require.Eventually(p.t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.read >= n
	}, 10*time.Second, time.Millisecond)
}

// rests waits until no connection is left, and gives what was taken.
func (p *peer) rests() [][]byte {
	p.busy.Wait()
	return p.taken()
}

// taken gives the messages that the server saw to their end.
func (p *peer) taken() [][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended
}

// hangUp ends the connections under everything that is being said on them.
func (p *peer) hangUp(reset bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		tcp := c.(*net.TCPConn) //nolint:forcetypeassert // it was accepted
		if reset {
			_ = tcp.SetLinger(0)
			_ = tcp.Close()
			continue
		}
		_ = tcp.CloseWrite()
	}
}

func (p *peer) said() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.lines...)
}

func (p *peer) server() submit.Server {
	return submit.Server{
		Address: strings.Replace(p.addr, "127.0.0.1", "localhost", 1), TLS: &tls.Config{RootCAs: p.roots}, StartTLS: p.clear,
		// No test waits for their end: they only have to be longer than a busy machine stops.
		Timeouts: submit.Timeouts{Command: 10 * time.Second, Data: 10 * time.Second, Dot: 10 * time.Second, TLS: 10 * time.Second},
	}
}

var login = submit.Credentials{User: "mittente@alfa.test", Password: "s3cret"}

func content(lines int) []byte {
	var b bytes.Buffer
	b.WriteString("From: mittente@alfa.test\r\nSubject: prova\r\n\r\n.first\r\n..second\r\n.\r\n")
	for range lines {
		b.WriteString("riga di testo, ripetuta\r\n")
	}
	return b.Bytes()
}

func message(raw []byte, to ...string) submit.Message {
	if len(to) == 0 {
		to = []string{"destinatario@beta.test"}
	}
	return submit.Message{From: "mittente@alfa.test", To: to, Size: int64(len(raw)), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(raw)), nil
	}}
}

func (p *peer) submit(msg submit.Message, hooks submit.Hooks) *submit.Result {
	p.t.Helper()
	return submit.Submit(context.Background(), p.server(), login, msg, hooks)
}
