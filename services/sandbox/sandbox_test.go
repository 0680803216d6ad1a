package sandbox_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/sandbox"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/sandboxtest"
	"github.com/stretchr/testify/require"
)

const fiscalID = "01234567890"

// node is a transmitter as our gateway will be one: it sends with its client certificate and
// takes receipts at an endpoint with its server certificate.
type node struct {
	t       *testing.T
	srv     *sandbox.Server
	control *client.Client
	client  *sdi.Client
	peer    *tls.Config // of its client side

	mu       sync.Mutex
	receipts []*sdi.Message
	broken   []sdi.FileSdI // receipts that could not be read
	ids      []string      // IdentificativoSdI of each call
	refuse   func(n int) error
	calls    int
}

func start(t *testing.T, cfg sandbox.Config) *node {
	t.Helper()
	srv := sandboxtest.Start(t, cfg)
	n := &node{t: t, srv: srv, control: client.New(srv.Endpoints().ControlURL)}

	endpoint := httptest.NewUnstartedServer(sdi.TrasmissioneFattureHandler(n.receive, sdi.ServerOptions{}))
	acc, err := n.control.Accredit(context.Background(), client.AccreditationRequest{
		FiscalID: fiscalID, CallbackURL: "https://" + endpoint.Listener.Addr().String() + "/sdi",
	})
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM([]byte(acc.CAPEM)))
	server, err := tls.X509KeyPair([]byte(acc.ServerCertPEM), []byte(acc.ServerKeyPEM))
	require.NoError(t, err)
	endpoint.TLS = &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	endpoint.StartTLS()
	t.Cleanup(endpoint.Close)

	own, err := tls.X509KeyPair([]byte(acc.ClientCertPEM), []byte(acc.ClientKeyPEM))
	require.NoError(t, err)
	n.peer = &tls.Config{Certificates: []tls.Certificate{own}, RootCAs: pool}
	n.client = &sdi.Client{HTTP: &http.Client{Transport: &http.Transport{TLSClientConfig: n.peer}}, URL: srv.Endpoints().SdIURL}
	return n
}

func (n *node) receive(_ *http.Request, op sdi.Operation, f sdi.FileSdI) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls++
	if n.refuse != nil {
		if err := n.refuse(n.calls); err != nil {
			return err
		}
	}
	n.ids = append(n.ids, f.IdentificativoSdI)
	m, err := sdi.ParseMessage(f.NomeFile, f.File)
	if err != nil {
		n.broken = append(n.broken, f)
		return nil
	}
	want, _ := sdi.OperationFor(m.Type())
	if want != op {
		return fmt.Errorf("%s came by %s", m.Type(), op)
	}
	n.receipts = append(n.receipts, m)
	return nil
}

func (n *node) got() []*sdi.Message {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]*sdi.Message{}, n.receipts...)
}

// types waits until count messages have come and returns their types.
func (n *node) types(count int) []string {
	n.t.Helper()
	var out []string
	require.Eventually(n.t, func() bool {
		out = nil
		for _, m := range n.got() {
			out = append(out, string(m.Type()))
		}
		return len(out) >= count
	}, 10*time.Second, 5*time.Millisecond, "want %d messages", count)
	return out
}

func (n *node) send(name string, o fatturapatest.Options) sdi.RispostaSdIRiceviFile {
	n.t.Helper()
	r, err := n.client.RiceviFile(context.Background(), sdi.FileSdIBase{NomeFile: name, File: fatturapatest.Invoice(o)})
	require.NoError(n.t, err)
	return r
}

// sign makes a CAdES signature with a key of its own and a certificate from the control API.
func (n *node) sign(content []byte) []byte {
	n.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(n.t, err)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Ada Rossi"}}, key)
	require.NoError(n.t, err)
	got, err := n.control.SignCSR(context.Background(), csr, "")
	require.NoError(n.t, err)
	block, _ := pem.Decode([]byte(got.CertPEM))
	cert, err := x509.ParseCertificate(block.Bytes)
	require.NoError(n.t, err)
	require.Contains(n.t, cert.Issuer.String(), "SANDBOX")
	p7m, err := cades.Sign(context.Background(), content, cades.Signer{Chain: []*x509.Certificate{cert}, Key: key}, cades.Options{SigningTime: time.Now()})
	require.NoError(n.t, err)
	return p7m
}

