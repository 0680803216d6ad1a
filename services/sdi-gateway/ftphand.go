package sdigateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"golang.org/x/sync/errgroup"

	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/format/sdiftp"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// handArgs is the promise to hand on what a support of SdI brought for those who receive.
type handArgs struct {
	Support uuid.UUID `json:"support"`
}

// Kind names the job in the database.
func (handArgs) Kind() string { return "sdi_hand_documents" }

const (
	handedTogether = 8
	handPage       = 500
	// aloneFor is how long a file waits for metadata that another support may bring; then it goes to quarantine,
	// where a person sees it. aloneEvery is how often it is looked for.
	aloneFor   = 24 * time.Hour
	aloneEvery = 10 * time.Minute
)

// Codes of documents in supports that wait or that nobody can use.
const (
	codeNoMetadata = "SDIFTP_NO_METADATA"
	codeNoFile     = "SDIFTP_NO_FILE"
	codeNotForUs   = "SDIFTP_NOT_FOR_US"
)

// errHanded: somebody else has handed the document on.
var errHanded = errors.New("sdi-gateway: the document was handed on already")

// handDocuments hands files and their metadata to reception, notices and refusals of outcomes to those who wait
// for them. What is handed on is marked in the transaction that takes it: a crash leaves a document either here
// or there, and never in both. A half of a pair waits for the other.
func (s *Service) handDocuments(ctx context.Context, job *river.Job[handArgs]) error {
	alone := false
	for after := (uuid.UUID{}); ; {
		var page []db.WaitingDocumentsRow
		err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
			page, err = db.New(tx).WaitingDocuments(ctx, db.WaitingDocumentsParams{SupportID: job.Args.Support, After: after, N: handPage})
			return err
		})
		if err != nil {
			return err
		}
		waits, err := s.handPage(ctx, job.Args.Support, page)
		if err != nil {
			return err
		}
		alone = alone || waits
		if len(page) < handPage {
			break
		}
		after = page[len(page)-1].ID
	}
	if alone {
		return river.JobSnooze(aloneEvery)
	}
	return nil
}

// handPage hands documents on, files before metadata: of a pair that lies here the file takes its metadata along.
func (s *Service) handPage(ctx context.Context, support uuid.UUID, page []db.WaitingDocumentsRow) (alone bool, err error) {
	var halves [2][]db.WaitingDocumentsRow
	for _, d := range page {
		turn := 0
		if d.Type == string(sdi.MT) {
			turn = 1
		}
		halves[turn] = append(halves[turn], d)
	}
	for _, half := range halves {
		waits := make([]bool, len(half))
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(handedTogether)
		for i, d := range half {
			g.Go(func() (err error) {
				waits[i], err = s.handOn(gctx, support, d)
				if errors.Is(err, errHanded) {
					return nil
				}
				return err
			})
		}
		err = g.Wait()
		if err != nil {
			return alone, err
		}
		alone = alone || slices.Contains(waits, true)
	}
	return alone, nil
}

// handOn hands one document on. waits says that it is half of a pair whose other half has not come yet.
func (s *Service) handOn(ctx context.Context, support uuid.UUID, d db.WaitingDocumentsRow) (waits bool, err error) {
	switch sdi.MessageType(d.Type) {
	case sdi.MT:
		return s.handPair(ctx, support, d, string(sdiftp.FA))
	case sdi.DT:
		return false, s.handNotice(ctx, d)
	case sdi.SE:
		return false, s.handRefusal(ctx, support, d)
	}
	if d.Type == string(sdiftp.FA) {
		return s.handPair(ctx, support, d, string(sdi.MT))
	}
	return false, s.handNowhere(ctx, support, d, codeNotForUs+": a file of type "+d.Type+" is nothing that SdI sends to a node")
}

// handPair delivers a file with its metadata.
func (s *Service) handPair(ctx context.Context, support uuid.UUID, d db.WaitingDocumentsRow, other string) (waits bool, err error) {
	var own db.ReadDocumentRow
	var mate *db.ReadDocumentRow
	err = s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		own, err = q.ReadDocument(ctx, d.ID)
		if errors.Is(err, pgx.ErrNoRows) {
			return errHanded
		}
		if err != nil {
			return err
		}
		found, err := q.FindDocument(ctx, db.FindDocumentParams{FileKey: d.FileKey, Type: other, SupportID: support})
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		row, err := q.ReadDocument(ctx, found.ID)
		if errors.Is(err, pgx.ErrNoRows) {
			return fault.Unavailable("SDIFTP_PAIR_TAKEN", "the other half of %s went with another file just now; it is looked for again", d.FileName)
		}
		mate = &row
		return err
	})
	if err != nil {
		return false, err
	}
	switch {
	case mate != nil && d.Type == string(sdiftp.FA):
		return false, s.deliverDocument(ctx, &own, mate)
	case mate != nil:
		return false, s.deliverDocument(ctx, mate, &own)
	case d.Type == string(sdi.MT):
		return s.handMetadata(ctx, support, d, &own)
	case s.now().Before(own.ArrivedAt.Add(aloneFor)):
		return true, s.noteDocument(ctx, support, d, codeNoMetadata+": the file came without metadata; it waits a day for them, then it goes to quarantine")
	}
	return false, s.deliverDocument(ctx, &own, nil)
}

