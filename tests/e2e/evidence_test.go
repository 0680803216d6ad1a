package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/tests/harness"
)

// TestEvidence takes an invoice into custody and verifies it with what its owner kept, the archive's process being dead.
func TestEvidence(t *testing.T) {
	inBothModes(t, func(t *testing.T, p *harness.Platform) {
		c, err := p.Onboard(t.Context(), 1)
		require.NoError(t, err)
		cli, dir := terminal{t, p, c.Key, c.Tenant}, t.TempDir()
		file := func(name string) string { return filepath.Join(dir, name) }
		require.NoError(t, os.WriteFile(file("invoice.xml"), c.XML("FPR12", "SBXRC00", "E-1"), 0o600))
		cli.does("invoice", "submit", "--company", "main", file("invoice.xml"))
		require.Eventually(t, func() bool { return strings.Contains(cli.does("archive", "units"), "TAKEN_IN_CHARGE") }, time.Minute, 100*time.Millisecond)
		unit := regexp.MustCompile(`(?m)^([0-9a-f-]{36}) `).FindStringSubmatch(cli.does("archive", "units"))[1]
		eventually := func(arguments ...string) {
			require.Eventually(t, func() bool {
				_, errOut, code := cli.run(arguments...)
				if code != 0 {
					require.Regexp(t, "RECEIPT_NOT_READY|SUBMISSION_REPORT_NOT_READY", errOut)
				}
				return code == 0
			}, time.Minute, 200*time.Millisecond)
		}
		eventually("conserve", "receipt", unit, "-o", file("unit.receipt"))
		require.Contains(t, cli.says("conserve", "log", "-o", file("log.key")), "origin")
		require.Contains(t, cli.says("conserve", "checkpoint", "-o", file("first.checkpoint")), "size")

		pkg := field(t, cli.does("conserve", "close", "--year", time.Now().Format("2006")), "name")
		require.Eventually(t, func() bool { return field(t, cli.does("archive", "get", pkg), "state") == "SEALED" }, time.Minute, 100*time.Millisecond)
		cli.does("archive", "download", pkg, "-o", file("package.zip"))
		eventually("conserve", "receipt", "--package", pkg, "--latest", "-o", file("package.receipt"))
		require.Contains(t, cli.says("conserve", "checkpoint", "--since", file("first.checkpoint"), "--log-key", file("log.key"), "-o", file("second.checkpoint")), "good")

		monitor := []string{"conserve", "monitor", "--once", "--packages", "--state", file("monitor"), "--log-key", file("log.key"), "--receipt", file("*.receipt")}
		for range 2 { // the first look, and one that compares with it
			require.Contains(t, cli.does(monitor...), "2 receipts in it")
		}
		seen, err := os.ReadFile(file("monitor/last.checkpoint"))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file("monitor/last.checkpoint"), []byte("torn"), 0o600))
		_, _, code := cli.run(monitor...)
		require.NotZero(t, code)
		require.NoError(t, os.WriteFile(file("monitor/last.checkpoint"), seen, 0o600))

		// A document of the tenant's own, its report, and everything handed over.
		require.NoError(t, os.WriteFile(file("lettera.txt"), []byte("Egregio dottore\n"), 0o600))
		uploaded := cli.does("conserve", "upload", file("lettera.txt"), "--key", "lettera-1", "--type", "Lettera", "--title", "Saluti", "--date", "2026-03-31", "--flow", "in", "--author", "Beta S.r.l.")
		require.Contains(t, uploaded, "ACCEPTED")
		eventually("conserve", "rdv", field(t, uploaded, "name"), "-o", file("rdv.xml"))
		cli.does("conserve", "hold", "set", "--reason", "causa 1/2026")
		require.Contains(t, cli.says("conserve", "hold", "ls"), "everything")
		_, errOut, code := cli.run("conserve", "scarto", "propose")
		require.NotZero(t, code)
		require.Contains(t, errOut, "DISPOSAL_EMPTY")
		require.Contains(t, cli.does("conserve", "export", "-o", file("export")), "READY")
		require.NoError(t, os.Remove(filepath.Join(file("export"), "bagit.txt")))
		cli.does("conserve", "export", "-o", file("export")) // goes on: what is there is not fetched again
		require.FileExists(t, filepath.Join(file("export"), "bagit.txt"))

		require.NoError(t, p.Kill(p.ProcessOf("conservation")))
		_, _, code = cli.run(monitor...)
		require.NotZero(t, code, "who does not answer is not called good")
		out, _, code := cli.run("conserve", "verify", file("export"), "--log-key", file("log.key"), "--roots", p.SdI.CAFile)
		require.Zero(t, code, out)
		require.NoError(t, os.WriteFile(filepath.Join(file("export"), "data", "units.jsonl"), []byte("{}\n"), 0o600))
		out, _, code = cli.run("conserve", "verify", file("export"))
		require.Equal(t, 1, code, out)
		require.Contains(t, out, "EXPORT_FILE_CHANGED")
		verify := func(pkg string, more ...string) (string, int) {
			out, _, code := cli.run(append([]string{
				"conserve", "verify", file(pkg), "--log-key", file("log.key"), "--roots", p.SdI.CAFile, "--complete",
				"--receipt", file("unit.receipt"), "--receipt", file("package.receipt"),
			}, more...)...)
			return out, code
		}
		out, code = verify("package.zip", "--checkpoint", file("first.checkpoint"), "--checkpoint", file("second.checkpoint"))
		require.Zero(t, code, out)
		require.Contains(t, out, "1 of 1 units of the package: the files are those that were taken in charge")
		require.Contains(t, out, "byte for byte the one that was sealed")
		out, code = verify("package.zip", "--checkpoint", file("second.checkpoint"), "--checkpoint", file("first.checkpoint"))
		require.Equal(t, 1, code)
		require.Contains(t, out, "LOG_ROLLED_BACK")
		raw, err := os.ReadFile(file("package.zip"))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file("longer.zip"), append(raw, 0), 0o600))
		out, code = verify("longer.zip")
		require.Equal(t, 1, code, out)
		_, _, code = cli.run("conserve", "verify", file("missing.zip"))
		require.Equal(t, 2, code)
	})
}
