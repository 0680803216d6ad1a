package conservation

import (
	"context"
	"crypto/sha256"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
)

// test56SuspendedTenant: an owner who may not begin anything still has the whole archive, by its own keys: search, exhibition,
// proofs, export, inspectors, holds. What the platform took in before, or receives meanwhile, is taken in charge and sealed.
func test56SuspendedTenant(t *testing.T, h *house, units map[string]string) {
	ctx := context.Background()
	conn := h.DialKey("conservation", h.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"*"}}))
	late := h.invoice(t, 900) // settled after, accepted before
	h.Suspend("acme", "canone non pagato")
	defer h.Resume("acme")
	none := func(err error) {
		t.Helper()
		require.Equal(t, "TENANT_SUSPENDED", code(err))
		require.Equal(t, fault.KindPrecondition, fault.Of(err).Kind)
		require.Contains(t, fault.Of(err).Message, "tenants/acme has been suspended since 2026-11-01T09:00:00Z by an operator of the platform (canone non pagato)")
	}

	deposits := conservationv1.NewDepositServiceClient(conn)
	for _, m := range methods(t, func(string) bool { return true }) { // whoever may read goes on reading, by every method
		access, _ := proto.GetExtension(m.Options(), tenancyv1.E_Access).(*tenancyv1.Access)
		if access.GetScope() == "" || access.GetPublic() {
			continue
		}
		goesOn := strings.HasSuffix(access.GetScope(), ".read") || access.GetWhileSuspended()
		require.Equal(t, goesOn, code(call(ctx, conn, m, nil)) != "TENANT_SUSPENDED", m.FullName())
	}
	stream, err := deposits.CreateDeposit(ctx)
	require.NoError(t, err)
	_, err = stream.CloseAndRecv() // refused before anything is said
	none(err)
	_, err = deposits.OpenDeposit(ctx, &conservationv1.OpenDepositRequest{Parent: "tenants/acme", Key: "sospeso"})
	none(err)
	retention := conservationv1.NewRetentionServiceClient(conn)
	_, err = retention.ProposeDisposal(ctx, &conservationv1.ProposeDisposalRequest{Parent: "tenants/acme", FiscalYear: 2010})
	none(err)

	found, err := h.reader().SearchDocuments(ctx, &conservationv1.SearchDocumentsRequest{Parent: "tenants/acme", Query: field(conservationv1.SearchField_SEARCH_FIELD_NAME, "bianchi")})
	require.NoError(t, err)
	require.Equal(t, units["bianchi"], found.GetDocuments()[0].GetUnit())
	report, err := h.reader().GetIntegrityReport(ctx, &conservationv1.GetIntegrityReportRequest{Name: units["bianchi"]})
	require.NoError(t, err)
	require.True(t, report.GetIntact(), report)
	_, raw := h.exhibit(t, &conservationv1.CreateDistributionRequest{Purpose: "Accertamento durante la sospensione"})
	dir, _ := unpack(t, raw)
	roots, _ := h.rootsFile(t)
	out, good := script(t, dir, roots)
	require.True(t, good, out)
	hold, err := retention.CreateHold(ctx, &conservationv1.CreateHoldRequest{Parent: "tenants/acme", Hold: &conservationv1.Hold{Unit: units["verdi"], Reason: "accertamento 9/2026"}})
	require.NoError(t, err)
	_, err = retention.LiftHold(ctx, &conservationv1.LiftHoldRequest{Name: hold.GetName(), Reason: "chiuso"})
	require.NoError(t, err)
	suspendedInspection(t, h, conn, units)
	suspendedExport(t, conn, h)

	taken, _, _ := h.counts()
	h.settle(t, ctx, late)
	h.await(t, "taken in charge", func() bool { now, _, _ := h.counts(); return now > taken })
	p, err := conservationv1.NewConservationServiceClient(conn).ClosePackage(ctx, &conservationv1.ClosePackageRequest{Parent: "tenants/acme", FiscalYear: year})
	require.NoError(t, err)
	h.awaitSealed(t, p.GetName())
}

func suspendedInspection(t *testing.T, h *house, conn grpc.ClientConnInterface, units map[string]string) {
	t.Helper()
	ctx := context.Background()
	made, err := conservationv1.NewInspectorServiceClient(conn).CreateInspector(ctx, &conservationv1.CreateInspectorRequest{Parent: "tenants/acme", Inspector: &conservationv1.Inspector{
		FullName: "Mar. Luca Ferri", Body: "Guardia di Finanza", Reason: "Ordine 13/2026", ExpireTime: timestamppb.New(time.Now().Add(time.Hour)),
	}})
	require.NoError(t, err)
	api := conservationv1.NewInspectionServiceClient(h.DialKey("conservation", ""))
	as := metadata.AppendToOutgoingContext(ctx, inspectorHeader, made.GetToken())
	seen, err := api.InspectDocuments(as, &conservationv1.InspectDocumentsRequest{})
	require.NoError(t, err)
	require.True(t, slices.ContainsFunc(seen.GetDocuments(), func(d *conservationv1.FoundDocument) bool { return d.GetUnit() == units["bianchi"] }))
	stream, err := api.InspectFile(as, &conservationv1.InspectFileRequest{Unit: units["bianchi"]})
	require.NoError(t, err)
	_, err = stream.Recv()
	require.NoError(t, err)
	require.Contains(t, string(drain(t, func() ([]byte, error) { m, err := stream.Recv(); return m.GetChunk(), err })), "FatturaElettronica")
}

func suspendedExport(t *testing.T, conn grpc.ClientConnInterface, h *house) {
	t.Helper()
	ctx, api := context.Background(), conservationv1.NewTransferServiceClient(conn)
	e, err := api.CreateExport(ctx, &conservationv1.CreateExportRequest{Parent: "tenants/acme"})
	require.NoError(t, err)
	h.await(t, "put together", func() bool {
		e, err = api.GetExport(ctx, &conservationv1.GetExportRequest{Name: e.GetName()})
		require.NoError(t, err)
		return e.GetState() != conservationv1.ExportState_EXPORT_STATE_BUILDING
	})
	require.Equal(t, conservationv1.ExportState_EXPORT_STATE_READY, e.GetState(), e.GetLastError())
	page, err := api.ListExportFiles(ctx, &conservationv1.ListExportFilesRequest{Name: e.GetName(), PageSize: 1000})
	require.NoError(t, err)
	require.Len(t, page.GetFiles(), int(e.GetFileCount()))
	for _, f := range page.GetFiles() {
		sum := sha256.Sum256(fetch(t, api, e.GetName(), f.GetPath(), 0, f.GetSize()))
		require.Equal(t, f.GetSha256(), sum[:], f.GetPath())
	}
}
