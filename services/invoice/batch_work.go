package invoice

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"golang.org/x/sync/errgroup"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/invoice/internal/db"
)

// A run of the job is bounded, so that batches of several tenants take turns and a stop waits little. What a
// run holds in memory at a time is bounded too.
const (
	workTimeout = 2 * time.Minute
	workTurn    = 5 * time.Second
	turnFiles   = 256 // judged and stored in one transaction
	turnBytes   = 16 << 20
)

// workArgs is the job that works on a batch.
type workArgs struct {
	Tenant string    `json:"tenant"`
	Batch  uuid.UUID `json:"batch"`
}

// Kind implements river.JobArgs.
func (workArgs) Kind() string { return "batch" }

// turn is one run of the job.
type turn struct {
	*batches
	row     db.Batch
	members []*zip.File // of an archive, by place
	from    int64       // files below have an outcome, as far as this run knows
}

// work goes on with a batch where the last run stopped: outcomes are written in the transaction that makes
// the invoices, so that nothing is done twice and nothing is left out, wherever a run is cut off.
func (b *batches) work(ctx context.Context, job *river.Job[workArgs]) error {
	until := b.now().Add(workTurn)
	n := batchName{tenant: job.Args.Tenant, company: "-", id: job.Args.Batch}
	t := &turn{batches: b}
	err := b.db.Tx(ctx, n.tenant, func(ctx context.Context, tx pgx.Tx) (err error) {
		t.row, err = readBatch(ctx, tx, n)
		return err
	})
	if err != nil {
		return err
	}
	for !t.ended() {
		done, err := t.step(ctx)
		switch {
		case errors.Is(err, errBatchEnded):
			return nil
		case err != nil:
			return err
		case done:
			return nil
		case !b.now().Before(until):
			return river.JobSnooze(0) // the next turn is another batch's, if one waits
		}
	}
	return nil
}

func (t *turn) ended() bool { return t.row.State != stateUploading && t.row.State != stateRunning }

// step works on one group of files; done when there is nothing to do until more comes.
func (t *turn) step(ctx context.Context) (done bool, err error) {
	if t.row.Archive && t.members == nil {
		if t.row.State == stateUploading {
			return t.rest(ctx)
		}
		if err := t.open(ctx); err != nil || t.ended() {
			return true, err
		}
	}
	tasks, err := t.next(ctx)
	if err != nil {
		return false, err
	}
	if len(tasks) == 0 {
		return t.rest(ctx)
	}
	if err := t.settle(ctx, tasks); err != nil {
		return false, err
	}
	return false, nil
}

// open reads the list of the archive, and writes a row for each member the first time.
func (t *turn) open(ctx context.Context) error {
	r, err := t.readParts(ctx, batchName{t.row.TenantID, t.row.CompanyID, t.row.ID})
	if err != nil {
		return err
	}
	z, err := openArchive(r, r.size)
	if f := fault.Of(err); f != nil && f.Kind == fault.KindInvalid {
		return t.fail(ctx, f)
	}
	if err != nil {
		return err
	}
	t.members = z.File
	if t.row.Files > 0 {
		return nil
	}
	list, err := listArchive(z)
	if err != nil {
		return err
	}
	return t.locked(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if t.row.Files > 0 {
			return nil
		}
		return t.insertMembers(ctx, tx, list)
	})
}

func (t *turn) insertMembers(ctx context.Context, tx pgx.Tx, list []member) error {
	count := db.CountBatchFilesParams{TenantID: t.row.TenantID, ID: t.row.ID, Files: int64(len(list)), Now: pg.Time(t.now())}
	const rows = 5000
	index := 0
	for group := range slices.Chunk(list, rows) {
		p := db.InsertBatchFilesParams{TenantID: t.row.TenantID, BatchID: t.row.ID}
		for _, m := range group {
			p.Idxs, p.Places = append(p.Idxs, int64(index)), append(p.Places, int32(index)) //nolint:gosec // at most maxMembers
			p.FileNames, p.Sizes = append(p.FileNames, m.name), append(p.Sizes, m.size)
			p.ExternalIds, p.Uris = append(p.ExternalIds, ""), append(p.Uris, "")
			p.States, p.Codes, p.Messages = append(p.States, int16(m.state)), append(p.Codes, m.code), append(p.Messages, m.message) //nolint:gosec // an enum
			add(&count, int16(m.state))                                                                                              //nolint:gosec // an enum
			index++
		}
		if err := q(tx).InsertBatchFiles(ctx, p); err != nil {
			return fmt.Errorf("invoice: insert members of batch %s: %w", t.row.ID, err)
		}
	}
	return t.count(ctx, tx, count)
}

// add counts one outcome.
func add(c *db.CountBatchFilesParams, state int16) {
	switch state {
	case fileCreated:
		c.Created++
	case fileRefused:
		c.Refused++
	case fileDuplicate:
		c.Duplicates++
	case fileIgnored:
		c.Ignored++
	}
}

