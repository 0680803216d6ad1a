package conservation

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/internal/auth"
)

// TestRefusedInspectionsAreWrittenDown: what an inspector asked for and did not get, since the question could not be answered or found
// nothing to hand out, stands in the log beside what was shown, with the code of the refusal.
func TestRefusedInspectionsAreWrittenDown(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	units := shelve(t, h)
	tenant := conservationv1.NewInspectorServiceClient(h.DialKey("conservation", h.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"archive.read", "archive.write"}})))
	granted, err := tenant.CreateInspector(t.Context(), &conservationv1.CreateInspectorRequest{Parent: "tenants/acme", Inspector: &conservationv1.Inspector{
		FullName: "Mar. Luca Ferri", Filter: field(conservationv1.SearchField_SEARCH_FIELD_NAME, "bianchi"), ExpireTime: timestamppb.New(time.Now().Add(time.Hour)),
	}})
	require.NoError(t, err)
	as := metadata.AppendToOutgoingContext(t.Context(), inspectorHeader, granted.GetToken())
	api := conservationv1.NewInspectionServiceClient(h.DialKey("conservation", ""))
	wrong := field(conservationv1.SearchField_SEARCH_FIELD_DATE, "ieri")
	var refused []string
	note := func(err error) {
		t.Helper()
		require.Error(t, err)
		refused = append(refused, code(err))
	}
	_, err = api.InspectDocuments(as, &conservationv1.InspectDocumentsRequest{Query: wrong})
	note(err)
	_, err = api.CreateInspectionDistribution(as, &conservationv1.CreateInspectionDistributionRequest{Query: wrong})
	note(err)
	_, err = api.CreateInspectionDistribution(as, &conservationv1.CreateInspectionDistributionRequest{Units: []string{"tenants/beta/units/x"}})
	note(err)
	_, err = api.CreateInspectionDistribution(as, &conservationv1.CreateInspectionDistributionRequest{Query: field(conservationv1.SearchField_SEARCH_FIELD_NAME, "verdi")})
	note(err)
	_, err = api.CreateInspectionDistribution(as, &conservationv1.CreateInspectionDistributionRequest{Units: []string{units["verdi"]}})
	note(err)
	log, err := tenant.ListInspections(t.Context(), &conservationv1.ListInspectionsRequest{Parent: "tenants/acme"})
	require.NoError(t, err)
	var written []string
	for _, i := range log.GetInspections() {
		if i.GetAction() == "denied" {
			require.Equal(t, "tenants/acme", i.GetResource())
			written = append([]string{i.GetDetail()}, written...)
		}
	}
	require.Len(t, refused, 5)
	require.Equal(t, refused, written)
}
