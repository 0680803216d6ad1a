package e2e

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/tests/harness"
)

// TestStatementByCertifiedMail: the state of the log comes to the tenant by certified mail, over its own mailbox and its providers,
// and what comes is evidence: with the log's key, the receipt that was kept and the roots it is judged offline, and the provider's
// receipts say when it was stated. It has a platform of its own, since the log is stated once a day.
func TestStatementByCertifiedMail(t *testing.T) {
	t.Parallel()
	p := harness.T(t, harness.Options{Mode: harness.ManyProcesses})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, p.Prepare(ctx))
	require.NoError(t, p.TrustCertifiedMail(ctx))
	c, err := p.Onboard(ctx, 1)
	require.NoError(t, err)
	from, err := c.CertifiedMailbox(ctx)
	require.NoError(t, err)
	to, err := c.CertifiedMailbox(ctx)
	require.NoError(t, err)
	cli, dir := terminal{t, p, c.Key, c.Tenant}, t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	cli.does("conserve", "statement", "--mailbox", from.GetName(), "--to", to.GetAddress())

	name, err := c.Submit(ctx, "FPR12", "SBXRC00", "S-1")
	require.NoError(t, err)
	var unit string
	require.Eventually(t, func() bool {
		found := regexp.MustCompile(`(?m)^([0-9a-f-]{36}) `).FindStringSubmatch(cli.does("archive", "units", "--invoice", name))
		if found != nil {
			unit = found[1]
		}
		return found != nil
	}, time.Minute, 100*time.Millisecond)
	pkg := field(t, cli.does("conserve", "close", "--year", time.Now().Format("2006")), "name")

	// It comes as a transport envelope of the providers, and is proven.
	var id string
	require.Eventually(t, func() bool {
		found := regexp.MustCompile(`(?m)^([0-9a-f-]{36}) .* proven .*Stato del registro`).FindStringSubmatch(cli.does("pec", "message", "ls", to.GetAddress()))
		if found != nil {
			id = found[1]
		}
		return found != nil
	}, time.Minute, 100*time.Millisecond)
	cli.does("pec", "message", "download", to.GetAddress()+"/"+id, "-o", file("statement.eml"))
	checkpoint, stamp := statementOf(t, file("statement.eml"))
	require.NoError(t, os.WriteFile(file("stated.checkpoint"), checkpoint, 0o600))

	// The stamp is over what the log's key signed, and that is what is in the log.
	signed, _, ok := bytes.Cut(checkpoint, []byte("\n\n"))
	require.True(t, ok)
	require.NoError(t, os.WriteFile(file("signed"), append(signed, '\n'), 0o600))
	openssl(t, stamp, "ts", "-verify", "-token_in", "-data", file("signed"), "-in", "IN", "-CAfile", p.SdI.CAFile)
	cli.does("conserve", "log", "-o", file("log.key"))
	require.Eventually(t, func() bool { return field(t, cli.does("archive", "get", pkg), "state") == "SEALED" }, time.Minute, 100*time.Millisecond)
	cli.does("archive", "download", pkg, "-o", file("package.zip"))
	cli.does("conserve", "receipt", unit, "-o", file("unit.receipt"))
	cli.does("conserve", "checkpoint", "--since", file("stated.checkpoint"), "--log-key", file("log.key"), "-o", file("later.checkpoint"))
	verify := func(points ...string) (string, int) {
		words := []string{"conserve", "verify", file("package.zip"), "--log-key", file("log.key"), "--receipt", file("unit.receipt"), "--roots", p.SdI.CAFile}
		for _, point := range points {
			words = append(words, "--checkpoint", file(point))
		}
		out, _, code := cli.run(words...)
		return out, code
	}
	out, code := verify("stated.checkpoint", "later.checkpoint")
	require.Zero(t, code, out)
	require.NoError(t, os.WriteFile(file("forged.checkpoint"), bytes.Replace(checkpoint, []byte("\n"), []byte("\n9"), 1), 0o600))
	out, code = verify("forged.checkpoint")
	require.Equal(t, 1, code, out)

	// The provider's receipts date it, and the archive knows that it was sent; once a day.
	sent := func() string { return cli.does("pec", "message", "ls", from.GetAddress()) }
	require.Eventually(t, func() bool { return strings.Contains(sent(), "ACCEPTANCE") && strings.Contains(sent(), "DELIVERY") }, time.Minute, 100*time.Millisecond)
	shown := cli.says("conserve", "statement")
	require.Equal(t, strings.Split(string(signed), "\n")[1], field(t, shown, "size sent last"))
	require.NotRegexp(t, `(?m)^trouble +\S`, shown)
	log, err := p.Sandbox.PECSubmissions(ctx, from.GetAddress())
	require.NoError(t, err)
	require.Len(t, log, 1)
	require.Equal(t, []string{to.GetAddress()}, log[0].To)
}

// statementOf takes checkpoint and time stamp out of a message as a provider delivers it.
func statementOf(t *testing.T, name string) (checkpoint, stamp []byte) {
	t.Helper()
	raw, err := os.ReadFile(name)
	require.NoError(t, err)
	m, err := pec.Parse(bytes.NewReader(raw), int64(len(raw)), pec.Limits{})
	require.NoError(t, err)
	m.Root.Walk(func(part *pec.Part) bool {
		read := func() []byte {
			content, err := io.ReadAll(part.Open())
			require.NoError(t, err)
			return content
		}
		switch {
		case strings.HasSuffix(part.FileName(), ".checkpoint"):
			checkpoint = read()
		case strings.HasSuffix(part.FileName(), ".tst"):
			stamp = read()
		}
		return true
	})
	require.NotEmpty(t, checkpoint)
	require.NotEmpty(t, stamp)
	return checkpoint, stamp
}