// handMetadata delivers a file once more of which only the metadata came again.
func (s *Service) handMetadata(ctx context.Context, support uuid.UUID, d db.WaitingDocumentsRow, own *db.ReadDocumentRow) (waits bool, err error) {
	var known db.KnownInboundFileRow
	err = s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		known, err = db.New(tx).KnownInboundFile(ctx, db.KnownInboundFileParams{SdiID: metadataID(own), FileKey: metadataFile(own)})
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		if s.now().Before(own.ArrivedAt.Add(aloneFor)) {
			return true, s.noteDocument(ctx, support, d, codeNoFile+": metadata came and their file did not")
		}
		return false, s.handNowhere(ctx, support, d, codeNoFile+": metadata came and their file did not, in a day: ask SdI for it")
	}
	if err != nil {
		return false, err
	}
	file, err := s.inboundBytes(ctx, known.FileUri)
	if err != nil {
		return false, err
	}
	return false, s.takeInbound(ctx, inboundArrival{
		channel: channelFTP, sdiID: metadataID(own), fileName: known.FileName, file: file, metadataName: own.FileName, metadata: own.Raw,
		at: own.ArrivedAt, with: s.handed(own.ID),
	})
}

// deliverDocument hands a file to reception, and what there is of metadata.
func (s *Service) deliverDocument(ctx context.Context, file, metadata *db.ReadDocumentRow) error {
	a := inboundArrival{channel: channelFTP, fileName: file.FileName, file: file.Raw, at: file.ArrivedAt}
	ids := []uuid.UUID{file.ID}
	if metadata != nil {
		a.sdiID, a.metadataName, a.metadata = metadataID(metadata), metadata.FileName, metadata.Raw
		ids = append(ids, metadata.ID)
		if metadata.ArrivedAt.After(a.at) {
			a.at = metadata.ArrivedAt
		}
	}
	a.with = s.handed(ids...)
	return s.takeInbound(ctx, a)
}

// handed marks documents as handed on, in the transaction of who takes them; all of them, or nothing happens.
func (s *Service) handed(ids ...uuid.UUID) func(context.Context, pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		now := pg.Time(s.now())
		n, err := db.New(tx).HandDocuments(ctx, db.HandDocumentsParams{Ids: ids, Now: &now})
		if err == nil && n != int64(len(ids)) {
			err = errHanded
		}
		return err
	}
}

// metadataID is the identifier that metadata state; empty when they cannot be read, which reception will say.
func metadataID(d *db.ReadDocumentRow) string {
	m, err := sdi.ParseMessage(d.FileName, d.Raw)
	if err != nil || len(m.Head().IdentificativoSdI) > 36 {
		return ""
	}
	return m.Head().IdentificativoSdI
}

// metadataFile is the name of the file that metadata are about, as names are compared.
func metadataFile(d *db.ReadDocumentRow) string {
	m, err := sdi.ParseMessage(d.FileName, d.Raw)
	if err != nil {
		return ""
	}
	return sdi.NameKey(m.Head().NomeFile)
}

// handNotice gives the notice that a term is over to the file that it is about.
func (s *Service) handNotice(ctx context.Context, d db.WaitingDocumentsRow) error {
	return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		doc, err := readWaiting(ctx, tx, d.ID)
		if err != nil {
			return err
		}
		err = s.handed(d.ID)(ctx, tx)
		if err != nil {
			return err
		}
		return s.saveNotice(ctx, tx, sdi.FileSdI{IdentificativoSdI: metadataID(&doc), NomeFile: doc.FileName, File: doc.Raw}, doc.ArrivedAt)
	})
}

func readWaiting(ctx context.Context, tx pgx.Tx, id uuid.UUID) (db.ReadDocumentRow, error) {
	doc, err := db.New(tx).ReadDocument(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		err = errHanded
	}
	return doc, err
}

// noteDocument says at a document why it waits, and tells operators once.
func (s *Service) noteDocument(ctx context.Context, support uuid.UUID, d db.WaitingDocumentsRow, problem string) error {
	err := s.saveDifferences(ctx, support, []difference{{d.FileName, problem}})
	if err != nil {
		return err
	}
	return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return db.New(tx).SetDocumentProblem(ctx, db.SetDocumentProblemParams{ID: d.ID, Problem: problem})
	})
}

