package e2e

import (
	"archive/zip"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/tests/harness"
)

// TestCertifiedMailIsPreserved: a message that came into a mailbox is looked for, filed, handed over to preservation,
// sealed in a package that verifies offline, and comes out of it byte by byte; who has no right does not see it.
func TestCertifiedMailIsPreserved(t *testing.T) {
	inBothModes(t, func(t *testing.T, p *harness.Platform) {
		require.NoError(t, p.TrustCertifiedMail(t.Context()))
		c, err := p.Onboard(t.Context(), 1)
		require.NoError(t, err)
		box, err := c.CertifiedMailbox(t.Context())
		require.NoError(t, err)
		cli, dir := terminal{t, p, c.Key, c.Tenant}, t.TempDir()
		require.NoError(t, p.Sandbox.ForgePEC(t.Context(), client.PECForge{Mailbox: box.GetAddress(), Tipo: "accettazione", MsgID: "e2e@alfa.test", Recipient: "destinatario@beta.test", How: "valid"}))
		id := ""
		require.Eventually(t, func() bool {
			found := regexp.MustCompile(`(?m)^([0-9a-f-]{36}) .* ACCEPTANCE .* proven `).FindStringSubmatch(cli.says("pec", "message", "ls", "-", "--type", "accettazione"))
			if found != nil {
				id = found[1]
			}
			return found != nil
		}, time.Minute, 200*time.Millisecond)
		require.Contains(t, cli.says("pec", "message", "headers", box.GetAddress()+"/"+id), "X-Ricevuta: accettazione")
		cli.does("pec", "folder", "make", box.GetAddress(), "Ricevute")
		cli.does("pec", "message", "move", box.GetAddress(), id, "--to", "Ricevute")
		require.Contains(t, cli.says("pec", "message", "ls", box.GetAddress(), "--folder", "Ricevute"), id)
		require.Contains(t, cli.says("pec", "log", box.GetAddress(), "--type", "accettazione"), "received")
		require.Contains(t, cli.says("pec", "hub"), "1 mailboxes")
		require.Contains(t, cli.says("pec", "damaged", "-"), " of reading everything")
		require.Contains(t, cli.says("pec", "providers"), "imaps.pec.aruba.it:993")
		rules := filepath.Join(dir, "rules.json")
		require.NoError(t, os.WriteFile(rules, []byte(`{"rules": [{"scope": "RULE_SCOPE_ORDINARY", "action": "RULE_ACTION_FORWARD", "forward_to": "ufficio@example.com"}]}`), 0o600))
		require.Contains(t, cli.says("pec", "policy", "rules", box.GetAddress(), "--file", rules), "FORWARD ufficio@example.com")
		require.Contains(t, cli.says("pec", "policy", "notice", box.GetAddress(), "--address", "a@example.com"), "a@example.com")
		require.Contains(t, cli.says("pec", "policy", "preserve", box.GetAddress()), "every day")
		reader, sender, stranger := cli.other("reader"), cli.other("sender"), cli.other("stranger")
		require.Contains(t, stranger.says("pec", "message", "ls", box.GetAddress()), id, "without a list every key with the scopes has all rights")
		cli.does("pec", "access", "set", box.GetAddress(), "--grant", "key:"+reader.id+"=read", "--grant", "key:"+c.Tenant+"/apiKeys/"+sender.id+"=manage")
		require.Contains(t, cli.says("pec", "access", "get", box.GetAddress()), "key:"+c.Tenant+"/apiKeys/"+reader.id)
		require.Contains(t, reader.says("pec", "message", "ls", box.GetAddress()), id)
		reader.refused(4, "MAILBOX_RIGHT_MISSING", "pec", "send", box.GetAddress(), "--to", "destinatario@beta.test", "--subject", "x", "--text", "y")
		require.Contains(t, sender.says("pec", "policy", "terms", box.GetAddress(), "--password-days", "90"), "password ends")
		stranger.refused(3, "MAILBOX_NOT_FOUND", "pec", "message", "ls", box.GetAddress())
		require.Contains(t, stranger.says("pec", "hub"), "0 mailboxes")

		cli.does("pec", "message", "download", box.GetAddress()+"/"+id, "-o", filepath.Join(dir, "message.eml"))
		original, err := os.ReadFile(filepath.Join(dir, "message.eml"))
		require.NoError(t, err)
		require.Contains(t, cli.says("pec", "preserve", box.GetAddress(), id), "1")
		require.Eventually(t, func() bool {
			return regexp.MustCompile(`"unit":\s*"tenants/`).MatchString(cli.does("pec", "message", "get", box.GetAddress()+"/"+id, "--format", "json"))
		}, time.Minute, 200*time.Millisecond)
		require.Contains(t, cli.does("conserve", "close", "--year", time.Now().Format("2006"), "--class", "PEC"), "PEC")
		var pack string
		require.Eventually(t, func() bool {
			found := regexp.MustCompile(`"package":\s*"tenants/[^/]+/packages/([0-9a-f-]{36})"`).FindStringSubmatch(cli.does("pec", "message", "get", box.GetAddress()+"/"+id, "--format", "json"))
			if found != nil {
				pack = found[1]
			}
			return found != nil
		}, time.Minute, 200*time.Millisecond)
		file := filepath.Join(dir, "package.zip")
		cli.does("archive", "download", pack, "-o", file)
		require.Contains(t, cli.does("inspect", file, "--roots", p.SdI.CAFile), "checked")
		z, err := zip.OpenReader(file)
		require.NoError(t, err)
		defer z.Close()
		same := false
		for _, e := range z.File {
			if !strings.HasSuffix(e.Name, ".eml") {
				continue
			}
			r, err := e.Open()
			require.NoError(t, err)
			raw, err := io.ReadAll(r)
			require.NoError(t, err)
			same = same || string(raw) == string(original)
		}
		require.True(t, same, "the message is in the package as it came")
	})
}

// scoped is a terminal with a key of its own, which may read and write certified mail and nothing else.
type scoped struct {
	terminal
	id string
}

func (s terminal) other(what string) scoped {
	s.t.Helper()
	made := s.does("key", "create", "--display-name", what, "--scopes", "pec.read,pec.write")
	name := regexp.MustCompile(`apiKeys/([0-9a-f-]{36})`).FindStringSubmatch(made)
	secret := regexp.MustCompile(`cl_test_\w+`).FindString(made)
	require.NotNil(s.t, name, made)
	require.Contains(s.t, s.says("key", "ls"), what, "whoever looks for a key's id knows it by what it is for")
	s.key = secret
	return scoped{s, name[1]}
}
