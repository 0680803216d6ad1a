package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/tests/harness"
)

// TestCertifiedMailComesIn takes a mailbox into keeping with the CLI, has a provider's receipt and a forged one
// come in, and takes evidence of the true one home.
func TestCertifiedMailComesIn(t *testing.T) {
	inBothModes(t, func(t *testing.T, p *harness.Platform) {
		c, err := p.Onboard(t.Context(), 1)
		require.NoError(t, err)
		cli, operator, dir := terminal{t, p, c.Key, c.Tenant}, terminal{t, p, p.OperatorKey, ""}, t.TempDir()
		file := func(name, text string) string {
			path := filepath.Join(dir, name)
			require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
			return path
		}
		index, err := p.Sandbox.PECIndex(t.Context())
		require.NoError(t, err)
		providers, err := p.Sandbox.PECProviders(t.Context())
		require.NoError(t, err)
		var authorities strings.Builder
		for _, g := range providers {
			authorities.WriteString(g.CAPEM)
		}
		operator.does("pec", "trust", "import", file("index.p7m", string(index)), "--index-authority", p.SdI.CAFile, "--authorities", file("authorities.pem", authorities.String()))
		require.Contains(t, operator.says("pec", "trust", "ls"), "Gestore Alfa SANDBOX")

		address := fmt.Sprintf("casella-%s@alfa.test", uuid.NewString()[:8])
		_, err = p.Sandbox.SetPECMailbox(t.Context(), client.PECMailbox{Address: address, Password: "segreta"})
		require.NoError(t, err)
		cli.does("pec", "mailbox", "add", address, "--provider", "sandbox", "--password-file", file("password", "segreta\n"))
		require.Contains(t, cli.says("pec", "mailbox", "test", address), "PASSED")
		for _, how := range []string{"valid", "unsigned"} {
			require.NoError(t, p.Sandbox.ForgePEC(t.Context(), client.PECForge{Mailbox: address, Tipo: "accettazione", MsgID: "e2e@alfa.test", Recipient: "destinatario@beta.test", How: how}))
		}
		list := func() string { return cli.says("pec", "message", "ls", address) }
		require.Eventually(t, func() bool { return strings.Count(list(), "forged") == 2 }, time.Minute, 200*time.Millisecond)
		require.Contains(t, list(), "NOT PROVEN")
		proven := regexp.MustCompile(`(?m)^([0-9a-f-]{36}) .* ACCEPTANCE .* proven `).FindStringSubmatch(list())
		require.NotNil(t, proven, list())
		require.Contains(t, cli.says("pec", "message", "get", address+"/"+proven[1]), "Gestore Alfa SANDBOX")
		require.NotContains(t, cli.says("pec", "message", "ls", address, "--unproven"), proven[1])
		require.Contains(t, cli.says("pec", "message", "reread", address, "--unproven"), "1 read again, 0 of them proven now")
		cli.does("pec", "message", "evidence", address+"/"+proven[1], "-o", filepath.Join(dir, "evidence.zip"))
		info, err := os.Stat(filepath.Join(dir, "evidence.zip"))
		require.NoError(t, err)
		require.NotZero(t, info.Size())
		require.Contains(t, cli.says("pec", "mailbox", "ls"), "ACTIVE")

		vouches(cli, address)

		// Each flag changes what it names, and nothing beside it.
		cli.does("pec", "policy", "terms", address, "--expires", "2999-12-31", "--password-days", "90")
		require.Regexp(t, `mailbox ends +2999-06-30\n(?s:.*)password ends +2`, cli.says("pec", "policy", "terms", address, "--expires", "2999-06-30"))
		cli.does("pec", "policy", "notice", address, "--address", "ufficio@ordinaria.example,capo@ordinaria.example", "--only-from", "@example.com")
		require.Regexp(t, `notices to +ufficio@ordinaria.example capo@ordinaria.example\nonly from +anna@example.com\n`, cli.says("pec", "policy", "notice", address, "--only-from", "anna@example.com"))
		require.NotContains(t, cli.says("pec", "policy", "notice", address, "--address", ""), "notices to")
		require.Regexp(t, `from 90 % on, down to 40 %, of messages older than 99 days`, cli.says("pec", "policy", "room", address, "--to", "40", "--keep-days", "99"))
		require.Regexp(t, `from 80 % on, down to 40 %, of messages older than 99 days`, cli.says("pec", "policy", "room", address, "--at", "80"))
		require.NotContains(t, cli.says("pec", "message", "ls", address, "--unproven"), "SENT")
	})
}

// vouches gives a word for what came within a period, and takes it back; what cannot be is refused in words.
func vouches(cli terminal, address string) {
	cli.t.Helper()
	now := time.Now().UTC()
	copies := func(mailbox string, from, until time.Duration) []string {
		return []string{"pec", "vouch", "copies", mailbox, "--from", now.Add(from).Format(time.RFC3339), "--until", now.Add(until).Format(time.RFC3339), "--reason", "copied, ticket 31"}
	}
	require.Contains(cli.t, cli.says("pec", "vouch", "ls", address), "nobody vouched")
	cli.refused(1, "VOUCHING_PERIOD_INVALID", copies(address, -time.Minute, -time.Hour)...)
	cli.refused(1, "VOUCHING_PERIOD_INVALID", copies(address, -time.Hour, time.Hour)...)
	cli.refused(3, "MAILBOX_NOT_FOUND", copies("nessuno@alfa.test", -time.Hour, -time.Minute)...)
	given := regexp.MustCompile(`(?m)^vouching +(tenants/\S+/vouchings/(\S+))$`).FindStringSubmatch(cli.does(copies(address, -time.Hour, -time.Minute)...))
	require.Len(cli.t, given, 3)
	cli.refused(1, "ALREADY_VOUCHED", copies(address, -time.Hour, -2*time.Minute)...)
	require.Eventually(cli.t, func() bool { return strings.Contains(cli.does("pec", "vouch", "ls", address), "done ") }, time.Minute, 200*time.Millisecond)
	require.Contains(cli.t, cli.says("pec", "vouch", "ls", address), "copied, ticket 31")
	cli.refused(3, "VOUCHING_NOT_FOUND", "pec", "vouch", "end", address+"/"+uuid.NewString(), "--reason", "x")
	require.Contains(cli.t, cli.does("pec", "vouch", "end", address+"/"+given[2], "--reason", "it was another mailbox"), given[1])
	cli.refused(1, "VOUCHING_ENDED", "pec", "vouch", "end", given[1], "--reason", "twice")
	require.Contains(cli.t, cli.says("pec", "vouch", "ls", address), "it was another mailbox")
}