func fileName(i int) string { return fmt.Sprintf("IT%s_%05d.xml", fiscalID, i) }

func TestPrivateOutcomes(t *testing.T) {
	for code, tc := range map[string]struct {
		want  string
		state string
		codes []string
	}{
		"ABC1234": {"RC", "delivered", nil},
		"SBXRC00": {"RC", "delivered", nil},
		"SBXMC00": {"MC", "undelivered", nil},
		"0000000": {"MC", "undelivered", nil},
		"SB00404": {"NS", "discarded", []string{"00404"}},
		"SB00423": {"NS", "discarded", []string{"00423"}},
		"SB12345": {"NS", "discarded", []string{"12345"}},
		"ABC123":  {"NS", "discarded", []string{"00427"}},
	} {
		t.Run(code, func(t *testing.T) {
			n := start(t, sandbox.Config{})
			r := n.send(fileName(1), fatturapatest.Options{CodiceDestinatario: code, Numero: "N/1"})
			require.True(t, r.Accepted())
			require.Greater(t, len(r.IdentificativoSdI), 10, "beyond 32 bits")
			require.Equal(t, []string{tc.want}, n.types(1))
			m := n.got()[0]
			require.Empty(t, m.Warnings)
			require.True(t, m.Signed)
			require.Equal(t, sdi.SchemaPrivati, m.Schema)
			require.Equal(t, r.IdentificativoSdI, m.Head().IdentificativoSdI)
			page, err := n.control.Received(context.Background(), client.Query{Name: fileName(1)})
			require.NoError(t, err)
			require.Equal(t, 1, page.Total)
			f := page.Files[0]
			require.Equal(t, m.Head().Hash, f.SHA256)
			require.Equal(t, tc.state, f.State)
			require.Equal(t, tc.codes, f.Errors)
			require.Equal(t, "N/1", f.Invoices[0].Number)
			raw, err := n.control.File(context.Background(), f.ID)
			require.NoError(t, err)
			require.Len(t, raw, f.Size)
		})
	}
}

// TestPublicOutcomes moves the clock through the public terms.
func TestPublicOutcomes(t *testing.T) {
	for code, tc := range map[string]struct {
		first   []string
		advance time.Duration
		later   []string
		state   string
	}{
		"SBXEC1": {[]string{"RC", "NE"}, 0, nil, "accepted"},
		"SBXEC2": {[]string{"RC", "NE"}, 0, nil, "refused"},
		"SBXDT0": {[]string{"RC", "DT"}, 0, nil, "expired"},
		"SBXAT0": {[]string{"MC", "AT"}, 0, nil, "attested"},
		"N00311": {[]string{"NS"}, 0, nil, "discarded"},
		"UFABC1": {[]string{"RC"}, 15 * 24 * time.Hour, []string{"DT"}, "expired"},
		"SBXEL1": {[]string{"RC"}, 14 * 24 * time.Hour, []string{"NE"}, "accepted"},
		"SBXMC0": {[]string{"MC"}, 10 * 24 * time.Hour, []string{"AT"}, "attested"},
		"SBXMCR": {[]string{"MC", "RC"}, 15 * 24 * time.Hour, []string{"DT"}, "expired"},
		"SBXSLO": {nil, time.Hour, []string{"RC"}, "delivered"},
	} {
		t.Run(code, func(t *testing.T) {
			n := start(t, sandbox.Config{})
			ctx := context.Background()
			raw := n.sign(fatturapatest.Invoice(fatturapatest.Options{Formato: "FPA12", CodiceDestinatario: code, Numero: "PA-7"}))
			r, err := n.client.RiceviFile(ctx, sdi.FileSdIBase{NomeFile: fileName(1) + ".p7m", File: raw})
			require.NoError(t, err)
			require.Equal(t, tc.first, first(n.types(len(tc.first)), len(tc.first)))
			if tc.advance > 0 {
				require.Never(t, func() bool { return len(n.got()) > len(tc.first) }, 30*time.Millisecond, 10*time.Millisecond)
				_, err = n.control.Advance(ctx, tc.advance-time.Hour)
				require.NoError(t, err)
				require.Never(t, func() bool { return tc.advance > time.Hour && len(n.got()) > len(tc.first) }, 30*time.Millisecond, 10*time.Millisecond)
				_, err = n.control.Advance(ctx, 2*time.Hour)
				require.NoError(t, err)
				require.Equal(t, append(append([]string{}, tc.first...), tc.later...), n.types(len(tc.first)+len(tc.later)))
			}
			for _, m := range n.got() {
				require.Empty(t, m.Warnings, m.Name)
				require.Equal(t, sdi.SchemaPA, m.Schema)
				switch c := m.Contenuto.(type) {
				case *sdi.NotificaEsito:
					require.Equal(t, "PA-7", c.EsitoCommittente.RiferimentoFattura.NumeroFattura)
				case *sdi.AttestazioneTrasmissioneFattura:
					require.Equal(t, raw, m.Original.Data)
				}
			}
			page, err := n.control.Received(ctx, client.Query{ID: r.IdentificativoSdI})
			require.NoError(t, err)
			require.Equal(t, tc.state, page.Files[0].State)
			require.True(t, page.Files[0].Signed)
		})
	}
}

