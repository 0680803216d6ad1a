package sandbox_test

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/smtp"
	"strings"
	"testing"
	"time"

	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/sandbox"
	"ceralacca.dev/services/sandbox/client"
	"github.com/stretchr/testify/require"
)

func TestControlRefusesBadInput(t *testing.T) {
	n := start(t, sandbox.Config{})
	base := n.srv.Endpoints().ControlURL
	for _, tc := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/v1/nothing", "", 404, "README"},
		{"POST", "/v1/clock/advance", `{"by":"-1h"}`, 400, "positive"},
		{"POST", "/v1/clock/advance", `{"by":"soon"}`, 400, "360h"},
		{"POST", "/v1/clock/advance", `{"by":"1h","x":1}`, 400, "unknown field"},
		{"POST", "/v1/clock/advance", `{"by":"1h"}{}`, 400, "one JSON object"},
		{"POST", "/v1/clock/advance", ``, 400, "body"},
		{"POST", "/v1/certificates", `{"csr_pem":"x"}`, 400, "openssl req"},
		{"POST", "/v1/certificates", `{"csr_pem":"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"}`, 400, ""},
		{"POST", "/v1/faults", `{"kind":"tsa","mode":"explode"}`, 400, "explode"},
		{"POST", "/v1/faults", `{"kind":"delay"}`, 400, "delay_ms"},
		{"POST", "/v1/accreditations", `{"fiscal_id":"01234567890","receipts":"fax"}`, 400, "multipart"},
		{"GET", "/v1/received?limit=0", "", 400, "limit"},
		{"GET", "/v1/received/1/file", "", 404, "no file"},
		{"POST", "/v1/faults", `{"kind":"` + strings.Repeat("x", 2<<20) + `"}`, 400, "too large"},
	} {
		req, err := http.NewRequest(tc.method, base+tc.path, strings.NewReader(tc.body))
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		raw, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, tc.status, resp.StatusCode, "%s %.60s: %s", tc.path, tc.body, raw)
		require.Contains(t, string(raw), tc.want)
	}
}

func TestClockAPI(t *testing.T) {
	n := start(t, sandbox.Config{})
	ctx := context.Background()
	frozen, err := n.control.Freeze(ctx)
	require.NoError(t, err)
	require.True(t, frozen.Frozen)
	k, err := n.control.Advance(ctx, 48*time.Hour)
	require.NoError(t, err)
	require.Equal(t, frozen.Now.Add(48*time.Hour), k.Now)
	// A frozen clock does not stop what needs no wait.
	r := n.send(fileName(1), fatturapatest.Options{CodiceDestinatario: "SBXSLOW"})
	require.WithinDuration(t, k.Now, r.DataOraRicezione, time.Second)
	n.send(fileName(2), fatturapatest.Options{CodiceDestinatario: "SBXRC00", Numero: "2"})
	require.Equal(t, []string{"RC"}, n.types(1))
	require.Eventually(t, func() bool { k, err := n.control.Clock(ctx); return err == nil && k.Timers == 1 && k.Next != nil }, 5*time.Second, 5*time.Millisecond)
	_, err = n.control.Advance(ctx, time.Hour)
	require.NoError(t, err)
	require.Len(t, n.types(2), 2)
	k, err = n.control.Resume(ctx)
	require.NoError(t, err)
	require.False(t, k.Frozen)
}

func TestMailAndStampsUnderControl(t *testing.T) {
	n := start(t, sandbox.Config{})
	ctx := context.Background()
	e := n.srv.Endpoints()
	require.NoError(t, smtp.SendMail(e.SMTPAddr, nil, "a@x.it", []string{"b@x.it"}, []byte("Subject: ciao\r\n\r\nx\r\n")))
	mails, err := n.control.Mail(ctx, "b@x.it")
	require.NoError(t, err)
	require.Equal(t, "ciao", mails[0].Subject)
	require.NoError(t, n.control.ClearMail(ctx))

	_, err = n.control.AddFault(ctx, client.Fault{Kind: client.FaultTSA, Mode: "unavailable"})
	require.NoError(t, err)
	post := func() int {
		resp, err := http.Post(e.TSAURL, "application/timestamp-query", bytes.NewReader([]byte{0x30, 0}))
		require.NoError(t, err)
		resp.Body.Close()
		return resp.StatusCode
	}
	require.Equal(t, 503, post())
	require.NotEqual(t, 503, post(), "the fault is spent")
}

