package pecgateway_test

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/devenv"
	"ceralacca.dev/services/sandbox/client"
)

// evidence unpacks the evidence of a message into a folder.
func (p *post) evidence(m *pecv1.Message) string {
	p.t.Helper()
	stream, err := p.api.GetMessageEvidence(p.t.Context(), &pecv1.GetMessageEvidenceRequest{Name: m.GetName()})
	require.NoError(p.t, err)
	raw := drain(p.t, func() ([]byte, error) {
		r, err := stream.Recv()
		return r.GetData(), err
	}).Bytes()
	dir := p.t.TempDir()
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	require.NoError(p.t, err)
	for _, f := range z.File {
		r, err := f.Open()
		require.NoError(p.t, err)
		text, err := io.ReadAll(r)
		require.NoError(p.t, err)
		require.NoError(p.t, os.WriteFile(filepath.Join(dir, f.Name), text, 0o600))
	}
	return dir
}

// obey does what VERIFY.txt says, as it says.
func obey(t testing.TB, dir string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-ex", "VERIFY.txt")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// altered changes a file of the evidence, and its sum with it as a forger would, and gives both back.
func altered(t *testing.T, dir, name, before, after string) (back func()) {
	t.Helper()
	file, sums := filepath.Join(dir, name), filepath.Join(dir, "SHA256SUMS")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	list, err := os.ReadFile(sums)
	require.NoError(t, err)
	sum := func(b []byte) string {
		h := sha256.Sum256(b)
		return hex.EncodeToString(h[:])
	}
	forged := bytes.Replace(text, []byte(before), []byte(after), 1)
	require.NotEqual(t, text, forged, name)
	require.Contains(t, string(list), sum(text))
	require.NoError(t, os.WriteFile(file, forged, 0o600))
	require.NoError(t, os.WriteFile(sums, bytes.Replace(list, []byte(sum(text)), []byte(sum(forged)), 1), 0o600))
	return func() {
		require.NoError(t, os.WriteFile(file, text, 0o600))
		require.NoError(t, os.WriteFile(sums, list, 0o600))
	}
}

// TestEvidenceVerifiesOffline: a shell, openssl and what every system has obey the guide of the ZIP, whatever the habits of
// the providers; they refuse a changed message, and a file that is not what was signed although its sum is right.
func TestEvidenceVerifiesOffline(t *testing.T) {
	t.Parallel()
	require.NoError(t, devenv.RequirePeers(t.Context(), os.Stderr, devenv.Peer{Command: "openssl", Package: "openssl"}, devenv.Peer{Command: "python3", Package: "python3"}))
	p := openPost(t, "")
	p.believe()
	for _, profile := range pec.Profiles() {
		for _, id := range []string{"alfa", "beta"} {
			_, err := p.sandbox.SetPECProvider(t.Context(), client.PECProvider{ID: id, Profile: profile.Name})
			require.NoError(t, err)
		}
		m := p.send(recipient)
		p.delivered(m)
		p.eventually("both receipts are there", func() bool {
			return len(p.list(p.mailbox(), func(r *pecv1.ListMessagesRequest) { r.About = m.GetName() })) == 2
		})
		dir := p.evidence(m)
		out, err := obey(t, dir)
		require.NoError(t, err, "%s: %s", profile.Name, out)
		guide, err := os.ReadFile(filepath.Join(dir, "VERIFY.txt"))
		require.NoError(t, err)
		require.Equal(t, 2, strings.Count(string(guide), "\nopenssl cms -verify "), "%s", guide)
		require.Equal(t, 3, strings.Count(string(guide), " | cmp - "), "%s", guide)
		for _, f := range []struct{ name, before, after string }{
			{"receipt-01-accettazione.eml", "daticert", "datiCert"},
			{"receipt-01-accettazione-daticert.xml", recipient, "altri@beta.test"},
			{"receipt-02-avvenuta-consegna-daticert.xml", "<ora>", "<ora>0"},
			{"receipt-02-avvenuta-consegna-postacert.eml", "Buongiorno", "Buonasera"},
		} {
			back := altered(t, dir, f.name, f.before, f.after)
			out, err := obey(t, dir)
			require.Error(t, err, "%s: a changed %s is good: %s", profile.Name, f.name, out)
			require.NotContains(t, out, "FAILED", "the sums had to be right for this")
			back()
		}
	}
	// What is not proven is said to be, and what openssl refuses is no part of what the shell does.
	require.NoError(t, p.sandbox.ForgePEC(t.Context(), client.PECForge{Mailbox: sender, Tipo: "avvenuta-consegna", MsgID: "x@alfa.test", Recipient: recipient, How: "bad_signature"}))
	var forged *pecv1.Message
	p.eventually("the forged one is there", func() bool {
		list := p.list(p.mailbox(), func(r *pecv1.ListMessagesRequest) { r.Kind = pecv1.MessageKind_MESSAGE_KIND_ORDINARY })
		if len(list) == 1 {
			forged = list[0]
		}
		return len(list) == 1
	})
	dir := p.evidence(forged)
	out, err := obey(t, dir)
	require.NoError(t, err, out)
	guide, err := os.ReadFile(filepath.Join(dir, "VERIFY.txt"))
	require.NoError(t, err)
	require.Contains(t, string(guide), "# message.eml is not proven (invalid-digest): message-report-1.json says why")
	require.NotContains(t, out, "openssl")
	p.everything()
}
