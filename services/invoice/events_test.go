package invoice

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
)

// Many writers, some of whose transactions fail: a reader that follows the log sees the positions
// 1, 2, 3 ... and never has to come back for one.
func TestLogHasNoGaps(t *testing.T) {
	w := start(t)
	const writers, each = 8, 25
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stream, err := w.api.StreamEvents(ctx, &invoicev1.StreamEventsRequest{Parent: "tenants/acme"})
	require.NoError(t, err)
	var wg sync.WaitGroup
	errs := make(chan error, writers*each)
	for i := range writers {
		wg.Go(func() {
			for k := range each {
				_, err := w.api.CreateInvoice(ctx, &invoicev1.CreateInvoiceRequest{Parent: acmeMain, Content: file(fmt.Sprintf("%d-%d", i, k))})
				errs <- err
				_, err = w.api.CreateInvoice(ctx, &invoicev1.CreateInvoiceRequest{Parent: acmeMain, Content: file(fmt.Sprintf("%d-%d", i, k))})
				if err == nil {
					errs <- fmt.Errorf("a duplicate was accepted")
				}
			}
		})
	}
	seen := map[string]bool{}
	for want := int64(1); want <= writers*each; {
		m, err := stream.Recv()
		require.NoError(t, err)
		if m.GetEvent() == nil {
			continue
		}
		require.Equal(t, want, m.GetEvent().GetPosition())
		require.Equal(t, want, m.GetPosition())
		require.False(t, seen[m.GetEvent().GetInvoice()])
		seen[m.GetEvent().GetInvoice()] = true
		want++
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	require.Equal(t, writers*each, w.count(`SELECT count(*) FROM event`))
	require.Equal(t, writers*each, w.count(`SELECT max(position) FROM event`))

	// The same by pages; the last token goes on where the log grows.
	req := &invoicev1.ListEventsRequest{Parent: "tenants/acme", PageSize: 30}
	n := int64(0)
	for {
		page, err := w.api.ListEvents(t.Context(), req)
		require.NoError(t, err)
		require.NotEmpty(t, page.GetNextPageToken())
		req.PageToken = page.GetNextPageToken()
		for _, e := range page.GetEvents() {
			n++
			require.Equal(t, n, e.GetPosition())
		}
		if len(page.GetEvents()) == 0 {
			break
		}
	}
	require.Equal(t, int64(writers*each), n)
	w.create(file("1 more"))
	w.eventually(func() bool {
		page, err := w.api.ListEvents(t.Context(), req)
		return err == nil && len(page.GetEvents()) == 1 && page.GetEvents()[0].GetPosition() == n+1
	}, "the token goes on")
}

func TestStreamResumesAndFilters(t *testing.T) {
	w := start(t)
	first, second := w.create(file("1")), w.create(file("2"))
	w.eventually(func() bool { return w.count(`SELECT count(*) FROM event`) == 2 }, "two events")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	open := func(after int64, filter string) func() *invoicev1.StreamEventsResponse {
		s, err := w.api.StreamEvents(ctx, &invoicev1.StreamEventsRequest{Parent: "tenants/acme", AfterPosition: after, Filter: filter})
		require.NoError(t, err)
		return func() *invoicev1.StreamEventsResponse {
			m, err := s.Recv()
			require.NoError(t, err)
			return m
		}
	}
	resumed := open(1, "")
	require.Equal(t, second.GetName(), resumed().GetEvent().GetInvoice())
	beat := resumed()
	require.Nil(t, beat.GetEvent(), "then a heartbeat")
	require.Equal(t, int64(2), beat.GetPosition())

	only := open(0, `invoice = "`+first.GetName()+`"`)
	require.Equal(t, first.GetName(), only().GetEvent().GetInvoice())
	require.Equal(t, int64(2), only().GetPosition(), "a heartbeat also passes what the filter leaves out")

	s, err := w.api.StreamEvents(ctx, &invoicev1.StreamEventsRequest{Parent: "tenants/acme", Filter: "colour = red"})
	require.NoError(t, err)
	_, err = s.Recv()
	requireFault(t, err, "FILTER_INVALID", "filter", "FILTER_INVALID")
	cancel()
}

// Without a heartbeat and a poll within the life of the test, only the wake can deliver.
func TestStreamWakesAtOnce(t *testing.T) {
	w := startBeating(t, time.Hour)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := w.api.StreamEvents(ctx, &invoicev1.StreamEventsRequest{Parent: "tenants/acme"})
	require.NoError(t, err)
	for i := range 20 {
		inv := w.create(file(fmt.Sprint(i)))
		m, err := s.Recv()
		require.NoError(t, err)
		require.Equal(t, inv.GetName(), m.GetEvent().GetInvoice())
	}
}

func TestStreamEndsWhenTheProcessDrains(t *testing.T) {
	w := start(t)
	w.create(file("1"))
	s, err := w.api.StreamEvents(t.Context(), &invoicev1.StreamEventsRequest{Parent: "tenants/acme"})
	require.NoError(t, err)
	_, err = s.Recv()
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() {
		for {
			if _, err := s.Recv(); err != nil {
				ended <- err
				return
			}
		}
	}()
	w.Stop()
	select {
	case err := <-ended:
		requireFault(t, err, "DRAINING", "", "")
	case <-time.After(10 * time.Second):
		t.Fatal("the stream holds up the end of the process")
	}
}

// TestDeadlinesAreLogged: terms about which a customer can do something stand in the log, and change no state; those that are the
// platform's own do not.
func TestDeadlinesAreLogged(t *testing.T) {
	w := start(t)
	inv := w.create(file("1"))
	at := func(kind sdiv1.DeadlineKind, passed bool) *sdiv1.DeadlineReached {
		return &sdiv1.DeadlineReached{Invoice: inv.GetName(), SdiId: "1", Kind: kind, Passed: passed, DueTime: timestamppb.Now(), Format: inv.GetFormat()}
	}
	w.state("acme", at(sdiv1.DeadlineKind_DEADLINE_KIND_ATTESTATION, true), at(sdiv1.DeadlineKind_DEADLINE_KIND_RECEIPT, true), at(sdiv1.DeadlineKind_DEADLINE_KIND_RESEND, false),
		at(sdiv1.DeadlineKind_DEADLINE_KIND_RESEND, true), at(sdiv1.DeadlineKind_DEADLINE_KIND_OUTCOME, true))
	types := func(filter string) (out []string) {
		log, err := w.api.ListEvents(t.Context(), &invoicev1.ListEventsRequest{Parent: "tenants/acme", Filter: filter})
		require.NoError(t, err)
		for _, e := range log.GetEvents() {
			require.Equal(t, inv.GetName(), e.GetInvoice())
			out = append(out, e.GetType())
		}
		return out
	}
	w.eventually(func() bool { return len(types("")) == 5 }, "the terms are logged")
	require.ElementsMatch(t, []string{"invoice.accepted", "invoice.receipt_overdue", "invoice.resend_due", "invoice.resend_expired", "invoice.pa_silent"}, types(""))
	for _, one := range []string{"invoice.receipt_overdue", "invoice.resend_due", "invoice.resend_expired", "invoice.pa_silent"} {
		require.Equal(t, []string{one}, types(`type = "`+one+`"`))
	}
	require.Equal(t, inv.GetState(), w.get(inv.GetName()).GetState())
}