// handNowhere ends the way of a document that nobody can use. Its bytes stay in the support.
func (s *Service) handNowhere(ctx context.Context, support uuid.UUID, d db.WaitingDocumentsRow, problem string) error {
	err := s.saveDifferences(ctx, support, []difference{{d.FileName, problem}})
	if err != nil {
		return err
	}
	return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		now := pg.Time(s.now())
		_, err := db.New(tx).HandDocuments(ctx, db.HandDocumentsParams{Ids: []uuid.UUID{d.ID}, Now: &now, Problem: problem})
		return err
	})
}

// handRefusal applies an SE to the outcome that it refuses. An outcome counts as taken once SdI has accepted the
// support that carried it; its refusal comes later, if at all.
// spec: SDIFTP-4.3 §3.1 (SE); MessaggiTypes-1.1 ScartoEsitoCommittente
func (s *Service) handRefusal(ctx context.Context, support uuid.UUID, d db.WaitingDocumentsRow) error {
	err := s.applyRefusal(ctx, d.ID)
	if fault.Of(err) != nil && fault.Of(err).Code == codeRefusalUnknown {
		return s.handNowhere(ctx, support, d, codeRefusalUnknown+": "+fault.Of(err).Message)
	}
	return err
}

// codeRefusalUnknown is that of an SE that is about no outcome of ours.
const codeRefusalUnknown = "SDIFTP_REFUSAL_UNKNOWN"

func (s *Service) applyRefusal(ctx context.Context, id uuid.UUID) error {
	var doc db.ReadDocumentRow
	var about db.AnswersAboutRow
	var se *sdi.ScartoEsitoCommittente
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		doc, err = readWaiting(ctx, tx, id)
		if err != nil {
			return err
		}
		m, err := sdi.ParseMessage(doc.FileName, doc.Raw)
		if err != nil {
			return fault.Invalid(codeRefusalUnknown, "the refusal of an outcome cannot be read: %v", err)
		}
		var ok bool
		se, ok = m.Contenuto.(*sdi.ScartoEsitoCommittente)
		if !ok {
			return fault.Invalid(codeRefusalUnknown, "the file named as a refusal is a message of type %s", m.Type())
		}
		rows, err := db.New(tx).AnswersAbout(ctx, se.IdentificativoSdI)
		if err != nil {
			return err
		}
		about, ok = refusedAnswer(se, rows)
		if !ok {
			return fault.Invalid(codeRefusalUnknown, "no outcome of ours is about IdentificativoSdI %s, MessageIdCommittente %q", se.IdentificativoSdI, se.MessageIDCommittente)
		}
		return nil
	})
	if err != nil {
		return err
	}
	ref, err := s.blobs.Put(ctx, about.TenantID, doc.Raw)
	if err != nil {
		return err
	}
	return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		ctx = pg.WithTenant(ctx, about.TenantID)
		err := s.handed(id)(ctx, tx)
		if err != nil {
			return err
		}
		file, o, err := lockOutcome(ctx, tx, about.ID)
		if err != nil || o.State == outcomeRefused {
			return err
		}
		o.AnswerUri = ref.URI()
		return s.writeVerdict(ctx, tx, file, o, refusalVerdict(o, se))
	})
}

// refusedAnswer finds the outcome that an SE refuses: by the identifier that we gave it, else by the document, else
// the only one that stands.
func refusedAnswer(se *sdi.ScartoEsitoCommittente, rows []db.AnswersAboutRow) (found db.AnswersAboutRow, ok bool) {
	var standing []db.AnswersAboutRow
	for _, row := range rows {
		if se.MessageIDCommittente != "" && strings.EqualFold(se.MessageIDCommittente, outcomeMessageID(row.ID)) {
			return row, true
		}
		if row.State != outcomeRefused {
			standing = append(standing, row)
		}
	}
	if se.MessageIDCommittente != "" {
		return found, false
	}
	for _, row := range standing {
		rf := se.RiferimentoFattura
		if rf == nil && row.Position == 0 || rf != nil && row.Number != nil && *row.Number == rf.NumeroFattura {
			return row, true
		}
	}
	if len(standing) == 1 {
		return standing[0], true
	}
	return found, false
}

// outcomeMessageID is the MessageIdCommittente of an outcome: at most fourteen characters.
func outcomeMessageID(id uuid.UUID) string { return strings.ToUpper(hexOf(id[9:])) }

// fileKeyOf is the file that a document of a support is about, as names are compared; empty when its name says
// nothing.
func fileKeyOf(name string) string {
	if m, err := sdi.ParseMessageName(name); err == nil {
		return sdi.NameKey(m.Stem)
	}
	if f, err := sdi.ParseFileName(name); err == nil {
		return sdi.NameKey(f.Stem())
	}
	return fmt.Sprintf("?%.60s", name)
}