func (t *turn) count(ctx context.Context, tx pgx.Tx, c db.CountBatchFilesParams) error {
	if err := q(tx).CountBatchFiles(ctx, c); err != nil {
		return fmt.Errorf("invoice: count files of batch %s: %w", t.row.ID, err)
	}
	return nil
}

// fail ends a batch whose upload cannot be used.
func (t *turn) fail(ctx context.Context, why *fault.Fault) error {
	return t.locked(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return t.set(ctx, tx, stateFailed, why.Code+": "+why.Message)
	})
}

func (t *turn) set(ctx context.Context, tx pgx.Tx, state int16, failure string) error {
	err := q(tx).SetBatchState(ctx, db.SetBatchStateParams{TenantID: t.row.TenantID, ID: t.row.ID, State: state, Failure: failure, Now: pg.Time(t.now())})
	if err != nil {
		return fmt.Errorf("invoice: state of batch %s: %w", t.row.ID, err)
	}
	return nil
}

// locked runs fn in a transaction that holds the batch, whose row is fresh before and after. errBatchEnded
// when somebody ended it.
func (t *turn) locked(ctx context.Context, fn func(ctx context.Context, tx pgx.Tx) error) error {
	var after db.Batch
	err := t.db.Tx(ctx, t.row.TenantID, func(ctx context.Context, tx pgx.Tx) (err error) {
		t.row, err = q(tx).LockBatch(ctx, db.LockBatchParams{TenantID: t.row.TenantID, ID: t.row.ID})
		if err != nil {
			return fmt.Errorf("invoice: lock batch: %w", err)
		}
		if t.ended() {
			return errBatchEnded
		}
		if err := fn(ctx, tx); err != nil {
			return err
		}
		after, err = q(tx).GetBatch(ctx, db.GetBatchParams{TenantID: t.row.TenantID, ID: t.row.ID})
		return err
	})
	if err == nil {
		t.row = after
	}
	return err
}

// rest ends the run when nothing waits: for good when the upload is complete.
func (t *turn) rest(ctx context.Context) (done bool, err error) {
	err = t.locked(ctx, func(ctx context.Context, tx pgx.Tx) error {
		switch {
		case waitingOf(&t.row) > 0: // more came, or was put off
			t.from = 0
			return nil
		case t.row.State == stateRunning && t.row.Archive && t.row.Files == 0: // completed while this run looked
			return nil
		case t.row.State == stateUploading:
			done = true
			return t.set(ctx, tx, stateUploading, "") // nobody works on it; who brings more promises a job
		}
		done = true
		return t.set(ctx, tx, stateDone, "")
	})
	return done, err
}

