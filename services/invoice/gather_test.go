package invoice

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/pg"
)

func TestWhoFindsALaneFreeGoesAlone(t *testing.T) {
	alone, held := make(chan string), make(chan struct{})
	var mu sync.Mutex
	var groups []int
	g := &gatherer{lanes: map[laneKey]*lane{}}
	g.alone = func(_ context.Context, in *intake, _ *admission) (*invoicev1.Invoice, error) {
		alone <- in.requestID
		<-held
		return &invoicev1.Invoice{Name: in.requestID}, nil
	}
	g.several = func(_ context.Context, group []*joined) {
		mu.Lock()
		groups = append(groups, len(group))
		mu.Unlock()
		for _, j := range group {
			j.inv = &invoicev1.Invoice{Name: j.in.requestID}
		}
	}
	var wg sync.WaitGroup
	put := func(ctx context.Context, company, id string, want error) {
		wg.Go(func() {
			inv, err := g.put(ctx, &intake{parent: name{tenant: "acme", company: company}, requestID: id}, &admission{})
			if !errors.Is(err, want) || (want == nil && inv.GetName() != id) {
				t.Errorf("%s: got %v, %v", id, inv, err)
			}
		})
	}
	for i := range gatherLanes {
		put(t.Context(), "main", fmt.Sprint("first ", i), nil)
		<-alone
	}
	put(t.Context(), "other", "of another company", nil)
	require.Equal(t, "of another company", <-alone, "companies do not wait for each other")

	const n = gatherMost + 10
	gone, cancel := context.WithCancel(t.Context())
	for i := range n {
		put(t.Context(), "main", fmt.Sprint("later ", i), nil)
	}
	waiting := func() int {
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(g.lanes[laneKey{"acme", "main"}].waiting)
	}
	require.Eventually(t, func() bool { return waiting() == n }, 10*time.Second, time.Millisecond)
	put(gone, "main", "gone", context.Canceled)
	require.Eventually(t, func() bool { return waiting() == n+1 }, 10*time.Second, time.Millisecond)
	cancel()
	close(held)
	wg.Wait()
	require.Eventually(t, func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(g.lanes) == 0
	}, 10*time.Second, time.Millisecond, "lanes that nobody uses are given up")
	sum := 0
	for _, size := range groups {
		require.LessOrEqual(t, size, gatherMost)
		sum += size
	}
	require.Equal(t, n+1, sum)
}

// Each of a group gets the answer that it would get alone.
func TestGroupAnswersEachForItself(t *testing.T) {
	w := start(t)
	known := uuid.NewString()
	earlier, err := w.api.CreateInvoice(t.Context(), &invoicev1.CreateInvoiceRequest{Parent: acmeMain, Content: file("1"), RequestId: known})
	require.NoError(t, err)

	twice := uuid.NewString()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	cases := []struct {
		name string
		ctx  context.Context
		id   string
		file []byte
		want func(t *testing.T, inv *invoicev1.Invoice, err error)
	}{
		{"new", t.Context(), uuid.NewString(), file("2"), func(t *testing.T, inv *invoicev1.Invoice, err error) {
			require.NoError(t, err)
			require.Equal(t, "2", inv.GetBodies()[0].GetNumber())
		}},
		{"repeated", t.Context(), known, file("1"), func(t *testing.T, inv *invoicev1.Invoice, err error) {
			require.NoError(t, err)
			require.Equal(t, earlier.GetName(), inv.GetName())
		}},
		{"request id of another", t.Context(), known, file("3"), func(t *testing.T, _ *invoicev1.Invoice, err error) {
			requireFault(t, err, "REQUEST_ID_REUSED", "request_id", "REUSED")
		}},
		{"number taken", t.Context(), uuid.NewString(), fileOf(fatturapatest.Options{Numero: "1", Progressivo: "00009"}), func(t *testing.T, _ *invoicev1.Invoice, err error) {
			require.ErrorIs(t, err, errNumberTaken)
		}},
		{"number taken in the group", t.Context(), uuid.NewString(), fileOf(fatturapatest.Options{Numero: "2", Progressivo: "00009"}), func(t *testing.T, _ *invoicev1.Invoice, err error) {
			require.ErrorIs(t, err, errNumberTaken)
		}},
		{"first of two with one id", t.Context(), twice, file("4"), func(t *testing.T, inv *invoicev1.Invoice, err error) {
			require.NoError(t, err)
			require.Equal(t, "4", inv.GetBodies()[0].GetNumber())
		}},
		{"second of two with one id", t.Context(), twice, file("4"), func(t *testing.T, inv *invoicev1.Invoice, err error) {
			require.NoError(t, err)
			require.Equal(t, "4", inv.GetBodies()[0].GetNumber())
		}},
		{"nobody waits", gone, uuid.NewString(), file("5"), func(t *testing.T, _ *invoicev1.Invoice, err error) {
			require.ErrorIs(t, err, context.Canceled)
		}},
		{"without id", t.Context(), "", file("6"), func(t *testing.T, inv *invoicev1.Invoice, err error) {
			require.NoError(t, err)
			require.Equal(t, "6", inv.GetBodies()[0].GetNumber())
		}},
	}
	group := make([]*joined, len(cases))
	for i, c := range cases {
		group[i] = w.joined(c.ctx, c.id, c.file)
	}
	require.NoError(t, w.s.storeGroup(t.Context(), group))
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.want(t, group[i].inv, group[i].err) })
	}
	require.Equal(t, group[5].inv.GetName(), group[6].inv.GetName())
	require.Equal(t, 4, w.count(`SELECT count(*) FROM invoice`))
	require.Equal(t, 4, w.count(`SELECT count(*) FROM held_number`))
	require.Equal(t, 4, w.count(`SELECT count(*) FROM document`))
	stored := w.get(group[0].inv.GetName())
	require.Equal(t, stored.GetEtag(), group[0].inv.GetEtag())
}

// stubborn refuses the bytes of one file.
type stubborn struct {
	blob.Store
	refused [32]byte
}

func (s *stubborn) Put(ctx context.Context, tenant string, data []byte) (blob.Ref, error) {
	if blob.Of(tenant, data).SHA256 == s.refused {
		return blob.Ref{}, errors.New("this one never")
	}
	return s.Store.Put(ctx, tenant, data)
}

func TestOneOfAGroupFailsAlone(t *testing.T) {
	w := start(t)
	bad := file("2")
	w.s.blobs = &stubborn{w.s.blobs, blob.Of("acme", bad).SHA256}
	group := []*joined{w.joined(t.Context(), uuid.NewString(), file("1")), w.joined(t.Context(), uuid.NewString(), bad), w.joined(t.Context(), "", file("3"))}
	w.s.putSeveral(t.Context(), group)
	require.NoError(t, group[0].err)
	require.ErrorContains(t, group[1].err, "this one never")
	require.NoError(t, group[2].err)
	require.Equal(t, 2, w.count(`SELECT count(*) FROM invoice`))
	require.Equal(t, 2, w.count(`SELECT count(*) FROM held_number`))
}

// joined is a request as CreateInvoice would hand it on.
func (w *world) joined(ctx context.Context, requestID string, content []byte) *joined {
	w.t.Helper()
	company := w.n.companies[acmeMain]
	a, err := admit(content, company, pg.Time(w.s.now()))
	require.NoError(w.t, err)
	return &joined{ctx: ctx, a: a, done: make(chan struct{}), in: &intake{parent: name{tenant: "acme", company: "main"},
		company: company, requestID: requestID, hash: requestHash(acmeMain, "", content)}}
}
