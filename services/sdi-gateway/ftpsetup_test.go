package sdigateway_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/devenv"
	"ceralacca.dev/services/sandbox"
	"ceralacca.dev/services/sandbox/sandboxtest"
)

// TestSDIFTPIsSetUpAsWritten follows README.md: the server's key, what SdI grants, the configuration. Then OpenSSH sees
// the two directories, and an invoice goes to the exchange and comes back delivered.
func TestSDIFTPIsSetUpAsWritten(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	_, part, ok := strings.Cut(string(readme), "### Setting SDIFTP up\n")
	require.True(t, ok)
	part, _, _ = strings.Cut(part, "\n## ")
	blocks := regexp.MustCompile("(?s)```(sh|yaml)\n(.*?)```").FindAllStringSubmatch(part, -1)
	require.Len(t, blocks, 4, "key, grant, configuration, look")
	address, _, err := devenv.FreeAddress()
	require.NoError(t, err)
	host, port, _ := strings.Cut(address, ":")
	world := sandboxtest.Start(t, sandbox.Config{ECDSAReceipts: true, LaxSignatures: true})
	var here string
	shell := func(script string) string {
		words := strings.NewReplacer("/etc/ceralacca/sdiftp", here, "sdi-gateway.internal:2222", address, "sdi-gateway.internal", host, "-P 2222", "-P "+port,
			"sftp -q", "sftp -q -F /dev/null -o UserKnownHostsFile=/dev/null", "02345678904", fiscalID)
		cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", words.Replace(script)) //nolint:gosec // what our README says
		if _, err := os.Stat(here); err == nil {                                                         // the first block makes it and goes there
			cmd.Dir = here
		}
		cmd.Env = append(os.Environ(), "CERALACCA_SANDBOX="+world.Endpoints().ControlURL)
		said, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s\n%s", words.Replace(script), said)
		return string(said)
	}
	b := setupWith(t, options{sandbox: world.Endpoints(), lines: []func(*bundle) string{func(b *bundle) string {
		here = filepath.Join(b.certs, "sdiftp")
		shell(blocks[0][2])
		signer := strings.TrimSpace(shell(blocks[1][2]))
		require.Contains(t, blocks[2][2], "["+signer+"]", "the name in the README is the sandbox's")
		shell("ssh-keygen -q -t ed25519 -N '' -f trial.key && cat trial.key.pub >> authorized_keys")
		lines := strings.NewReplacer("/etc/ceralacca/sdiftp", here, "0.0.0.0:2222", address, "gather_for: 5m", "gather_for: 0s").Replace(blocks[2][2])
		return "  " + strings.ReplaceAll(strings.TrimSpace(lines), "\n", "\n  ") + "\n"
	}}})
	seen := shell(blocks[3][2])
	require.Equal(t, "DatiDaSdI\nDatiVersoSdI\n", regexp.MustCompile(`(?m)^sftp>.*\n`).ReplaceAllString(seen, ""))
	b.awaitOf(t, b.accept(t, "FPR12", "SBXRC00", "1"), "InvoiceTransmitted", "InvoiceDelivered")
	b.once(t, 1)
}