// next reads the next files that wait, with their bytes.
func (t *turn) next(ctx context.Context) ([]*task, error) {
	waiting := fileWaiting
	var rows []db.BatchFile
	err := t.db.Tx(ctx, t.row.TenantID, func(ctx context.Context, tx pgx.Tx) (err error) {
		rows, err = q(tx).ListBatchFiles(ctx, db.ListBatchFilesParams{TenantID: t.row.TenantID, BatchID: t.row.ID, FromIdx: t.from, State: &waiting, PageSize: turnFiles})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("invoice: files of batch %s: %w", t.row.ID, err)
	}
	size := int64(0)
	for i := range rows {
		size += min(rows[i].Size, maxContent)
		if i > 0 && size > turnBytes {
			rows = rows[:i]
			break
		}
	}
	tasks := make([]*task, len(rows))
	for i := range rows {
		tasks[i] = &task{row: &rows[i], outcome: outcome{state: fileWaiting}}
	}
	return tasks, t.load(ctx, tasks)
}

// load reads the bytes: of an archive in order, of single files side by side.
func (t *turn) load(ctx context.Context, tasks []*task) error {
	if t.row.Archive {
		for _, task := range tasks {
			if int(task.row.Place) >= len(t.members) {
				return fault.Internal("ARCHIVE_CHANGED", "the archive of batch %s has %d members, and file %d is none of them", t.row.ID, len(t.members), task.row.Idx)
			}
			content, refusal, err := readMember(t.members[task.row.Place])
			if err != nil {
				return err
			}
			if refusal != nil {
				task.refuse(refusal)
			}
			task.content = content
		}
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(groupWriters)
	for _, task := range tasks {
		g.Go(func() error {
			ref, err := blob.ParseURI(task.row.Uri)
			if err != nil {
				return fmt.Errorf("invoice: stored reference: %w", err)
			}
			task.content, err = t.blobs.Get(ctx, ref)
			return err
		})
	}
	return g.Wait()
}

// settle gives a group its outcomes. What competes with another file of the group for a number waits for the
// next group, where the first of them is an invoice that it can be compared with.
func (t *turn) settle(ctx context.Context, tasks []*task) error {
	if err := t.judge(ctx, tasks); err != nil {
		return err
	}
	in := &arrivals{tenant: t.row.TenantID, company: t.row.CompanyID, batch: &t.row.ID, ownTraces: true, now: pg.Time(t.now()),
		imported: t.row.Kind == int16(invoicev1.BatchKind_BATCH_KIND_IMPORT)}
	claimed := map[heldNumber]bool{}
	for _, task := range tasks {
		if r := task.arrival; r != nil && task.state == fileWaiting && !slices.ContainsFunc(r.a.held, func(h heldNumber) bool { return claimed[h] }) {
			for _, h := range r.a.held {
				claimed[h] = true
			}
			in.list = append(in.list, r)
		}
	}
	if err := t.keep(ctx, in); err != nil {
		return err
	}
	next := tasks[len(tasks)-1].row.Idx + 1
	err := t.locked(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if err := t.storeMany(ctx, tx, in); err != nil {
			return err
		}
		for _, r := range in.list {
			r.stored = !r.lost
		}
		return t.write(ctx, tx, tasks)
	})
	if err == nil {
		t.from = next // what was put off is found when nothing else waits
	}
	return err
}

// judge gives each file its outcome, or admits it.
func (t *turn) judge(ctx context.Context, tasks []*task) error {
	parent := "tenants/" + t.row.TenantID + "/companies/" + t.row.CompanyID
	company, err := t.companies.get(ctx, parent)
	if f := fault.Of(err); f != nil && f.Kind == fault.KindNotFound {
		for _, task := range tasks {
			task.refuse(f) // the company was removed meanwhile
		}
		return nil
	}
	if err != nil {
		return err
	}
	if err := judgeAll(tasks, invoicev1.BatchKind(t.row.Kind), t.row.TenantID, company, pg.Time(t.now())); err != nil {
		return err
	}
	var admitted []*admission
	for _, task := range tasks {
		if task.checked != nil {
			admitted = append(admitted, task.checked)
		}
	}
	held, err := t.holders(ctx, t.row.TenantID, admitted)
	if err != nil {
		return err
	}
	for _, task := range tasks {
		if task.checked != nil {
			t.compare(task, held)
		}
	}
	return nil
}

// compare marks what somebody holds already; a file that is only checked has its outcome then.
func (t *turn) compare(task *task, held map[heldNumber]db.FindHoldersRow) {
	for _, h := range task.checked.held {
		if row, ok := held[h]; ok {
			task.state, task.code, task.message = fileDuplicate, "INVOICE_DUPLICATE", heldBy(t.row.TenantID, row)
			task.invoice, task.company = row.ID, row.CompanyID
			return
		}
	}
	if task.arrival == nil {
		task.state, task.violations = fileCreated, task.checked.warnings
	}
}

// keep makes the bytes of members durable: files that came one by one are already.
func (t *turn) keep(ctx context.Context, in *arrivals) error {
	if !t.row.Archive {
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(groupWriters)
	for _, r := range in.list {
		g.Go(func() error {
			_, err := t.blobs.Put(ctx, in.tenant, r.a.content)
			return err
		})
	}
	return g.Wait()
}

// write writes the outcomes of a group and counts them.
func (t *turn) write(ctx context.Context, tx pgx.Tx, tasks []*task) error {
	p := db.SettleBatchFilesParams{TenantID: t.row.TenantID, BatchID: t.row.ID, Waiting: fileWaiting}
	c := db.CountBatchFilesParams{TenantID: t.row.TenantID, ID: t.row.ID, Now: pg.Time(t.now())}
	for _, task := range tasks {
		o := task.outcome
		if task.arrival != nil && task.arrival.stored && o.state == fileWaiting {
			o.state, o.invoice, o.company = fileCreated, task.arrival.id, t.row.CompanyID
		}
		if o.state == fileWaiting {
			continue
		}
		violations, err := encodeViolations(o.violations)
		if err != nil {
			return err
		}
		p.Idxs, p.States = append(p.Idxs, task.row.Idx), append(p.States, o.state)
		p.InvoiceIds, p.Companies = append(p.InvoiceIds, o.invoice), append(p.Companies, o.company)
		p.Codes, p.Messages, p.Violations = append(p.Codes, o.code), append(p.Messages, o.message), append(p.Violations, violations)
		add(&c, o.state)
	}
	n, err := q(tx).SettleBatchFiles(ctx, p)
	if err != nil {
		return fmt.Errorf("invoice: outcomes of batch %s: %w", t.row.ID, err)
	}
	if n != int64(len(p.Idxs)) {
		// Another run has written them: this one is a ghost, and what it made must not be.
		return fault.Aborted("BATCH_CONTENDED", "%d of %d files of batch %s have their outcome already", int64(len(p.Idxs))-n, len(p.Idxs), t.row.ID)
	}
	return t.count(ctx, tx, c)
}
