package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
)

// The files for SdI's services hold what lacks a message, each request its own.
func TestReconciliationFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	require.NoError(t, writeReconciliation(dir, &sdiv1.ReconcileResponse{
		Missing: []*sdiv1.ReconcileResponse_MissingMessage{
			{SdiId: "111", FileName: "IT01234567897_00001.xml", FileSha256: []byte{0xab}, Kind: sdiv1.DeadlineKind_DEADLINE_KIND_RECEIPT},
			{SdiId: "222", FileName: "IT01234567897_00002.xml", Kind: sdiv1.DeadlineKind_DEADLINE_KIND_OUTCOME},
		},
		Requests: []*sdiv1.ReconcileResponse_RedeliveryRequest{{FirstDay: "2026-10-01", LastDay: "2026-10-12", SdiIds: []string{"222", "unknown"}}},
	}))
	all, err := os.ReadFile(filepath.Join(dir, "quadratura.csv"))
	require.NoError(t, err)
	require.Equal(t, "identificativo_sdi;nome_file;sha256;inviato;manca;entro\n111;IT01234567897_00001.xml;ab;;RECEIPT;\n222;IT01234567897_00002.xml;;;OUTCOME;\n", string(all))
	one, err := os.ReadFile(filepath.Join(dir, "reinoltro_2026-10-01_2026-10-12.csv"))
	require.NoError(t, err)
	require.Equal(t, "identificativo_sdi;nome_file;sha256;inviato;manca;entro\n222;IT01234567897_00002.xml;;;OUTCOME;\n", string(one))
}
