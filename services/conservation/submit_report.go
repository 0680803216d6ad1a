package conservation

import (
	"context"
	"encoding/base64"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/format/custody"
	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/internal/fault"
)

// submissionArgs asks for the report of a submission.
type submissionArgs struct {
	Tenant     string    `json:"tenant"`
	Submission uuid.UUID `json:"submission"`
}

// Kind names the job.
func (submissionArgs) Kind() string { return "rdv_submission" }

// reportSubmission makes the rapporto di versamento of a submission, as reportDeposit does that of a deposit.
func (s *Service) reportSubmission(ctx context.Context, job *river.Job[submissionArgs]) error {
	b := &submissionBook{s: s}
	err := b.read(ctx, job.Args)
	if err != nil || b.row.Report != nil {
		return err
	}
	content := b.row.Written
	err = s.mayBegin(ctx, b.row.TenantID)
	if err == nil && content == nil && b.row.Unstamped == nil {
		content, err = b.write(ctx)
	}
	if err == nil {
		err = b.seal(ctx, content)
	}
	return s.orWait(ctx, err, "submission", b.row.ID)
}

// roleMetadata is the role of a metadata file in reports.
const roleMetadata = "metadati"

// submissionBook is what the report of a submission is written from.
type submissionBook struct {
	s      *Service
	row    db.Submission
	chain  []db.ChainOfRow
	leaves []*tlog.Leaf
	files  map[uuid.UUID][]db.UnitFile
	copies map[uuid.UUID]int64 // good ones, of an object
	last   db.LogLeaf
}

func (b *submissionBook) read(ctx context.Context, a submissionArgs) error {
	return b.s.db.Tx(ctx, a.Tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		var err error
		b.row, err = q.GetSubmission(ctx, db.GetSubmissionParams{TenantID: a.Tenant, ID: a.Submission})
		if err != nil || b.row.Report != nil {
			return err
		}
		return b.readChain(ctx, q)
	})
}

func (b *submissionBook) readChain(ctx context.Context, q *db.Queries) (err error) {
	b.chain, err = q.ChainOf(ctx, db.ChainOfParams{TenantID: b.row.TenantID, After: b.row.FirstSequence - 1, Last: b.row.LastSequence, Size: math.MaxInt64, Page: submissionLeaves})
	if err != nil {
		return err
	}
	if int64(len(b.chain)) != b.row.LastSequence-b.row.FirstSequence+1 {
		return fault.Internal("LOG_GAP", "the chain of tenants/%s lacks leaves between %d and %d: the database was changed by hand", b.row.TenantID, b.row.FirstSequence, b.row.LastSequence)
	}
	end := b.chain[len(b.chain)-1]
	b.last = db.LogLeaf{Idx: end.Idx, TenantID: end.TenantID, Sequence: end.Sequence, SubjectID: end.SubjectID, Revision: end.Revision, Entry: end.Entry, SettledAt: end.SettledAt}
	return b.readUnits(ctx, q)
}

func (b *submissionBook) readUnits(ctx context.Context, q *db.Queries) error {
	var units, objects []uuid.UUID
	for _, c := range b.chain {
		leaf, err := tlog.ParseLeaf(c.Entry)
		if err != nil {
			return fmt.Errorf("conservation: leaf %d: %w", c.Idx, err)
		}
		b.leaves = append(b.leaves, leaf)
		if c.Came {
			units = append(units, c.SubjectID)
		}
	}
	all, err := q.FilesOf(ctx, units)
	if err != nil {
		return err
	}
	b.files, b.copies = map[uuid.UUID][]db.UnitFile{}, map[uuid.UUID]int64{}
	for _, f := range all {
		b.files[f.UnitID] = append(b.files[f.UnitID], f)
		if f.ObjectID != nil && !slices.Contains(objects, *f.ObjectID) {
			objects = append(objects, *f.ObjectID)
		}
	}
	good, err := q.GoodCopies(ctx, objects)
	for _, g := range good {
		b.copies[g.ObjectID] = g.Copies
	}
	return err
}

