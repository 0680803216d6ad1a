package conservation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
)

// rdvArgs asks for the report of a deposit that was taken in charge.
type rdvArgs struct {
	Tenant  string    `json:"tenant"`
	Deposit uuid.UUID `json:"deposit"`
}

// Kind names the job.
func (rdvArgs) Kind() string { return "rdv" }

// rdvSpace makes ids from the deposit's, so that a repeat signs and writes the same.
var rdvSpace = uuid.MustParse("5f0c2b5a-97c3-4f0a-8a2f-4f2f7e0f5d10")

// reportDeposit makes the rapporto di versamento: written, signed with the archive's credential, stamped, and kept in both
// replicas like everything else. It waits for the log, so that the proof is in it. What others have to mend is waited for.
func (s *Service) reportDeposit(ctx context.Context, job *river.Job[rdvArgs]) error {
	row, err := s.deposit(ctx, job.Args.Tenant, job.Args.Deposit)
	if err != nil || row.Report != nil || row.State != "ACCEPTED" {
		return err
	}
	content := row.Written
	err = s.mayBegin(ctx, row.TenantID)
	if err == nil && content == nil && row.Unstamped == nil {
		content, err = s.writeRDV(ctx, row)
	}
	if err == nil {
		err = s.sealDeposit(ctx, row, content)
	}
	return s.orWait(ctx, err, "deposit", row.ID)
}

// orWait has a report's job come again when others have to mend what it lacks.
func (s *Service) orWait(ctx context.Context, err error, kind string, id uuid.UUID) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	switch fault.Of(err).Kind {
	case fault.KindUnavailable, fault.KindExhausted, fault.KindPrecondition, fault.KindAborted:
		pause := time.Second
		if cannotSign(err) {
			pause = credentialPause
		}
		s.log.InfoContext(ctx, "the report of a "+kind+" waits", kind, id, "error", err)
		return river.JobSnooze(max(pause, fault.Of(err).RetryAfter))
	}
	return err
}

func (s *Service) sealDeposit(ctx context.Context, row db.Deposit, content []byte) error {
	keep, err := s.reportKept(ctx, row.TenantID, row.FiscalYear, max(yearsOf(row.Class), retentionYears))
	if err != nil {
		return err
	}
	r, err := s.sealRDV(ctx, rdv{
		tenant: row.TenantID, name: depositName(row.TenantID, row.ID), id: row.ID, made: row.CreatedAt, keep: keep, signed: row.Unstamped,
		write: func(ctx context.Context, q *db.Queries) ([]byte, error) {
			return q.KeepWrittenDeposit(ctx, db.KeepWrittenDepositParams{ID: row.ID, Content: content})
		},
		hold: func(ctx context.Context, q *db.Queries, signed []byte) error {
			return q.KeepUnstampedDeposit(ctx, db.KeepUnstampedDepositParams{ID: row.ID, Signed: signed})
		},
	})
	if err != nil {
		return err
	}
	return s.db.Tx(ctx, row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		p := db.SetDepositReportParams{ID: row.ID, Report: r.p7m, Stamp: r.tsr, At: &r.at}
		p.ReportObject, p.StampObject = r.objects()
		n, err := db.New(tx).SetDepositReport(ctx, p)
		if err != nil || n == 0 || s.replicas == nil {
			return err
		}
		return s.replicas.record(ctx, tx, row.TenantID, r.kept)
	})
}

// rdv is a report to be made, or that was signed by an earlier attempt.
type rdv struct {
	tenant, name string
	id           uuid.UUID // of the deposit or submission
	made, keep   time.Time
	signed       []byte                                                   // nil: it was not
	write        func(ctx context.Context, q *db.Queries) ([]byte, error) // keeps the content, and gives the one that was kept first
	hold         func(ctx context.Context, q *db.Queries, signed []byte) error
}

// sealedRDV is a report with signature and stamp, and where the replicas have them.
type sealedRDV struct {
	p7m, tsr []byte
	at       time.Time
	kept     []*object
}

func (r *sealedRDV) objects() (report, stamp *uuid.UUID) {
	if len(r.kept) == 0 {
		return nil, nil
	}
	return &r.kept[0].id, &r.kept[1].id
}

// sealRDV signs, stamps and keeps a report. What is to be signed is in the row before the signer is asked, and what was signed and could not
// be stamped or kept after it: written again, the report would name a later checkpoint of the log, and each attempt would be another
// signature. The same content has one signature, however often it is asked for.
func (s *Service) sealRDV(ctx context.Context, r rdv) (*sealedRDV, error) {
	p7m := r.signed
	if p7m == nil {
		content, err := s.asWritten(ctx, r)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(content)
		p7m, err = s.signContent(ctx, r.tenant, r.name, mimeXML, uuid.NewSHA1(rdvSpace, append(r.id[:], sum[:]...)), content)
		if err != nil {
			return nil, err
		}
	}
	out, err := s.stampRDV(ctx, r, p7m)
	if err == nil || r.signed != nil || ctx.Err() != nil {
		return out, err
	}
	held := s.db.Tx(ctx, r.tenant, func(ctx context.Context, tx pgx.Tx) error { return r.hold(ctx, db.New(tx), p7m) })
	if held != nil {
		return nil, fmt.Errorf("conservation: hold a signed report (%w): %w", err, held)
	}
	return nil, err
}