// TestRestart keeps the authority and never gives an identifier out twice.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	n := start(t, sandbox.Config{Dir: dir, Seed: 7})
	a := n.send(fileName(1), fatturapatest.Options{})
	n.types(1)
	n.srv.Close()
	m := start(t, sandbox.Config{Dir: dir, Seed: 7})
	b := m.send(fileName(1), fatturapatest.Options{})
	require.Greater(t, b.IdentificativoSdI, a.IdentificativoSdI)
	require.Equal(t, []string{"MC"}, m.types(1), "names are forgotten: only the sequence is kept")
	require.Equal(t, n.srv.CAPEM(), m.srv.CAPEM())
}

func TestArchiveAndLot(t *testing.T) {
	n := start(t, sandbox.Config{})
	ctx := context.Background()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for i := 1; i <= 3; i++ {
		w, err := z.Create(fileName(i))
		require.NoError(t, err)
		_, err = w.Write(fatturapatest.Invoice(fatturapatest.Options{Numero: fmt.Sprint(i), CodiceDestinatario: "ABC1234"}))
		require.NoError(t, err)
	}
	for _, odd := range []string{"cartella/fattura n° 1.xml", "IT" + fiscalID + "_ZZZZZ.zip", "vuota/"} {
		_, err := z.Create(odd)
		require.NoError(t, err)
	}
	require.NoError(t, z.Close())
	r, err := n.client.RiceviFile(ctx, sdi.FileSdIBase{NomeFile: "IT" + fiscalID + "_000ZP.zip", File: buf.Bytes()})
	require.NoError(t, err)
	n.types(5)
	count := map[sdi.MessageType]int{}
	for _, m := range n.got() {
		count[m.Type()]++
		require.Equal(t, r.IdentificativoSdI, m.Head().RiferimentoArchivio.IdentificativoSdI)
	}
	require.Equal(t, map[sdi.MessageType]int{sdi.RC: 3, sdi.NS: 2}, count)
	page, err := n.control.Received(ctx, client.Query{State: "archive"})
	require.NoError(t, err)
	require.Equal(t, 1, page.Total)

	lot := n.sign(fatturapatest.Invoice(fatturapatest.Options{Formato: "FPA12", CodiceDestinatario: "SBXEC2", Numero: "L", Bodies: 2}))
	_, err = n.client.RiceviFile(ctx, sdi.FileSdIBase{NomeFile: fileName(50) + ".p7m", File: lot})
	require.NoError(t, err)
	n.types(8)
	positions := 0
	for _, m := range n.got() {
		if ne, ok := m.Contenuto.(*sdi.NotificaEsito); ok {
			require.Equal(t, sdi.EC02, ne.EsitoCommittente.Esito)
			positions += ne.EsitoCommittente.RiferimentoFattura.PosizioneFattura
		}
	}
	require.Equal(t, 3, positions, "one outcome for each invoice of the lot")
	// A refused invoice may come again under its number.
	_, err = n.client.RiceviFile(ctx, sdi.FileSdIBase{NomeFile: fileName(51) + ".p7m", File: lot})
	require.NoError(t, err)
	n.types(11)
	page, err = n.control.Received(ctx, client.Query{Name: fileName(51) + ".p7m"})
	require.NoError(t, err)
	require.Empty(t, page.Files[0].Errors)
}