// write writes the report: what was taken in charge, and the tenant's chain in the log, whose last entry is proven and names
// all those before it. Nothing of what is in the documents is told: it outlives them. spec: LG-AgID §4.8 d
func (b *submissionBook) write(ctx context.Context) ([]byte, error) {
	d, tenant := &xmlText{}, b.row.TenantID
	name := submissionName(tenant, b.row.ID)
	b.s.headRDV(d, tenant, name, b.row.CreatedAt)
	d.raw("<PacchettoDiVersamento>")
	d.element("Chiave", name)
	d.element("Tipo", "documenti giunti per evento")
	d.element("UnitaDocumentarie", strconv.Itoa(int(b.row.UnitCount)))
	d.raw("</PacchettoDiVersamento>")
	for i, c := range b.chain {
		if c.Came {
			b.unit(d, c, b.leaves[i])
		}
	}
	proof, err := b.prove(ctx)
	if err != nil {
		return nil, err
	}
	d.raw("<Registro>")
	d.element("Origine", b.s.cfg.Log.Origin)
	d.element("Sequenza", strconv.FormatInt(b.last.Sequence, 10))
	d.element("Prova", string(proof))
	for _, c := range b.chain {
		d.element("Foglia", base64.StdEncoding.EncodeToString(c.Entry))
	}
	d.raw("</Registro>")
	d.element("Esito", "POSITIVO")
	d.raw("</RapportoDiVersamento>\n")
	return d.Bytes(), nil
}

// unit tells of one unit what its leaf has in it, neither more nor less: files that joined it later are in a leaf, and a report, of their own.
func (b *submissionBook) unit(d *xmlText, c db.ChainOfRow, leaf *tlog.Leaf) {
	d.raw("<UnitaDocumentaria>")
	d.element("Identificativo", unitName(c.TenantID, c.SubjectID))
	d.element("PresaInCarico", c.TakenAt.UTC().Format(time.RFC3339Nano))
	d.element("Classe", c.Class)
	d.element("PeriodoImposta", strconv.Itoa(int(c.FiscalYear)))
	copies, left := int64(-1), slices.Clone(leaf.Objects[1:])
	for _, f := range b.files[c.SubjectID] {
		i := slices.Index(left, tlog.Hash(f.Sha256))
		if i >= 0 {
			left = slices.Delete(left, i, i+1)
		} else if !custody.Folded(leaf) {
			continue
		}
		d.raw("<File>")
		d.element("Ruolo", map[string]string{"transmitted": "documento", "receipt": "ricevuta", "metadata": roleMetadata}[f.Role])
		d.impronta(base64Of(f.Sha256))
		d.element("Dimensione", strconv.FormatInt(f.Size, 10))
		d.raw("</File>")
		if f.ObjectID != nil && (copies < 0 || b.copies[*f.ObjectID] < copies) {
			copies = b.copies[*f.ObjectID]
		}
	}
	if !custody.Folded(leaf) {
		for _, former := range left { // the metadata file, which is made anew when a receipt joins the unit: its size is not known any more
			d.raw("<File>")
			d.element("Ruolo", roleMetadata)
			d.impronta(base64Of(former[:]))
			d.raw("</File>")
		}
	}
	if copies >= 0 {
		d.element("Copie", strconv.FormatInt(copies, 10))
	}
	d.element("Sequenza", strconv.FormatInt(c.Sequence, 10))
	d.raw("</UnitaDocumentaria>")
}

// prove gives the receipt of the last leaf, against the last checkpoint.
func (b *submissionBook) prove(ctx context.Context) (text []byte, err error) {
	e := evidence{s: b.s}
	err = e.on()
	if err != nil {
		return nil, err
	}
	err = b.s.db.Tx(ctx, b.row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		point, err := q.LastCheckpoint(ctx)
		if err != nil {
			return err
		}
		r, err := e.prove(ctx, q, "", b.last, point)
		text = r.GetReceipt()
		return err
	})
	return text, err
}

func (b *submissionBook) seal(ctx context.Context, content []byte) error {
	row := b.row
	keep, err := b.s.reportKept(ctx, row.TenantID, row.FiscalYear, row.Years)
	if err != nil {
		return err
	}
	r, err := b.s.sealRDV(ctx, rdv{
		tenant: row.TenantID, name: submissionName(row.TenantID, row.ID), id: row.ID, made: row.CreatedAt, keep: keep, signed: row.Unstamped,
		write: func(ctx context.Context, q *db.Queries) ([]byte, error) {
			return q.KeepWrittenSubmission(ctx, db.KeepWrittenSubmissionParams{ID: row.ID, Content: content})
		},
		hold: func(ctx context.Context, q *db.Queries, signed []byte) error {
			return q.KeepUnstampedSubmission(ctx, db.KeepUnstampedSubmissionParams{ID: row.ID, Signed: signed})
		},
	})
	if err != nil {
		return err
	}
	return b.s.db.Tx(ctx, row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		p := db.SetSubmissionReportParams{ID: row.ID, Report: r.p7m, Stamp: r.tsr, At: &r.at}
		p.ReportObject, p.StampObject = r.objects()
		n, err := db.New(tx).SetSubmissionReport(ctx, p)
		if err != nil || n == 0 || b.s.replicas == nil {
			return err
		}
		return b.s.replicas.record(ctx, tx, row.TenantID, r.kept)
	})
}
