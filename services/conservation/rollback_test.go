package conservation

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/format/custody"
	"ceralacca.dev/services/format/tlog"
)

// backup keeps database and both replicas as they are now; what it gives puts all of it back together. The archive does not run then.
func (w *ward) backup() (putBack func()) {
	w.t.Helper()
	require.Nil(w.t, w.cmd, "the archive runs")
	database := w.dump()
	var copies [2]string
	for i, disk := range w.disks {
		copies[i] = w.t.TempDir()
		tool(w.t, "cp", "-a", disk+"/.", copies[i])
	}
	return func() {
		w.t.Helper()
		database()
		for i, disk := range w.disks {
			require.NoError(w.t, os.RemoveAll(disk))
			tool(w.t, "cp", "-a", copies[i], disk)
		}
	}
}

// keeper is what an owner has of the archive, and asks of it.
type keeper struct {
	w       *ward
	policy  tlog.Policy
	archive []byte // of a package
	own     []custody.Receipt
	last    custody.Seen // the newest checkpoint that he saw
	size    int64
}

func (k *keeper) api() conservationv1.EvidenceServiceClient {
	return conservationv1.NewEvidenceServiceClient(k.w.conn)
}

// judge is what he finds when he asks for the log's state again.
func (k *keeper) judge() *custody.Report {
	t := k.w.t
	ctx := context.Background()
	now := custody.Seen{Name: "now", Old: k.size}
	grown, err := k.api().GetConsistencyProof(ctx, &conservationv1.GetConsistencyProofRequest{OldSize: k.size})
	if code(err) == "LOG_SMALLER" {
		point, err := k.api().GetCheckpoint(ctx, &conservationv1.GetCheckpointRequest{})
		require.NoError(t, err)
		now.Note = point.GetNote()
	} else {
		require.NoError(t, err)
		now.Note, now.Proof = grown.GetCheckpoint().GetNote(), []tlog.Hash{}
		for _, h := range grown.GetHashes() {
			now.Proof = append(now.Proof, tlog.Hash(h))
		}
	}
	p, err := custody.ReadPackage(k.archive)
	require.NoError(t, err)
	r, err := custody.Verify(custody.Input{Package: p, Receipts: k.own, Checkpoints: []custody.Seen{k.last, now}, Policy: k.policy})
	require.NoError(t, err)
	return r
}

