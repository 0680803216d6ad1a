package chaos

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/tests/harness"
)

// leftovers are what a scenario may leave behind.
type leftovers struct {
	// repeats is how many names SdI may have got twice: only where the answer to a call was lost. SdI
	// discards such a repeat with control 00002, and the platform knows what that means.
	repeats int
	// parked and unmatched are exact.
	parked, unmatched int
}

// settle waits until everything has come to rest, and judges.
func (s *scene) settle(t *testing.T, allowed leftovers) {
	t.Helper()
	s.mu.Lock()
	names := slices.Sorted(maps.Keys(s.sent))
	complete := 0
	for _, f := range s.sent {
		if !f.incomplete {
			complete++
		}
	}
	s.mu.Unlock()
	require.NoError(t, s.p.AwaitReady(s.ctx))
	began := time.Now()
	s.arrive(t, names...)
	for _, class := range []string{"", "FISC-PA"} {
		_, err := s.seal(class)
		require.NoError(t, err)
	}
	require.Equal(t, complete, s.awaitSealed(t), "every invoice is in one package")
	events := s.checkLog(t)
	s.checkNotices(t, events)
	counts := s.checkExchange(t, allowed)
	parked, err := s.p.Parked(s.ctx)
	require.NoError(t, err)
	require.Len(t, parked, allowed.parked, "parked: %v", parked)
	unmatched, err := s.p.Unmatched(s.ctx)
	require.NoError(t, err)
	require.Len(t, unmatched, allowed.unmatched, "messages that match nothing: %v", unmatched)

	_, breaks, wrong := s.log.state()
	require.NoError(t, wrong)
	t.Logf("%d invoices, %d events, %d packages, %d breaks of the stream; SdI took %d files, %d callbacks of it failed; at rest after %s",
		len(names), len(events), len(s.packages), breaks, counts.Accepted, counts.CallbackErrors, time.Since(began).Round(10*time.Millisecond))
}

// checkLog waits until each invoice has all its events, then wants each exactly once and no other.
func (s *scene) checkLog(t *testing.T) []*invoicev1.Event {
	t.Helper()
	s.mu.Lock()
	sent := maps.Clone(s.sent)
	s.mu.Unlock()
	want := 0
	for name, f := range sent {
		want += len(f.events())
		for _, kind := range f.events() {
			require.NoError(t, s.log.await(name, kind))
		}
	}
	events, err := s.c.Events(s.ctx)
	require.NoError(t, err)
	require.NoError(t, harness.CheckLog(events))
	count := map[string]int{}
	for _, e := range events {
		require.Contains(t, sent, e.GetInvoice(), "an event of an invoice that was never accepted")
		key := path.Base(e.GetInvoice()) + " " + e.GetType()
		count[key]++
		require.Equal(t, 1, count[key], "%s: the customer is told the same twice", key)
	}
	require.Len(t, events, want, "other events than expected: %v", surplus(events, sent))
	return events
}

// surplus lists the events that no flow has.
func surplus(events []*invoicev1.Event, sent map[string]flow) (list []string) {
	for _, e := range events {
		if !slices.Contains(sent[e.GetInvoice()].events(), e.GetType()) {
			list = append(list, path.Base(e.GetInvoice())+" "+e.GetType())
		}
	}
	return list
}

// checkNotices compares the webhooks with the log: everything came, under its id, and nothing else.
func (s *scene) checkNotices(t *testing.T, events []*invoicev1.Event) {
	t.Helper()
	for {
		byID, types, forged := s.hook.Taken()
		require.Zero(t, forged)
		missing, again := 0, 0
		for _, e := range events {
			id := path.Base(e.GetName())
			if byID[id] == 0 {
				missing++
				continue
			}
			again += byID[id] - 1
			require.Equal(t, e.GetType(), types[id])
		}
		if missing == 0 {
			maps.DeleteFunc(types, func(_, kind string) bool { return kind != "preservation.log_stated" }) // of the archive, each day, and of no invoice
			require.Len(t, byID, len(events)+len(types), "the customer's endpoint got what is not in the log")
			t.Logf("%d webhooks came more than once, under their ids", again)
			return
		}
		require.NoError(t, s.ctx.Err(), "%d of %d events did not reach the customer's endpoint", missing, len(events))
		time.Sleep(50 * time.Millisecond)
	}
}

// checkExchange counts what SdI got.
func (s *scene) checkExchange(t *testing.T, allowed leftovers) client.Counts {
	t.Helper()
	var counts client.Counts
	for {
		var err error
		counts, err = s.p.Sandbox.Counts(s.ctx)
		require.NoError(t, err)
		if counts.ReceiptsPending == 0 {
			break
		}
		require.NoError(t, s.ctx.Err(), "%d receipts were not taken", counts.ReceiptsPending)
		time.Sleep(50 * time.Millisecond)
	}
	s.mu.Lock()
	sent := len(s.sent) + s.foreign
	s.mu.Unlock()
	duplicates, err := s.p.Sandbox.Duplicates(s.ctx)
	require.NoError(t, err)
	require.Equal(t, sent, counts.Invoices, "each invoice is at SdI once")
	require.Zero(t, counts.RepeatedInvoices, "%v", duplicates.Invoices)
	require.Zero(t, counts.RepeatedContents, "%v", duplicates.Contents)
	require.LessOrEqual(t, counts.RepeatedNames, allowed.repeats, "%v", duplicates.Names)
	for _, d := range duplicates.Names {
		require.Len(t, d.IDs, 2, fmt.Sprintf("%s was sent more than twice", d.Key))
	}
	require.Equal(t, sent+counts.RepeatedNames, counts.Accepted)
	return counts
}
