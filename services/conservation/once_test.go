package conservation

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
)

// TestSameDocumentManyTimesIsOneUnit: a document that is settled a hundred times at once is one unit, told once, in the log once, with one
// report, whoever asks for it and however often; so it is when it comes again later. Other bytes under its key replace nothing.
func TestSameDocumentManyTimesIsOneUnit(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	h, _ := openLoggedWith(t, "  deposits: {event_reports: 20ms}\n")
	ev := h.invoice(t, 1)
	const times = 100
	var all sync.WaitGroup
	begin := make(chan struct{})
	for range times {
		all.Go(func() {
			<-begin
			h.settle(t, ctx, proto.CloneOf(ev))
		})
	}
	close(begin)
	all.Wait()
	admin := pgtest.Admin(t, h.DB("conservation"))
	handled := func(n int) {
		h.await(t, "all are handled", func() bool {
			var got int
			require.NoError(t, admin.QueryRow(ctx, `SELECT count(*) FROM inbox WHERE consumer = 'intake'`).Scan(&got))
			return got == n
		})
	}
	handled(times)
	other := h.invoice(t, 2)
	h.settle(t, ctx, other)
	h.await(t, "the last one is there", func() bool { return len(h.units(t, other.GetInvoice())) == 1 })
	require.Len(t, h.units(t, ev.GetInvoice()), 1)
	unit := h.units(t, ev.GetInvoice())[0]

	first := h.report(t, unit.GetName())
	h.report(t, h.units(t, other.GetInvoice())[0].GetName())
	key, err := tlog.NewSigner(origin, logSeed())
	require.NoError(t, err)
	h.checkReports(t, map[string]*conservationv1.SubmissionReport{first.GetSubmission(): first}, tlog.Policy{Origin: origin, LogKeys: []*tlog.Verifier{&key.Verifier}})
	h.await(t, "both are told", func() bool { taken, _, _ := h.counts(); return taken >= 2 })
	once := func() {
		t.Helper()
		require.Zero(t, h.counted(t, "log_pending"), "nothing waits for a place in the log, of which there could be a report")
		require.Equal(t, 2, h.counted(t, "log_leaf"))
		var reported, reports int
		h.rowsOf(t, `SELECT sum(unit_count)::int FROM submission`, &reported)
		require.Equal(t, 2, reported, "each document stands in one report")
		h.rowsOf(t, `SELECT count(*) FROM submission WHERE report IS NOT NULL`, &reports)
		for _, disk := range h.disks {
			require.Equal(t, reports, strings.Count(strings.Join(keysOn(t, disk), "\n")+"\n", ".xml.p7m\n"), "and no other one is kept")
		}
		taken, _, _ := h.counts()
		require.Equal(t, 2, taken)
		require.Equal(t, first.GetSigned(), h.report(t, unit.GetName()).GetSigned())
		require.Equal(t, first.GetSubmission(), h.report(t, unit.GetName()).GetSubmission())
	}
	once()
	for i := range 3 { // and it comes again, when its report is there
		h.settle(t, ctx, proto.CloneOf(ev))
		handled(times + 1 + i + 1)
		once()
	}
	require.Zero(t, h.parked(t, codeConflict))

	tampered := proto.CloneOf(ev)
	tampered.Transmitted = h.put(t, "<FatturaElettronica n='1' totale='999'/>")
	h.settle(t, ctx, tampered)
	h.await(t, "parked for a person", func() bool { return h.parked(t, codeConflict) == 1 })
	stolen := proto.CloneOf(ev)
	stolen.Invoice = company + "/invoices/" + uuid.NewString()
	h.settle(t, ctx, stolen)
	h.await(t, "parked for a person", func() bool { return h.parked(t, codeConflict) == 2 })
	require.Equal(t, ev.GetTransmitted().GetSha256(), h.units(t, ev.GetInvoice())[0].GetFiles()[0].GetContent().GetSha256(), "nothing was replaced")
	once()
}

// TestSameDocumentInTwoTransactions: two transactions take a document in at once, and the one that comes second takes another one in
// beside it. The bytes of the first document are in its own object alone: beside the other one no disposal would look for them.
func TestSameDocumentInTwoTransactions(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		held bool // already, without that receipt
		text string
	}{"the document": {false, "<FatturaElettronica n='1'/>"}, "a later receipt": {true, "<AT n='1'/>"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := open(t, false)
			ev, other := h.invoice(t, 1), h.invoice(t, 2)
			if c.held {
				h.settle(t, context.Background(), proto.CloneOf(ev))
				h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken == 1 })
				ev.Receipts = append(ev.Receipts, h.receipt(t, "AT", 1))
			}
			h.raceFor(t, ev, other)
			for i := range h.disks {
				require.Len(t, h.holding(t, i, c.text), 1)
				require.Len(t, h.holding(t, i, "<FatturaElettronica n='2'/>"), 1)
			}
			require.Len(t, h.units(t, ""), 2)
		})
	}
}

// raceFor takes a document in, and once more in another transaction beside another document, which waits for the first.
func (h *house) raceFor(t *testing.T, ev, other *invoicev1.InvoiceSettled) {
	t.Helper()
	take := func(events []*invoicev1.InvoiceSettled, written func(pid int)) error {
		return h.service.db.Tx(context.Background(), "acme", func(ctx context.Context, tx pgx.Tx) error {
			for _, ev := range events {
				if err := h.service.onInvoiceSettled(ctx, tx, proto.CloneOf(ev)); err != nil {
					return err
				}
			}
			pg.UnitOf(ctx, tx).Before(func(ctx context.Context, tx pgx.Tx) error {
				var pid int
				err := tx.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&pid)
				written(pid)
				return err
			})
			return nil
		})
	}
	pid, leave, first, second := make(chan int), make(chan struct{}), make(chan error, 1), make(chan error, 1)
	go func() {
		first <- take([]*invoicev1.InvoiceSettled{ev}, func(own int) {
			pid <- own
			<-leave
		})
	}()
	ahead := <-pid
	both := []*invoicev1.InvoiceSettled{ev, other}
	go func() { second <- take(both, func(int) {}) }()
	waits := fmt.Sprintf(`SELECT count(*) FROM pg_stat_activity WHERE %d = ANY(pg_blocking_pids(pid))`, ahead)
	admin := pgtest.Admin(t, h.DB("conservation"))
	h.await(t, "the second waits for the first", func() bool {
		var n int
		require.NoError(t, admin.QueryRow(context.Background(), waits).Scan(&n))
		return n == 1
	})
	close(leave)
	require.NoError(t, <-first)
	err := <-second
	if code(err) == "UNIT_IN_HAND" { // it is tried again
		err = take(both, func(int) {})
	}
	require.NoError(t, err)
}
