package sandbox_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/sandbox"
	"ceralacca.dev/services/sandbox/client"
	"github.com/stretchr/testify/require"
)

// reference finds the official WSDLs and schemas, which are not part of the project.
func reference(t *testing.T) (string, bool) {
	t.Helper()
	dir, err := os.Getwd()
	require.NoError(t, err)
	for dir != filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			ref := filepath.Join(dir, "..", "shared", "reference", "sdi")
			_, err := os.Stat(ref)
			return ref, err == nil
		}
		dir = filepath.Dir(dir)
	}
	return "", false
}

// TestWSDLDrivenClient lets a SOAP stack that knows only the official WSDLs submit a file to
// the sandbox and push all six callbacks to our handler. Requests as that stack writes them
// are among format/sdi's own tests, which need neither the stack nor the WSDLs.
func TestWSDLDrivenClient(t *testing.T) {
	ref, okRef := reference(t)
	if !okRef {
		t.Log("the official WSDLs are not there: only the shape of the script is checked")
		script, err := os.ReadFile("testdata/zeep_client.py")
		require.NoError(t, err)
		for op := sdi.OpRicevutaConsegna; op.Valid(); op++ {
			require.Contains(t, string(script), `"`+op.String()+`"`)
		}
		return
	}
	n := start(t, sandbox.Config{})
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	dir := t.TempDir()
	list, err := n.control.Accreditations(ctx)
	require.NoError(t, err)
	acc, err := n.control.Accredit(ctx, client.AccreditationRequest{FiscalID: fiscalID, CallbackURL: list[0].CallbackURL})
	require.NoError(t, err)
	file := func(name string, data string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(data), 0o600))
		return path
	}
	cert, key, caFile := file("c.pem", acc.ClientCertPEM), file("k.pem", acc.ClientKeyPEM), file("ca.pem", acc.CAPEM)
	invoice := file("i.xml", string(fatturapatest.Invoice(fatturapatest.Options{CodiceDestinatario: "ABC1234"})))
	run := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(ctx, "/usr/bin/python3", append([]string{"testdata/zeep_client.py"}, args...)...).CombinedOutput()
		require.NoError(t, err, "%s", out)
		return strings.TrimSpace(string(out))
	}
	wsdl := filepath.Join(ref, "wsdl")
	got := strings.Fields(run("submit", filepath.Join(wsdl, "SdIRiceviFile_v1.0.wsdl"), n.client.URL, cert, key, caFile, fileName(1), invoice))
	require.Len(t, got, 3)
	require.Equal(t, "None", got[2])
	require.Equal(t, []string{"RC"}, n.types(1))
	require.Equal(t, got[0], n.got()[0].Head().IdentificativoSdI)

	var mu sync.Mutex
	var ops []string
	endpoint := httptest.NewServer(sdi.TrasmissioneFattureHandler(func(_ *http.Request, op sdi.Operation, f sdi.FileSdI) error {
		mu.Lock()
		defer mu.Unlock()
		ops = append(ops, op.String()+" "+f.IdentificativoSdI)
		return nil
	}, sdi.ServerOptions{}))
	defer endpoint.Close()
	require.Equal(t, "ok", run("notify", filepath.Join(wsdl, "TrasmissioneFatture_v1.1.wsdl"), endpoint.URL, cert, key, caFile, "IT"+fiscalID+"_00001_RC_001.xml", invoice, "99147483647"))
	require.Len(t, ops, 6)
	require.Equal(t, "AttestazioneTrasmissioneFattura 99147483647", ops[5])
}

// TestReceiptsFollowTheSchema validates signed receipts of every type that the sandbox sends.
func TestReceiptsFollowTheSchema(t *testing.T) {
	ref, okRef := reference(t)
	xmllint, err := exec.LookPath("xmllint")
	require.NoError(t, err, "run make prepare, or apt-get install -y libxml2-utils")
	if !okRef {
		t.Log("the official schemas are not there: receipts are only read back")
	}
	n := start(t, sandbox.Config{})
	want := 0
	for i, code := range []string{"ABC1234", "SBXMC00", "SB00423"} {
		n.send(fileName(i), fatturapatest.Options{Numero: fileName(i)[14:19], CodiceDestinatario: code})
		want++
	}
	for i, code := range []string{"SBXEC1", "SBXDT0", "SBXAT0", "N00311"} {
		raw := n.sign(fatturapatest.Invoice(fatturapatest.Options{Formato: "FPA12", Numero: code + "/1", CodiceDestinatario: code}))
		_, err := n.client.RiceviFile(context.Background(), sdi.FileSdIBase{NomeFile: fileName(10+i) + ".p7m", File: raw})
		require.NoError(t, err)
		want += 2
	}
	n.types(want - 1)
	seen := map[string]bool{}
	for _, m := range n.got() {
		require.Empty(t, m.Warnings, m.Name)
		seen[m.Schema.String()+string(m.Type())] = true
		if !okRef {
			continue
		}
		schema := "MessaggiTypes_v1.1.xsd"
		if m.Schema == sdi.SchemaPrivati {
			schema = "MessaggiFatturaTypes_v1.0.xsd"
		}
		path := filepath.Join(t.TempDir(), "m.xml")
		require.NoError(t, os.WriteFile(path, m.XML, 0o600))
		out, err := exec.Command(xmllint, "--noout", "--nonet", "--schema", filepath.Join(ref, "xsd", "offline", schema), path).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	require.Len(t, seen, 9, "three private messages and six public ones: %v", seen)
}