func first(s []string, n int) []string {
	if n == 0 {
		return nil
	}
	return s[:n]
}

func TestControls(t *testing.T) {
	n := start(t, sandbox.Config{})
	ctx := context.Background()
	crl, err := n.control.CRL(ctx)
	require.NoError(t, err)
	require.Contains(t, string(crl), "-----BEGIN X509 CRL-----")
	send := func(name string, raw []byte) string {
		t.Helper()
		before := len(n.got())
		r, err := n.client.RiceviFile(ctx, sdi.FileSdIBase{NomeFile: name, File: raw})
		require.NoError(t, err)
		n.types(before + 1)
		page, err := n.control.Received(ctx, client.Query{ID: r.IdentificativoSdI})
		require.NoError(t, err)
		return strings.Join(page.Files[0].Errors, " ")
	}
	inv := func(o fatturapatest.Options) []byte { return fatturapatest.Invoice(o) }
	require.Equal(t, "", send(fileName(1), inv(fatturapatest.Options{Numero: "1"})))
	require.Equal(t, "00002", send(fileName(1), inv(fatturapatest.Options{Numero: "2"})), "the name was used")
	require.Equal(t, "00404", send(fileName(2), inv(fatturapatest.Options{Numero: "1"})), "the invoice was sent")
	require.Equal(t, "", send(fileName(3), inv(fatturapatest.Options{Numero: "1", Data: "2025-03-16"})), "another year")
	require.Equal(t, "", send(fileName(4), inv(fatturapatest.Options{Numero: "1", TipoDocumento: "TD04"})), "credit notes count apart")
	require.Equal(t, "00001", send("fattura_numero_1.xml", inv(fatturapatest.Options{Numero: "9"})))
	require.Equal(t, "00003", send(fileName(5), make([]byte, sdi.MaxFileSize+1)))
	require.Equal(t, "00200", send(fileName(6), []byte("hello")))
	require.Equal(t, "00200", first(strings.Fields(send(fileName(7), []byte(strings.Replace(string(inv(fatturapatest.Options{Numero: "8"})), "<Divisa>EUR</Divisa>", "", 1)))), 1)[0])
	require.Equal(t, "00102", send(fileName(8)+".p7m", []byte("hello")))
	require.Equal(t, "00102", send(fileName(9), inv(fatturapatest.Options{Formato: "FPA12", Numero: "10"})), "FPA12 must be signed")
	require.Equal(t, "00106", send(strings.Replace(fileName(10), ".xml", ".zip", 1), []byte("PK")))
	c, err := n.control.Counts(ctx)
	require.NoError(t, err)
	require.Equal(t, 12, c.Accepted)
	require.Equal(t, 1, c.RepeatedNames)
	require.Equal(t, 1, c.RepeatedInvoices)
	d, err := n.control.Duplicates(ctx)
	require.NoError(t, err)
	require.Len(t, d.Names, 1)
	require.Equal(t, strings.ToUpper(fileName(1)), d.Names[0].Key)
	require.Len(t, d.Invoices[0].IDs, 2)
}

