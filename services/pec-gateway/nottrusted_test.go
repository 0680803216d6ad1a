package pecgateway_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
)

// front stands before a provider's server for sending with a TLS of its own, which changes when it is told.
type front struct {
	address string
	far     string
	trust   *tls.Config

	mu    sync.Mutex
	came  int         // connections
	conf  *tls.Config // nil: none is spoken
	clear []string    // what was said to it without TLS
	all   sync.WaitGroup
}

func newFront(t *testing.T, far string, roots []byte, conf *tls.Config) *front {
	t.Helper()
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(roots))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f := &front{address: "localhost:" + strconv.Itoa(l.Addr().(*net.TCPAddr).Port), far: far, conf: conf,
		trust: &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: tls.VersionTLS12}}
	f.all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f.all.Go(func() { f.carry(conn) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); f.all.Wait() })
	return f
}

// becomes changes what it shows to those who come.
func (f *front) becomes(conf *tls.Config) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conf = conf
}

// visited is how many connections there were.
func (f *front) visited() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.came
}

// inClear is what it was told without TLS.
func (f *front) inClear() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.clear)
}

func (f *front) carry(raw net.Conn) {
	defer func() { _ = raw.Close() }()
	f.mu.Lock()
	f.came++
	conf := f.conf
	f.mu.Unlock()
	if conf == nil {
		_, _ = io.WriteString(raw, "220 mail.alfa.test ESMTP\r\n")
		_ = raw.SetReadDeadline(time.Now().Add(time.Second))
		said, _ := io.ReadAll(raw)
		if len(said) > 0 && said[0] != 22 { // a handshake
			f.overheard(said)
		}
		return
	}
	near := tls.Server(raw, conf)
	if err := near.Handshake(); err != nil {
		var plain tls.RecordHeaderError
		if errors.As(err, &plain) {
			f.overheard(plain.RecordHeader[:])
		}
		return
	}
	far, err := tls.Dial("tcp", f.far, f.trust)
	if err != nil {
		return
	}
	defer func() { _ = far.Close() }()
	f.all.Go(func() {
		defer func() { _ = raw.Close() }()
		_, _ = io.Copy(near, far)
	})
	_, _ = io.Copy(far, near)
}

func (f *front) overheard(said []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clear = append(f.clear, string(said))
}

// authority issues certificates for servers, and for authorities under it.
type authority struct {
	t     *testing.T
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	chain [][]byte // itself and those above it but the root
}