func TestSignaturesAreJudged(t *testing.T) {
	n := start(t, sandbox.Config{})
	other := start(t, sandbox.Config{})
	ctx := context.Background()
	send := func(name string, raw []byte) []string {
		t.Helper()
		before := len(n.got())
		r, err := n.client.RiceviFile(ctx, sdi.FileSdIBase{NomeFile: name, File: raw})
		require.NoError(t, err)
		n.types(before + 1)
		page, err := n.control.Received(ctx, client.Query{ID: r.IdentificativoSdI})
		require.NoError(t, err)
		return page.Files[0].Errors
	}
	invoice := func(i int) []byte {
		return fatturapatest.Invoice(fatturapatest.Options{Numero: fmt.Sprint(i), CodiceDestinatario: "ABC1234"})
	}
	require.Empty(t, send(fileName(1)+".p7m", n.sign(invoice(1))))
	require.Equal(t, []string{"00104"}, send(fileName(2)+".p7m", other.sign(invoice(2))), "an authority that this sandbox does not know")
	broken := n.sign(invoice(3))
	broken = bytes.Replace(broken, []byte("<Numero>3<"), []byte("<Numero>4<"), 1)
	require.Equal(t, []string{"00102"}, send(fileName(3)+".p7m", broken))
	lax := start(t, sandbox.Config{LaxSignatures: true})
	_, err := lax.client.RiceviFile(ctx, sdi.FileSdIBase{NomeFile: fileName(4) + ".p7m", File: other.sign(invoice(4))})
	require.NoError(t, err)
	require.Equal(t, []string{"RC"}, lax.types(1))
}

// TestMemoryIsBounded: bytes of old files go, their records stay.
func TestMemoryIsBounded(t *testing.T) {
	n := start(t, sandbox.Config{KeepFiles: 2})
	ctx := context.Background()
	var ids []string
	for i := 1; i <= 5; i++ {
		ids = append(ids, n.send(fileName(i), fatturapatest.Options{Numero: fmt.Sprint(i)}).IdentificativoSdI)
		n.types(i)
	}
	require.Eventually(t, func() bool { _, err := n.control.File(ctx, ids[0]); return err != nil }, 5*time.Second, 5*time.Millisecond)
	_, err := n.control.File(ctx, ids[0])
	require.ErrorContains(t, err, "keep-files")
	_, err = n.control.File(ctx, ids[4])
	require.NoError(t, err)
	page, err := n.control.Received(ctx, client.Query{Limit: 2})
	require.NoError(t, err)
	require.Equal(t, 5, page.Total)
	require.Len(t, page.Files, 2)
}

func TestReset(t *testing.T) {
	n := start(t, sandbox.Config{})
	ctx := context.Background()
	n.send(fileName(1), fatturapatest.Options{CodiceDestinatario: "SBXSLOW"})
	n.send(fileName(2), fatturapatest.Options{Numero: "2"})
	require.NoError(t, n.control.Reset(ctx))
	n.send(fileName(1), fatturapatest.Options{CodiceDestinatario: "ABC1234", Numero: "3"})
	_, err := n.control.Advance(ctx, 2*time.Hour)
	require.NoError(t, err)
	n.types(3)
	require.Eventually(t, func() bool {
		c, err := n.control.Counts(ctx)
		require.NoError(t, err)
		for _, k := range c.States {
			require.GreaterOrEqual(t, k, 0)
		}
		return c.Accepted == 1 && c.ReceiptsDelivered == 1 && c.ReceiptsPending == 0 && c.RepeatedNames == 0
	}, 5*time.Second, 5*time.Millisecond)
	list, err := n.control.Accreditations(ctx)
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Empty(t, list[0].ClientKeyPEM)
}

// TestReceiptEncodings: a transmitter must take receipts in every shape.
func TestReceiptEncodings(t *testing.T) {
	for _, enc := range []string{"xop", "multipart", "plain"} {
		n := start(t, sandbox.Config{})
		ctx := context.Background()
		list, err := n.control.Accreditations(ctx)
		require.NoError(t, err)
		_, err = n.control.Accredit(ctx, client.AccreditationRequest{FiscalID: fiscalID, CallbackURL: list[0].CallbackURL, Receipts: enc})
		require.NoError(t, err)
		n.send(fileName(1), fatturapatest.Options{CodiceDestinatario: "ABC1234"})
		require.Equal(t, []string{"RC"}, n.types(1), enc)
	}
}
