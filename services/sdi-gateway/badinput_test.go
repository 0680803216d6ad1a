package sdigateway_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/internal/rpc"
	"ceralacca.dev/services/sandbox/client"
)

// refused is what the counter of refused callers says.
func (b *bundle) refused(t *testing.T, reason string) string {
	t.Helper()
	resp, err := http.Get("http://" + b.Admin + "/metrics")
	require.NoError(t, err)
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	for line := range strings.Lines(string(all)) {
		if strings.HasPrefix(line, "ceralacca_sdi_callbacks_refused") && strings.Contains(line, `reason="`+reason+`"`) {
			return strings.TrimSpace(line[strings.LastIndexByte(line, ' '):])
		}
	}
	return ""
}

// Who has no certificate, one of another authority, or one that is not SdI's, does not get as far as HTTP.
func TestCallersWithoutTheRightCertificate(t *testing.T) {
	b := setupWith(t, options{callback: `, client_names: ["SDI-client"]`})
	other, err := rpc.DevCertificates(t.TempDir(), "SDI-client")
	require.NoError(t, err)
	stranger, err := tls.LoadX509KeyPair(strings.ReplaceAll(other.Cert, "{target}", "SDI-client"), strings.ReplaceAll(other.Key, "{target}", "SDI-client"))
	require.NoError(t, err)
	another, err := tls.LoadX509KeyPair(filepath.Join(b.certs, "client.crt"), filepath.Join(b.certs, "client.key")) // a transmitter's
	require.NoError(t, err)
	for i, c := range []struct {
		name  string
		shown []tls.Certificate
	}{{"no certificate", nil}, {"of another authority", []tls.Certificate{stranger}}, {"of another holder", []tls.Certificate{another}}} {
		t.Run(c.name, func(t *testing.T) {
			caller := &sdi.Client{URL: "https://" + b.callback + "/", HTTP: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
				TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: c.shown}, //nolint:gosec // the server's certificate is not what is tested
			}}}
			err := caller.Notifica(context.Background(), sdi.OpRicevutaConsegna, sdi.FileSdI{IdentificativoSdI: "1", NomeFile: "IT01234567897_00001_RC_001.xml", File: []byte(privateRC)})
			require.Error(t, err)
			eventually(t, "the count", func() (bool, string) {
				n := b.refused(t, "certificate")
				return n == fmt.Sprint(i+1), n
			})
		})
	}
	require.Zero(t, b.count(t, "SELECT count(*) FROM message"))
}

// What is no message is refused with a fault that says why, and counted; nothing of it is kept.
func TestCallbacksThatCannotBeRead(t *testing.T) {
	b := setup(t)
	good, err := sdi.EncodeNotifica(sdi.OpRicevutaConsegna, sdi.FileSdI{IdentificativoSdI: "1", NomeFile: "IT01234567897_00001_RC_001.xml", File: []byte(privateRC)}, sdi.XOP)
	require.NoError(t, err)
	huge, err := sdi.EncodeNotifica(sdi.OpRicevutaConsegna, sdi.FileSdI{IdentificativoSdI: "1", NomeFile: "IT01234567897_00001_RC_001.xml", File: make([]byte, sdi.DefaultFileLimit+1)}, sdi.XOP)
	require.NoError(t, err)
	file, err := sdi.EncodeRiceviFile(sdi.FileSdIBase{NomeFile: "IT01234567897_00001.xml", File: []byte("x")}, sdi.XOP)
	require.NoError(t, err)
	action := `"http://www.fatturapa.it/TrasmissioneFatture/RicevutaConsegna"`
	for i, c := range []struct {
		name, ctype, action string
		body                []byte
		status              int
	}{
		{"oversized MTOM", huge.ContentType, action, huge.Bytes(), http.StatusRequestEntityTooLarge},
		{"truncated MTOM", good.ContentType, action, good.Bytes()[:good.Len()-40], http.StatusInternalServerError},
		{"MTOM without its part", good.ContentType, action, bytes.Replace(good.Bytes(), []byte("<file@sdi>"), []byte("<other@sdi>"), 1), http.StatusInternalServerError},
		{"wrong action", good.ContentType, `"http://www.fatturapa.it/TrasmissioneFatture/NotificaScarto"`, good.Bytes(), http.StatusInternalServerError},
		{"an operation of another service", file.ContentType, `"http://www.fatturapa.it/SdIRiceviFile/RiceviFile"`, file.Bytes(), http.StatusInternalServerError},
		{"no SOAP", "application/json", "", []byte("{}"), http.StatusUnsupportedMediaType},
	} {
		t.Run(c.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+b.callback+"/", bytes.NewReader(c.body))
			require.NoError(t, err)
			req.Header.Set("Content-Type", c.ctype)
			req.Header.Set("SOAPAction", c.action)
			resp, err := b.httpClient(t, true).Do(req)
			require.NoError(t, err)
			defer resp.Body.Close()
			said, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, c.status, resp.StatusCode, string(said))
			require.Contains(t, string(said), "faultstring")
			require.Equal(t, fmt.Sprint(i+1), b.refused(t, "request"))
		})
	}
	require.Zero(t, b.count(t, "SELECT count(*) FROM message"))
}