func newAuthority(t *testing.T, name string, by *authority) *authority {
	t.Helper()
	now := time.Now()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a := &authority{t: t, key: key}
	parent, signer := c, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	require.NoError(t, err)
	a.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	if by != nil {
		a.chain = append([][]byte{der}, by.chain...)
	}
	return a
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// serves gives what a server of localhost shows; without its chain when bare.
func (a *authority) serves(bare bool) *tls.Config {
	a.t.Helper()
	now := time.Now()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, a.key)
	require.NoError(a.t, err)
	out := [][]byte{der}
	if !bare {
		out = append(out, a.chain...)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: out, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
}

// TestA14ServerThatIsNotTrusted: a server for sending whose certificate has expired, is not valid yet, is for another name, signed itself,
// comes from a stranger or without its intermediate authority, that speaks old TLS alone or none. After one attempt the queue is held, one
// alarm names the cause, the mailbox shows it, and nothing was ever said in the clear, not even the name of the mailbox. Once the server is
// as it should be the message leaves, once. A provider that changes its intermediate authority from one hour to the next is the same
// provider. TESTPLAN A14.
func TestA14ServerThatIsNotTrusted(t *testing.T) {
	t.Parallel()
	h := prepare(t, quickly)
	now := time.Now()
	root, stranger := newAuthority(t, "Radice", nil), newAuthority(t, "Radice sconosciuta", nil)
	one, two := newAuthority(t, "Intermedia uno", root), newAuthority(t, "Intermedia due", root)
	expired, first := selfSigned(t, "localhost", now.Add(-2*time.Hour), now.Add(-time.Hour))
	early, second := selfSigned(t, "localhost", now.Add(time.Hour), now.Add(2*time.Hour))
	other, third := selfSigned(t, "posta.alfa.test", now.Add(-time.Hour), now.Add(time.Hour))
	self, _ := selfSigned(t, "localhost", now.Add(-time.Hour), now.Add(time.Hour))
	old, older := one.serves(false), one.serves(false)
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	older.MinVersion, older.MaxVersion = tls.VersionTLS10, tls.VersionTLS10
	file := filepath.Join(h.opts.Dir, "ca.pem")
	trusted, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, slices.Concat(trusted, []byte("\n"), root.pem(), first, second, third), 0o600))
	h.start()
	h.believe()
	delivery := pecv1.NewPecDeliveryServiceClient(h.Tenant("pec-gateway", tenant))
	through := func(local string, conf *tls.Config) (*post, *front) {
		f := newFront(t, h.world.Endpoints().PEC.SMTPSAddr, h.world.CAPEM(), conf)
		address := local + "@alfa.test"
		m, err := h.api.CreateMailbox(t.Context(), &pecv1.CreateMailboxRequest{
			Parent: parent, Password: h.password(address), RequestId: uuid.NewString(), Untested: true,
			Mailbox: &pecv1.Mailbox{Address: address, Provider: "sandbox", Servers: &pecv1.MailboxServers{Smtp: f.address}},
		})
		require.NoError(t, err)
		return &post{house: h, box: m.GetName(), delivery: delivery}, f
	}
	counted := func(p *post) int {
		list, err := h.sandbox.PECSubmissions(t.Context(), p.mailbox().GetAddress())
		require.NoError(t, err)
		return len(list)
	}
	var boxes []*pecv1.Mailbox
	for _, c := range []struct {
		name, says string
		conf       *tls.Config
	}{
		{"scaduto", "has expired", expired},
		{"futuro", "not valid yet", early},
		{"altro-nome", "for another name", other},
		{"da-se", "CN=localhost signed it itself", self},
		{"sconosciuto", "not trusted: CN=Radice sconosciuta", stranger.serves(false)},
		{"senza-intermedia", "not trusted: CN=Intermedia uno", one.serves(true)},
		{"tls-1.0", "version", older},
		{"tls-1.1", "version", old},
		{"in-chiaro", "does not speak TLS at this port", nil},
	} {
		p, f := through(c.name, c.conf)
		m := p.send(recipient)
		p.eventually(c.name+": the queue is held", func() bool { return strings.HasPrefix(p.way(m).GetHeld(), "SENDING_TLS: ") })
		d := p.way(m)
		require.Contains(t, d.GetHeld(), c.says, c.name)
		require.Equal(t, pecv1.MessageState_MESSAGE_STATE_PENDING, d.GetState(), c.name)
		require.Len(t, d.GetAttempts(), 1, c.name)
		require.Equal(t, "deferred tls", d.GetAttempts()[0].GetOutcome()+" "+d.GetAttempts()[0].GetCause(), c.name)
		require.Empty(t, d.GetAttempts()[0].GetTls(), c.name)
		alarms := func() (out []string) {
			for _, e := range h.unwell() {
				if e.GetMailbox() == p.box {
					out = append(out, e.GetCode()+" "+e.GetReason())
				}
			}
			return out
		}
		p.eventually(c.name+": somebody is told", func() bool { return len(alarms()) > 0 })
		require.Len(t, alarms(), 1, c.name)
		require.True(t, strings.HasPrefix(alarms()[0], "SENDING_TLS ") && strings.Contains(alarms()[0], c.says), alarms())
		require.Equal(t, []string{"SENDING_TLS"}, h.troubles(p.box), c.name)
		require.Zero(t, counted(p), c.name)

		f.becomes(one.serves(false))
		p.resume()
		p.state(m, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
		require.Len(t, p.way(m).GetAttempts(), 2, c.name)
		require.Equal(t, 1, counted(p), c.name)
		require.Empty(t, f.inClear(), c.name)
		require.Len(t, alarms(), 1, c.name)
		require.Empty(t, h.troubles(p.box), c.name)
		boxes = append(boxes, p.mailbox())
	}

	p, f := through("intermedia", one.serves(false))
	for _, conf := range []*tls.Config{one.serves(false), two.serves(false)} {
		f.becomes(conf)
		p.state(p.send(recipient), pecv1.MessageState_MESSAGE_STATE_DELIVERED)
	}
	require.Equal(t, 2, counted(p))
	require.Empty(t, h.troubles(p.box))
	p.everything()
	h.invariants(boxes...)
}

// troubles are what the hub shows of a mailbox.
func (h *house) troubles(box string) []string {
	h.t.Helper()
	hub, err := h.desk().GetHub(h.t.Context(), &pecv1.GetHubRequest{Parent: parent})
	require.NoError(h.t, err)
	for _, e := range hub.GetEntries() {
		if e.GetMailbox() == box {
			return e.GetTroubles()
		}
	}
	require.Fail(h.t, "the hub does not show "+box)
	return nil
}
