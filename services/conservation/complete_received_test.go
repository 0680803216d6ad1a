package conservation

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/run/runtest"
)

// gate answers as the sdi-gateway does: what it says that a tenant received, two to a page.
type gate struct {
	sdiv1.UnimplementedInboundServiceServer

	mu   sync.Mutex
	list []*sdiv1.InboundInvoice
	deny error
}

func (g *gate) ListInboundInvoices(_ context.Context, req *sdiv1.ListInboundInvoicesRequest) (*sdiv1.ListInboundInvoicesResponse, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.deny != nil {
		return nil, g.deny
	}
	var own []*sdiv1.InboundInvoice
	for _, in := range g.list {
		if strings.HasPrefix(in.GetName(), strings.TrimSuffix(req.GetParent(), "-")) {
			own = append(own, in)
		}
	}
	from, _ := strconv.Atoi(req.GetPageToken())
	out := &sdiv1.ListInboundInvoicesResponse{InboundInvoices: own[from:min(from+2, len(own))]}
	if from+2 < len(own) {
		out.NextPageToken = strconv.Itoa(from + 2)
	}
	return out, nil
}

func (g *gate) add(in *sdiv1.InboundInvoice) *sdiv1.InboundInvoice {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.list = append(g.list, in)
	return in
}

// shownAs is what the gateway shows of what its event says.
func shownAs(ev *sdiv1.InboundInvoiceReceived) *sdiv1.InboundInvoice {
	return &sdiv1.InboundInvoice{
		Name: ev.GetInboundInvoice(), SdiId: ev.GetSdiId(), FileName: ev.GetFileName(), Format: ev.GetFormat(), Original: ev.GetOriginal(), Metadata: ev.GetMetadata(),
		ReceiveTime: ev.GetReceiveTime(), UpdateTime: timestamppb.New(time.Now().Add(-2 * time.Hour)),
	}
}

// roster answers as tenancy does.
type roster struct {
	tenancyv1.UnimplementedTenancyServiceServer
}

func (roster) ListTenants(context.Context, *tenancyv1.ListTenantsRequest) (*tenancyv1.ListTenantsResponse, error) {
	return &tenancyv1.ListTenantsResponse{Tenants: []*tenancyv1.Tenant{{Name: "tenants/unheard"}, {Name: "tenants/acme"}}}, nil
}