// A receipt about another transmitter's file is kept, and moves nothing of ours.
func TestReceiptForAnotherTransmittersFile(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.deliver(t, "99999999999", "IT99999999990_00001_RC_001.xml", []byte(strings.ReplaceAll(privateRC, "%FILE%", "IT99999999990_00001.xml")))
	eventually(t, "the message kept aside", func() (bool, string) {
		list, err := b.api.ListUnmatchedMessages(context.Background(), &sdiv1.ListUnmatchedMessagesRequest{})
		require.NoError(t, err)
		return len(list.GetMessages()) == 1 && strings.HasPrefix(list.GetMessages()[0].GetProblem(), "SDI_UNKNOWN_FILE"), list.String()
	})
}

// A name that fits no pattern is only a name: the message is taken in, and what it is about decides.
func TestMessageNameOutsideThePattern(t *testing.T) {
	t.Parallel()
	b := setup(t)
	invoice := b.acceptDocument(t, private("SBXNONE", "1"))
	require.IsType(t, &sdiv1.InvoiceTransmitted{}, b.await(t))
	about := b.transmission(t, invoice)
	p, err := sdi.EncodeNotifica(sdi.OpRicevutaConsegna, sdi.FileSdI{IdentificativoSdI: about.GetSdiId(), NomeFile: "IT00000000000_XXXXX_RC_001.xml",
		File: []byte(strings.ReplaceAll(privateRC, "%FILE%", about.GetFileName()))}, sdi.XOP)
	require.NoError(t, err)
	body := bytes.Replace(p.Bytes(), []byte("IT00000000000_XXXXX_RC_001.xml"), []byte("../../etc/passwd"), 1)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+b.callback+"/", bytes.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", p.ContentType)
	resp, err := b.httpClient(t, true).Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusAccepted, resp.StatusCode)
	require.IsType(t, &sdiv1.InvoiceDelivered{}, b.await(t))
	require.Equal(t, "../../etc/passwd", b.transmission(t, invoice).GetMessages()[0].GetFileName(), "as received")
}

// A SOAP stack that knows only the official WSDL hands a file to the exchange and pushes all callbacks to the
// gateway. Where the WSDLs are absent, the requests that the stack writes are among format/sdi's own tests.
func TestWSDLDrivenExchange(t *testing.T) {
	t.Parallel()
	wsdl, err := filepath.Abs(filepath.Join("..", "..", "..", "shared", "reference", "sdi", "wsdl"))
	require.NoError(t, err)
	_, noWSDL := os.Stat(wsdl)
	b := setup(t)
	invoice := b.acceptDocument(t, private("SBXNONE", "1"))
	require.IsType(t, &sdiv1.InvoiceTransmitted{}, b.await(t))
	about := b.transmission(t, invoice)
	message := []byte(strings.ReplaceAll(privateRC, "%FILE%", about.GetFileName()))
	name := sdi.NewMessageName(about.GetFileName(), sdi.RC, 1).XMLName()
	if noWSDL != nil {
		t.Logf("official WSDLs: %v; our own client delivers", noWSDL)
		b.deliver(t, about.GetSdiId(), name, message)
		require.IsType(t, &sdiv1.InvoiceDelivered{}, b.await(t))
		return
	}
	dir := t.TempDir()
	zeep := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "/usr/bin/python3", append([]string{"../sandbox/testdata/zeep_client.py"}, args...)...).CombinedOutput()
		require.NoError(t, err, "%s", out)
		return strings.TrimSpace(string(out))
	}
	cert, key, ca := filepath.Join(b.certs, "client.crt"), filepath.Join(b.certs, "client.key"), filepath.Join(b.certs, "ca.crt")
	file := filepath.Join(dir, "m.xml")
	require.NoError(t, os.WriteFile(file, message, 0o600))
	require.Equal(t, "ok", zeep("notify", filepath.Join(wsdl, "TrasmissioneFatture_v1.1.wsdl"), "https://"+b.callback+"/", cert, key, ca, name, file, about.GetSdiId()))
	require.IsType(t, &sdiv1.InvoiceDelivered{}, b.await(t))
	m := b.transmission(t, invoice).GetMessages()
	require.Len(t, m, 1)
	require.EqualValues(t, 5, m[0].GetDuplicates(), "six operations carried the same message")

	endpoints, err := b.sandbox.Endpoints(context.Background())
	require.NoError(t, err)
	sent, err := b.sandbox.Received(context.Background(), client.Query{})
	require.NoError(t, err)
	content, err := b.sandbox.File(context.Background(), sent.Files[0].ID)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, content, 0o600))
	answer := strings.Fields(zeep("submit", filepath.Join(wsdl, "SdIRiceviFile_v1.0.wsdl"), endpoints.SdIURL, cert, key, ca, "IT"+fiscalID+"_ZZZZZ.xml", file))
	require.Len(t, answer, 3)
	require.Equal(t, "None", answer[2], "no error")
}
