//go:build browser

package conservation

import (
	"context"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
)

// Test43_DistributionOpensInABrowser opens a package from its folder in a headless Chromium that can reach nobody: the search
// works, hostile text is shown and not run, and the console stays empty. make test-browser runs it; it needs chromium.
func Test43_DistributionOpensInABrowser(t *testing.T) {
	h := open(t, true)
	shelve(t, h)
	h.hostileUnits(t)
	_, raw := h.exhibit(t, &conservationv1.CreateDistributionRequest{Purpose: hostile})
	dir, _ := unpack(t, raw)
	bin, err := exec.LookPath("chromium")
	require.NoError(t, err, "this test needs chromium: apt-get install chromium")
	show := func(hash string) string {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		out, err := exec.CommandContext(ctx, bin, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--user-data-dir="+t.TempDir(),
			"--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--v=0", "--dump-dom", "file://"+filepath.Join(dir, "index.html")+hash).CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.NotContains(t, string(out), "CONSOLE", "the console has errors")
		return string(out)
	}
	all := show("")
	require.Contains(t, all, "6 di 6 documenti")
	require.Contains(t, all, "Bianchi Carla")
	require.NotContains(t, all, "<img src")
	require.Contains(t, all, "&lt;img src=x onerror=alert(2)&gt;", "it is shown as it is")
	one := show("#q=segreta%20VERDI&en")
	require.Contains(t, one, "1 of 6 documents")
	require.Contains(t, one, "Verdi Segreta")
	require.NotContains(t, one, "Bianchi Carla")
}