// TestReceivedCompleteness: what the gateway received and the archive never heard of is named and taken in, of tenants too of whom it
// holds nothing; a day of which nothing is missing is said to be whole; what is on its way is not missed.
func TestReceivedCompleteness(t *testing.T) {
	t.Parallel()
	g := &gate{}
	h := openWith(t, true, "", func(o *runtest.Options) {
		o.Targets = append(o.Targets,
			run.Target{Name: "sdi-gateway", Stateless: true, Start: func(_ context.Context, host *run.Host) error {
				sdiv1.RegisterInboundServiceServer(host.RPC, g)
				return nil
			}},
			run.Target{Name: "tenancy", Stateless: true, Start: func(_ context.Context, host *run.Host) error {
				tenancyv1.RegisterTenancyServiceServer(host.RPC, roster{})
				return nil
			}})
	})
	check := func() findings {
		_, f := h.runCheck(t, sumKind, "")
		return f
	}
	for _, id := range []string{"30000000001", "30000000002", "30000000003"} {
		ev := h.received(t, id, "<x n='"+id+"'/>")
		g.add(shownAs(ev))
		h.deliver(t, ev)
		h.unitOf(t, ev.GetInboundInvoice())
	}
	f := check()
	require.Equal(t, "GOOD", f.Verdict, "%+v", f)
	require.EqualValues(t, 3, f.Checked)
	require.Contains(t, f.Notes, "tenant acme received 3 invoices on 1 days from 2026-11-20 to 2026-11-20: all were in custody")

	// One whose event never came, of the next day in Rome; one that may be on its way; and one of a tenant of whom the archive holds nothing.
	lost := h.received(t, "30000000004", "<x n='lost'/>")
	lost.ReceiveTime = timestamppb.New(time.Date(2026, 11, 20, 23, 30, 0, 0, time.UTC))
	known := g.add(shownAs(lost))
	g.add(shownAs(h.received(t, "30000000005", "<x n='young'/>"))).UpdateTime = timestamppb.Now()
	ref, err := h.probe.Blobs.Put(t.Context(), "unheard", []byte("<x n='unheard'/>"))
	require.NoError(t, err)
	far := shownAs(lost)
	far.Name, far.Metadata = "tenants/unheard/companies/main/inboundInvoices/far", nil
	far.Original = &eventv1.Blob{Uri: ref.URI(), Sha256: ref.SHA256[:], Size: ref.Size, MediaType: mimeXML}
	g.add(far)
	alone := &findings{AskedBy: byTimer}
	require.NoError(t, h.service.completeness(t.Context(), alone))
	require.Len(t, alone.Problems, 2, "%+v", alone)
	require.Contains(t, alone.Problems[0].Problem, "and had no unit: where rows were lost make a check restore")
	require.Empty(t, h.units(t, known.GetName()), "nothing is taken in before a person has read that")
	f = check()
	require.Len(t, f.Problems, 2, "%+v", f)
	require.Equal(t, known.GetName(), f.Problems[0].What)
	require.Equal(t, "it was received on 2026-11-20T23:30:00Z and had no unit: it was taken in now, from what the gateway has", f.Problems[0].Problem)
	require.Equal(t, far.GetName(), f.Problems[1].What)
	require.Contains(t, f.Notes, "tenant acme received 4 invoices on 2 days from 2026-11-20 to 2026-11-21: 3 were in custody, on 1 days all; missing on 2026-11-21 (0 of 1)")
	require.Len(t, h.unitOf(t, known.GetName()).GetFiles(), 3, "document, MT, metadata: as its event would have it")
	require.Contains(t, h.metadata(t, known.GetName()), "sdi:30000000004")
	f = check()
	require.Equal(t, "GOOD", f.Verdict, "%+v", f)
	require.Contains(t, f.Notes, "tenant acme received 4 invoices on 2 days from 2026-11-20 to 2026-11-21: all were in custody")
	require.Contains(t, f.Notes, "tenant unheard received 1 invoices on 1 days from 2026-11-21 to 2026-11-21: all were in custody")
	h.deliver(t, lost) // its event comes after all
	h.settle(t, t.Context(), h.invoice(t, 1))
	h.await(t, "what came after it", func() bool { return len(h.units(t, "")) == 5 })
	require.Len(t, h.unitOf(t, known.GetName()).GetFiles(), 3)

	// SdI's notice that the term is over, of which the archive never heard.
	known.Expiry = &sdiv1.InboundNotice{FileName: "IT09876543217_00004_DT_001.xml", Content: h.put(t, "<DT/>")}
	f = check()
	require.Len(t, f.Problems, 1, "%+v", f)
	require.Contains(t, f.Problems[0].Problem, "its unit had not the notice IT09876543217_00004_DT_001.xml: it was taken in now")
	require.Len(t, h.unitOf(t, known.GetName()).GetFiles(), 4)
	require.Equal(t, "GOOD", check().Verdict)

	// What cannot be taken in is said, and the others are compared and taken in.
	broken, last := shownAs(h.received(t, "30000000006", "<x n='broken'/>")), shownAs(h.received(t, "30000000007", "<x n='last'/>"))
	broken.Original = &eventv1.Blob{Uri: strings.Replace(ref.URI(), "/unheard/", "/acme/", 1), Sha256: ref.SHA256[:], Size: ref.Size}
	g.add(broken)
	g.add(last)
	f = check()
	require.Len(t, f.Problems, 2, "%+v", f)
	require.Equal(t, broken.GetName(), f.Problems[0].What)
	require.Contains(t, f.Problems[0].Problem, "and could not be taken in: ")
	require.Contains(t, f.Problems[0].Problem, "BLOB_NOT_FOUND")
	h.unitOf(t, last.GetName())

	// A unit that was refused or destroyed keeps nothing; what both know to be destroyed is not missed.
	broken.Destruction = &eventv1.Destruction{Disposal: "tenants/acme/disposals/x"}
	for _, state := range []string{"REFUSED", "DESTROYED"} {
		h.admin(t, `UPDATE unit SET state = $1 WHERE subject = $2`, state, last.GetName())
		f = check()
		require.Len(t, f.Problems, 1, "%+v", f)
		require.Equal(t, "it was received and its unit is "+state+" here, of which the gateway does not know", f.Problems[0].Problem)
		if state == "REFUSED" {
			h.admin(t, `UPDATE unit SET state = 'TAKEN_IN_CHARGE' WHERE subject = $1`, last.GetName())
			h.awaitSealed(t, h.closePackage(t).GetName()) // only what was preserved is destroyed
		}
	}
	last.Destruction = broken.GetDestruction()
	require.Equal(t, "GOOD", check().Verdict)

	// A neighbour of before does not let the archive ask: the report says that nothing was compared.
	g.mu.Lock()
	g.deny = fault.Denied("SERVICE_NOT_ALLOWED", `service "conservation" may not call this method`)
	g.mu.Unlock()
	f = check()
	require.Equal(t, "GOOD", f.Verdict)
	require.Contains(t, strings.Join(f.Notes, "\n"), "received invoices were not compared: the sdi-gateway does not list them")
}
