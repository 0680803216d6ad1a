package sdigateway_test

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/format/sdi"
)

// Two gateways share a database and a bucket: names, attempts, supports and receptions are each one gateway's. While
// both work one of them is killed, and the other ends what it had begun.
func TestTwoGateways(t *testing.T) {
	t.Parallel()
	const files = filesPastBoth
	for _, ways := range []string{"SDICOOP", "SDIFTP"} {
		t.Run(ways, func(t *testing.T) {
			t.Parallel()
			w := newWard(t, ways, 2)
			names := map[string]bool{}
			for i := range files {
				names[w.accept(t, "FPR12", "SBXRC00", fmt.Sprintf("T%d", i))] = true
				if i == files/2 { // not the one whose address SdI knows
					w.kill(t, w.gates[1])
				}
			}
			told := map[string]int{}
			for range 2 * files {
				ev := w.await(t)
				about, ok := ev.(interface{ GetInvoice() string })
				require.True(t, ok)
				require.True(t, names[about.GetInvoice()])
				key := fmt.Sprintf("%T %s", ev, about.GetInvoice())
				told[key]++
				require.Equal(t, 1, told[key], key)
			}
			w.start(t, w.gates[1])
			w.sameFileAtBoth(t)
			w.sameMessageAtBoth(t)
			w.settledOnce(t, files)
			require.Zero(t, w.counted(t, "SELECT count(*) FROM (SELECT 1 FROM support_file GROUP BY transmission_id HAVING count(*) > 1) d"))
			require.Equal(t, files, w.counted(t, "SELECT count(DISTINCT file_key) FROM transmission"))
		})
	}
}

// caller is SdI's own client at one of the gateways.
func (w *ward) caller(t *testing.T, g *gateway, path string) *sdi.Client {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(filepath.Join(w.certs, "client.crt"), filepath.Join(w.certs, "client.key"))
	require.NoError(t, err)
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{cert}}} //nolint:gosec // the server's certificate is not what is tested
	t.Cleanup(transport.CloseIdleConnections)
	return &sdi.Client{HTTP: &http.Client{Transport: transport, Timeout: 30 * time.Second}, URL: "https://" + g.address + path}
}

// sameFileAtBoth delivers one file to both gateways at the same time, several times: one file, one event.
func (w *ward) sameFileAtBoth(t *testing.T) {
	t.Helper()
	content := fatturapatest.Invoice(fatturapatest.Options{Numero: "both", CodiceDestinatario: ownCode})
	mt := &sdi.MetadatiInvioFile{CodiceDestinatario: ownCode, Formato: "FPR12", TentativiInvio: 1}
	mt.IdentificativoSdI, mt.NomeFile, mt.MessageID = "77777777777", "IT09876543217_BOTH1.xml", "1"
	mt.Hash = fmt.Sprintf("%x", sha256.Sum256(content))
	metadata, err := sdi.WriteMessage(mt, sdi.SchemaPrivati)
	require.NoError(t, err)
	call := sdi.FileSdIConMetadati{IdentificativoSdI: mt.IdentificativoSdI, NomeFile: mt.NomeFile, File: content, NomeFileMetadati: "IT09876543217_BOTH1_MT_001.xml", Metadati: metadata}
	w.atBoth(t, "/ricezione", func(c *sdi.Client) error { return c.RiceviFatture(t.Context(), call) })
	w.awaitInbound(t, mt.IdentificativoSdI)
	eventually(t, "all deliveries read", func() (bool, string) {
		n := w.counted(t, "SELECT count(*) FROM inbound_delivery WHERE read_at IS NOT NULL")
		return n == 8, fmt.Sprint(n)
	})
	require.Equal(t, 1, w.counted(t, "SELECT count(*) FROM inbound_file"))
}

// sameMessageAtBoth gives one message to both gateways at the same time, several times: one message, one fact.
func (w *ward) sameMessageAtBoth(t *testing.T) {
	t.Helper()
	var name, id string
	require.NoError(t, w.admin.QueryRow(t.Context(), "SELECT file_name, sdi_id FROM transmission ORDER BY id LIMIT 1").Scan(&name, &id))
	message := sdi.FileSdI{IdentificativoSdI: id, NomeFile: strings.TrimSuffix(name, ".xml") + "_RC_002.xml", File: []byte(strings.ReplaceAll(privateRC, "%FILE%", name))}
	w.atBoth(t, "/", func(c *sdi.Client) error { return c.Notifica(t.Context(), sdi.OpRicevutaConsegna, message) })
	eventually(t, "the message applied", func() (bool, string) {
		n := w.counted(t, "SELECT count(*) FROM message WHERE file_name LIKE '%RC_002.xml' AND applied_at IS NOT NULL AND duplicates = 7")
		return n == 1, fmt.Sprint(n)
	})
}

func (w *ward) atBoth(t *testing.T, path string, call func(*sdi.Client) error) {
	t.Helper()
	var all sync.WaitGroup
	for _, g := range w.gates {
		c := w.caller(t, g, path)
		for range 4 {
			all.Go(func() {
				if err := call(c); err != nil {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
}
