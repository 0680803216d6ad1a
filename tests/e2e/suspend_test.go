package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/tests/harness"
)

// suspendByHand stops a customer from issuing, by every process within the lifetime of its key cache, and takes nothing
// away from it that it has.
func suspendByHand(t *testing.T, operator, tenant terminal, invoice string) {
	c := &harness.Customer{Platform: tenant.p, VAT: tenant.p.VAT(0)}
	file := filepath.Join(t.TempDir(), "invoice.xml")
	require.NoError(t, os.WriteFile(file, c.XML("FPR12", "SBXRC00", "H-99"), 0o600))
	tried := []string{"invoice", "submit", "--company", "main", "--validate-only", file}
	shown := operator.does("tenant", "suspend", tenant.tenant, "--reason", "canone non pagato")
	require.Equal(t, "SUSPENDED", field(t, shown, "state"))
	require.Regexp(t, "^tenants/"+tenant.tenant+` since .* by operator \(key:operators/.*\): canone non pagato$`, field(t, shown, "suspended"))
	require.Contains(t, operator.says("tenant", "ls", "--state", "suspended"), "tenants/"+tenant.tenant)
	require.NotContains(t, operator.says("tenant", "ls", "--state", "active"), "tenants/"+tenant.tenant)

	require.Eventually(t, func() bool {
		_, errOut, code := tenant.run(tried...)
		return code == 1 && strings.Contains(errOut, "TENANT_SUSPENDED") && strings.Contains(errOut, "canone non pagato")
	}, time.Minute, 200*time.Millisecond, "refused everywhere soon")
	tenant.refused(1, "TENANT_SUSPENDED", tried...)
	require.Equal(t, "DELIVERED", field(t, tenant.says("invoice", "get", invoice[strings.LastIndexByte(invoice, '/')+1:]), "state"))
	require.Contains(t, tenant.says("archive", "ls"), "SEALED")
	require.Contains(t, tenant.says("conserve", "search"), "H-1")

	require.Equal(t, "ACTIVE", field(t, operator.does("tenant", "resume", tenant.tenant), "state"))
	require.Eventually(t, func() bool { _, _, code := tenant.run(tried...); return code == 0 }, time.Minute, 200*time.Millisecond)
}