// Test31_RolledBackTogether: database and replicas are put back together to what they were, by a process that ran before and one that
// runs afterwards: nothing in the archive contradicts anything else. The witness does, and nothing more is stated; the owner does, with
// what he kept, also when the witness is taken out of the way and a second history is written.
func Test31_RolledBackTogether(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	o := observe(t, "testimone.test")
	watched := fmt.Sprintf(", cosign_every: 20ms, quorum: 1, witnesses: [{url: %q, key: %q}]", o.URL, o.Key)
	w := newWard(t, watched)
	n := 0
	take := func(more int) {
		t.Helper()
		var events []*invoicev1.InvoiceSettled
		for range more {
			n++
			events = append(events, w.invoice(t, n))
		}
		before := w.count("SELECT count(*) FROM unit")
		w.settleAll(t, events)
		w.await(t, "taken", func() bool { return w.count("SELECT count(*) FROM unit") == before+more })
	}
	witnessed := func() int64 {
		logs := o.folder.Logs()
		if len(logs) == 0 {
			return 0
		}
		return logs[0].Size
	}
	take(2)
	w.await(t, "the witness has them", func() bool { return witnessed() == 2 })
	w.kill()
	yesterday := w.backup()
	w.run()

	take(3)
	p, err := w.client.ClosePackage(ctx, closing())
	require.NoError(t, err)
	w.await(t, "sealed, stated and witnessed", func() bool { return witnessed() == 6 })
	k := &keeper{w: w, size: 6}
	signer, err := tlog.NewSigner(origin, logSeed())
	require.NoError(t, err)
	k.policy = tlog.Policy{Origin: origin, LogKeys: []*tlog.Verifier{&signer.Verifier}}
	k.archive, err = fetchPackage(w.client, p.GetName())
	require.NoError(t, err)
	list, err := w.client.ListUnits(ctx, &conservationv1.ListUnitsRequest{Parent: "tenants/acme"})
	require.NoError(t, err)
	require.Len(t, list.GetUnits(), 5)
	for _, u := range list.GetUnits() {
		w.await(t, "receipt", func() bool {
			r, err := k.api().GetUnitReceipt(ctx, &conservationv1.GetUnitReceiptRequest{Name: u.GetName(), Latest: true})
			if err != nil || r.GetCheckpointSize() < k.size {
				return false
			}
			parsed, err := tlog.ParseReceipt(r.GetReceipt())
			require.NoError(t, err)
			k.own = append(k.own, custody.Receipt{Name: u.GetName(), Receipt: parsed})
			return true
		})
	}
	point, err := k.api().GetCheckpoint(ctx, &conservationv1.GetCheckpointRequest{Size: k.size})
	require.NoError(t, err)
	k.last = custody.Seen{Name: "kept", Note: point.GetNote()}
	require.Empty(t, k.judge().Problems)

	w.kill()
	yesterday()
	w.run()
	require.Equal(t, 2, w.count("SELECT count(*) FROM unit"))
	w.await(t, "the witness knows more", func() bool { return strings.Contains(w.said(), logRolledBack) })
	take(1)
	var fresh string
	require.NoError(t, w.admin.QueryRow(ctx, `SELECT 'tenants/acme/units/' || id FROM unit ORDER BY created_at DESC LIMIT 1`).Scan(&fresh))
	tries := strings.Count(w.said(), logRolledBack)
	w.await(t, "and stays with it", func() bool { return strings.Count(w.said(), logRolledBack) > tries })
	require.Zero(t, w.count("SELECT count(*) FROM archive_position WHERE behind_at IS NOT NULL"), "nobody within found it")
	require.Equal(t, 2, w.count("SELECT count(*) FROM log_leaf"), "nothing was written over it")
	require.Equal(t, 2, w.count("SELECT max(size) FROM log_checkpoint"))
	_, err = k.api().GetUnitReceipt(ctx, &conservationv1.GetUnitReceiptRequest{Name: fresh})
	require.Equal(t, "RECEIPT_NOT_READY", code(err), "nothing is said of what came since")
	_, err = conservationv1.NewDepositServiceClient(w.conn).GetSubmissionReport(ctx, &conservationv1.GetSubmissionReportRequest{Name: fresh})
	require.Equal(t, "SUBMISSION_REPORT_NOT_READY", code(err))
	require.EqualValues(t, 6, witnessed())
	require.True(t, k.judge().Has(custody.LogRolledBack))

	// The witness is taken out of the configuration: a second history, which is longer than what the owner saw.
	w.kill()
	w.spec.Config = strings.Replace(w.spec.Config, watched, "", 1)
	require.NotContains(t, w.spec.Config, "witnesses")
	w.run()
	take(6)
	w.await(t, "stated", func() bool { return w.count("SELECT max(size) FROM log_checkpoint") == 9 })
	found := k.judge()
	require.True(t, found.Has(custody.LogUnproven), "%v %v", found.Problems, found.Unshown)
	_, err = k.api().GetUnitReceipt(ctx, &conservationv1.GetUnitReceiptRequest{Name: k.own[0].Name})
	require.Equal(t, "UNIT_NOT_FOUND", code(err), "of which the owner has a receipt")

	// And the witness says which of the two it saw, when it is asked again.
	w.kill()
	w.spec.Config = strings.Replace(w.spec.Config, "every: 20ms}", "every: 20ms"+watched+"}", 1)
	require.Contains(t, w.spec.Config, "witnesses")
	w.run()
	w.await(t, "the two histories are told", func() bool { return strings.Contains(w.said(), logForked) })
	require.EqualValues(t, 6, witnessed())
}