// asWritten is a report as it is to be signed: of many attempts, also of several processes, what the first one wrote.
func (s *Service) asWritten(ctx context.Context, r rdv) (content []byte, err error) {
	err = s.db.Tx(ctx, r.tenant, func(ctx context.Context, tx pgx.Tx) error {
		content, err = r.write(ctx, db.New(tx))
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fault.Aborted("REPORT_MADE", "another process has made the report of %s", r.name)
	}
	return content, err
}

// stampRDV stamps and keeps a report that is signed.
func (s *Service) stampRDV(ctx context.Context, r rdv, p7m []byte) (*sealedRDV, error) {
	digest := sha256.Sum256(p7m)
	tsr, at, err := s.stampDigest(ctx, digest[:])
	if err != nil {
		return nil, err
	}
	out := &sealedRDV{p7m: p7m, tsr: tsr, at: pg.Time(at)}
	if s.replicas == nil {
		return out, nil
	}
	out.kept = []*object{r.object(p7m, ".xml.p7m"), r.object(tsr, ".xml.p7m.tsr")}
	for i, raw := range [][]byte{p7m, tsr} {
		s.replicas.place(out.kept[i])
		out.kept[i].to = out.kept[0].to // rows of one statement have the same replicas
		err = s.replicas.write(ctx, out.kept[i], bytes.NewReader(raw))
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (r rdv) object(raw []byte, ending string) *object {
	sum := sha256.Sum256(raw)
	return &object{
		id: uuid.NewSHA1(rdvSpace, append([]byte(ending), append(r.id[:], sum[:]...)...)), kind: kindReport, retain: r.keep,
		Object: vault.Object{Key: fmt.Sprintf("tenants/%s/rdv/%s/%s-%x%s", r.tenant, r.made.UTC().Format("2006-01"), r.id, sum[:4], ending), Size: int64(len(raw)), SHA256: sum},
	}
}

// rdvNamespace of the report's elements; services/conservation/rdv.xsd is its schema.
const rdvNamespace = "https://ceralacca.dev/schemi/rdv/1"

// writeRDV writes the report. It tells what the archive took, when, where it stands in the log, and nothing that the file or its
// metadata say: it outlives them. spec: LG-AgID §4.8 d
func (s *Service) writeRDV(ctx context.Context, row db.Deposit) ([]byte, error) {
	u, files, copies, err := s.unitOfDeposit(ctx, row)
	if err != nil {
		return nil, err
	}
	d := &xmlText{}
	s.headRDV(d, row.TenantID, depositName(row.TenantID, row.ID), u.CreatedAt)
	d.raw("<PacchettoDiVersamento>")
	d.element("Chiave", depositName(row.TenantID, row.ID)) // not the producer's own, which may tell of somebody: the report outlives the document
	d.element("Tipo", map[string]string{kindDocument: "documento", kindForeign: "pacchetto di archiviazione di altro sistema"}[row.Kind])
	d.impronta(base64Of(row.Sha256))
	d.element("Dimensione", strconv.FormatInt(row.Size, 10))
	d.element("Formato", row.Format)
	d.raw("</PacchettoDiVersamento><UnitaDocumentaria>")
	d.element("Identificativo", unitName(row.TenantID, u.ID))
	d.element("PresaInCarico", u.CreatedAt.UTC().Format(time.RFC3339Nano))
	d.element("Classe", u.Class)
	d.element("PeriodoImposta", strconv.Itoa(int(u.FiscalYear)))
	for _, f := range files {
		d.raw("<File>")
		d.element("Ruolo", map[string]string{"transmitted": "documento", "metadata": roleMetadata}[f.Role])
		d.impronta(base64Of(f.Sha256))
		d.element("Dimensione", strconv.FormatInt(f.Size, 10))
		d.raw("</File>")
	}
	if s.replicas != nil {
		d.element("Copie", strconv.Itoa(copies))
	}
	d.raw("</UnitaDocumentaria>")
	err = s.logInRDV(ctx, d, row.TenantID, u.ID)
	if err != nil {
		return nil, err
	}
	d.element("Esito", "POSITIVO")
	d.raw("</RapportoDiVersamento>\n")
	return d.Bytes(), nil
}

// headRDV begins a report.
func (s *Service) headRDV(d *xmlText, tenant, name string, at time.Time) {
	d.raw(`<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<RapportoDiVersamento xmlns="` + rdvNamespace + `" versione="1">`)
	d.element("Identificativo", name)
	d.element("DataRapporto", at.UTC().Format(time.RFC3339)) // UTC, as the Guidelines want
	d.element("Conservatore", s.cfg.Producer)
	d.element("Responsabile", responsibleName(s.cfg.Responsible))
	d.element("Titolare", "tenants/"+tenant)
}

// unitOfDeposit reads what a deposit became, and in how many replicas its document is.
func (s *Service) unitOfDeposit(ctx context.Context, row db.Deposit) (u db.Unit, files []db.UnitFile, copies int, err error) {
	err = s.db.Tx(ctx, row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		var err error
		u, err = q.GetUnit(ctx, *row.UnitID)
		if err != nil {
			return err
		}
		files, err = q.FilesOf(ctx, []uuid.UUID{u.ID})
		if err != nil || len(files) == 0 || files[0].ObjectID == nil {
			return err
		}
		held, err := q.CopiesOf(ctx, *files[0].ObjectID)
		for _, c := range held {
			if c.State == copyGood {
				copies++
			}
		}
		return err
	})
	return u, files, copies, err
}

func responsibleName(r ResponsibleConfig) string {
	if r.FormalName != "" {
		return r.FormalName
	}
	return r.FirstName + " " + r.LastName
}

// logInRDV puts the receipt of the log into the report: number of the tenant, and the proof that anybody can check.
func (s *Service) logInRDV(ctx context.Context, d *xmlText, tenant string, unit uuid.UUID) error {
	if s.book == nil {
		return nil
	}
	r, err := s.awaitReceipt(ctx, tenant, unit)
	if err != nil {
		return err
	}
	d.raw("<Registro>")
	d.element("Origine", s.cfg.Log.Origin)
	d.element("Sequenza", strconv.FormatInt(r.GetTenantSequence(), 10))
	d.element("Prova", string(r.GetReceipt()))
	d.raw("</Registro>")
	return nil
}

// awaitReceipt waits a little for the log, which states a unit within log.every: a job that is put off comes again seconds later.
func (s *Service) awaitReceipt(ctx context.Context, tenant string, unit uuid.UUID) (*conservationv1.Receipt, error) {
	const look, patience = 100 * time.Millisecond, 5 * time.Second
	for end := time.Now().Add(patience); ; {
		heard := s.book.stated.heard()
		r, err := evidence{s: s}.receipt(ctx, tenant, "", unit, 1, false, func(context.Context, *db.Queries) error { return nil })
		if err == nil || ctx.Err() != nil || fault.Of(err).Code != "RECEIPT_NOT_READY" || !time.Now().Before(end) {
			return r, err
		}
		s.book.stated.await(ctx, heard, look)
	}
}

// reported is a report as its row has it.
type reported struct {
	tenant            string
	report, stamp     []byte
	reportID, stampID *uuid.UUID
	at                *time.Time
}

// submissionReport reads a report from where it is kept: the replicas, or the rows without them.
func (s *Service) submissionReport(ctx context.Context, row reported) (*conservationv1.SubmissionReport, error) {
	if row.report == nil {
		return nil, s.reportNotReady(ctx)
	}
	m := &conservationv1.SubmissionReport{Signed: row.report, TimeStamp: row.stamp, StampTime: timestamppb.New(*row.at)}
	if s.replicas != nil && row.reportID != nil {
		for _, f := range []struct {
			id   uuid.UUID
			into *[]byte
		}{{*row.reportID, &m.Signed}, {*row.stampID, &m.TimeStamp}} {
			o, err := s.object(ctx, row.tenant, f.id)
			if err != nil {
				return nil, err
			}
			*f.into, err = s.replicas.read(ctx, o)
			if err != nil {
				return nil, err
			}
		}
	}
	sd, err := cms.Parse(m.GetSigned())
	if err != nil {
		return nil, fault.Internal("SUBMISSION_REPORT_UNREADABLE", "a report of tenants/%s cannot be read", row.tenant).With(err)
	}
	m.Content = sd.Content()
	return m, nil
}

// depositReport is the report of a deposit.
func (s *Service) depositReport(ctx context.Context, row db.Deposit) (*conservationv1.SubmissionReport, error) {
	name := depositName(row.TenantID, row.ID)
	if row.State != "ACCEPTED" {
		return nil, fault.Precondition("SUBMISSION_REPORT_NONE", "deposit %s is %s: a report is made of what was taken in charge", name, row.State)
	}
	m, err := s.submissionReport(ctx, reported{tenant: row.TenantID, report: row.Report, stamp: row.Stamp, reportID: row.ReportID, stampID: row.StampID, at: row.StampedAt})
	if err == nil {
		m.Deposit = name
	}
	return m, err
}