func TestWhoMayCall(t *testing.T) {
	n := start(t, sandbox.Config{})
	ctx := context.Background()
	pool := n.peer.RootCAs
	stranger := &sdi.Client{URL: n.client.URL, HTTP: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}}
	_, err := stranger.RiceviFile(ctx, sdi.FileSdIBase{NomeFile: fileName(1), File: []byte("x")})
	var call *sdi.CallError
	require.ErrorAs(t, err, &call)
	require.Equal(t, http.StatusForbidden, call.Status)
	require.False(t, call.Unknown())
	stranger.HTTP = &http.Client{}
	_, err = stranger.RiceviFile(ctx, sdi.FileSdIBase{NomeFile: fileName(1), File: []byte("x")})
	require.ErrorContains(t, err, "certificate", "the sandbox authority is in nobody's store")
	require.ErrorAs(t, err, &call)
	require.False(t, call.Unknown(), "without an agreed connection nothing was sent")

	r, err := n.client.RiceviFile(ctx, sdi.FileSdIBase{NomeFile: fileName(1)})
	require.NoError(t, err)
	require.Equal(t, sdi.EI01, r.Errore)
	_, err = n.client.RiceviFile(ctx, sdi.FileSdIBase{NomeFile: "short.x"})
	require.ErrorIs(t, err, sdi.ErrField)

	_, err = n.control.Accredit(ctx, client.AccreditationRequest{FiscalID: "IT1", CallbackURL: ""})
	require.ErrorContains(t, err, "11 to 16")
	_, err = n.control.Accredit(ctx, client.AccreditationRequest{FiscalID: fiscalID, CallbackURL: "http://127.0.0.1/"})
	require.ErrorContains(t, err, "https")
	c, err := n.control.Counts(ctx)
	require.NoError(t, err)
	require.Equal(t, 1, c.Unauthorized)
	require.Zero(t, c.Accepted)
}

func TestRequestFaults(t *testing.T) {
	n := start(t, sandbox.Config{})
	ctx := context.Background()
	i := 0
	play := func(kind string, delayMS int) (sdi.RispostaSdIRiceviFile, int, error) {
		t.Helper()
		i++
		_, err := n.control.AddFault(ctx, client.Fault{Kind: kind, DelayMS: delayMS, Name: fileName(i), Transmitter: fiscalID})
		require.NoError(t, err)
		r, err := n.client.RiceviFile(ctx, sdi.FileSdIBase{NomeFile: fileName(i), File: fatturapatest.Invoice(fatturapatest.Options{Numero: fmt.Sprint("F", i)})})
		page, qerr := n.control.Received(ctx, client.Query{Name: fileName(i)})
		require.NoError(t, qerr)
		return r, page.Total, err
	}
	for kind, taken := range map[string]int{client.FaultCutBefore: 0, client.FaultCutAfterAccept: 1} {
		_, total, err := play(kind, 0)
		var call *sdi.CallError
		require.ErrorAs(t, err, &call, kind)
		require.True(t, call.Unknown(), "%s: the caller cannot know", kind)
		require.Equal(t, taken, total, kind)
	}
	for kind, want := range map[string]struct {
		errore sdi.ErroreInvio
		taken  int
	}{client.FaultEI01: {sdi.EI01, 0}, client.FaultEI02: {sdi.EI02, 0}, client.FaultEI03: {sdi.EI03, 0}, client.FaultEI02Accepted: {sdi.EI02, 1}} {
		r, total, err := play(kind, 0)
		require.NoError(t, err)
		require.Equal(t, want.errore, r.Errore, kind)
		require.False(t, r.Accepted())
		require.Equal(t, want.taken, total, kind)
	}
	_, total, err := play(client.FaultSOAP, 0)
	var f *sdi.Fault
	require.ErrorAs(t, err, &f)
	require.Zero(t, total)
	_, total, err = play(client.FaultHTTP503, 0)
	var call *sdi.CallError
	require.ErrorAs(t, err, &call)
	require.Equal(t, 503, call.Status)
	require.Zero(t, total)
	before := time.Now()
	r, _, err := play(client.FaultDelay, 80)
	require.NoError(t, err)
	require.True(t, r.Accepted())
	require.GreaterOrEqual(t, time.Since(before), 80*time.Millisecond)
	// Whatever was taken is answered by a receipt, whatever the caller was told.
	require.Len(t, n.types(3), 3)
	faults, err := n.control.Faults(ctx)
	require.NoError(t, err)
	for _, f := range faults {
		require.Equal(t, 1, f.Hits, f.Kind)
	}
	_, err = n.control.AddFault(ctx, client.Fault{Kind: "explode"})
	require.ErrorContains(t, err, "unknown")
}

func TestReceiptFaults(t *testing.T) {
	n := start(t, sandbox.Config{})
	ctx := context.Background()
	i := 0
	play := func(kind string) string {
		t.Helper()
		i++
		_, err := n.control.AddFault(ctx, client.Fault{Kind: kind, Name: fileName(i), DelayMS: 20})
		require.NoError(t, err)
		return n.send(fileName(i), fatturapatest.Options{Numero: fmt.Sprint("R", i), CodiceDestinatario: "ABC1234"}).IdentificativoSdI
	}
	play(client.FaultDuplicate)
	require.Len(t, n.types(2), 2)
	require.Equal(t, n.got()[0].Raw, n.got()[1].Raw)

	id := play(client.FaultUnknownID)
	n.types(3)
	require.NotEqual(t, id, n.got()[2].Head().IdentificativoSdI)
	require.Equal(t, n.got()[2].Head().IdentificativoSdI, n.ids[2])

	play(client.FaultWrongHash)
	n.types(4)
	require.Equal(t, strings.Repeat("0", 64), n.got()[3].Head().Hash)

	play(client.FaultUnsigned)
	n.types(5)
	require.False(t, n.got()[4].Signed)

	play(client.FaultMalformed)
	require.Eventually(t, func() bool { n.mu.Lock(); defer n.mu.Unlock(); return len(n.broken) == 1 }, 5*time.Second, 5*time.Millisecond)

	held := play(client.FaultReorder)
	later := n.send(fileName(100), fatturapatest.Options{Numero: "R100", CodiceDestinatario: "ABC1234"}).IdentificativoSdI
	n.types(7)
	require.Equal(t, later, n.got()[5].Head().IdentificativoSdI, "the later receipt came first")
	require.Equal(t, held, n.got()[6].Head().IdentificativoSdI)

	play(client.FaultSlowNotice)
	n.types(8)
	dropped := play(client.FaultDrop)
	require.Eventually(t, func() bool { c, err := n.control.Counts(ctx); return err == nil && c.ReceiptsGivenUp == 1 }, 5*time.Second, 5*time.Millisecond)
	require.Len(t, n.got(), 8)
	require.NoError(t, n.control.Resend(ctx, dropped))
	n.types(9)
	require.ErrorContains(t, n.control.Resend(ctx, "1"), "no file")
}

// TestDeliveryAttempts: six attempts, twelve hours apart, then silence.
func TestDeliveryAttempts(t *testing.T) {
	n := start(t, sandbox.Config{})
	ctx := context.Background()
	n.refuse = func(int) error { return errors.New("down") }
	r := n.send(fileName(1), fatturapatest.Options{CodiceDestinatario: "ABC1234"})
	attempts := func() client.Receipt {
		page, err := n.control.Received(ctx, client.Query{ID: r.IdentificativoSdI})
		require.NoError(t, err)
		if len(page.Files[0].Receipts) == 0 {
			return client.Receipt{}
		}
		return page.Files[0].Receipts[0]
	}
	require.Eventually(t, func() bool { return attempts().Attempts == 1 }, 5*time.Second, 5*time.Millisecond)
	_, err := n.control.Advance(ctx, 12*time.Hour)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return attempts().Attempts == 2 }, 5*time.Second, 5*time.Millisecond)
	_, err = n.control.Advance(ctx, 72*time.Hour)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return attempts().GivenUp }, 5*time.Second, 5*time.Millisecond)
	require.Equal(t, 6, attempts().Attempts)
	require.Contains(t, attempts().LastError, "fault")
	n.mu.Lock()
	n.refuse = nil
	n.mu.Unlock()
	require.NoError(t, n.control.Resend(ctx, r.IdentificativoSdI))
	n.types(1)
}

func TestRefusesToBePublic(t *testing.T) {
	for _, host := range []string{"0.0.0.0", "192.0.2.1", "example.org", "::"} {
		_, err := sandbox.Start(context.Background(), sandbox.Config{ListenHost: host})
		require.ErrorContains(t, err, "loopback", host)
	}
}
