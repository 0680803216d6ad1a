package sdigateway

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/format/sdiftp"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// buildArgs is the promise to make a support that has its name and its documents.
type buildArgs struct {
	Support uuid.UUID `json:"support"`
}

// Kind names the job in the database.
func (buildArgs) Kind() string { return "sdi_build_support" }

// Codes of what goes wrong with supports. They are part of last_error, TransmissionFailed and parked jobs.
const (
	codeSupportFile     = "SDIFTP_FILE_UNREADABLE"
	codeSupportRefused  = "SDIFTP_REFUSED"
	codeSupportWithdraw = "SDIFTP_WITHDRAWN"
)

// gatherSupports makes supports of the documents that wait, when they are many, large or old enough.
func (s *Service) gatherSupports(ctx context.Context) error {
	tick := time.NewTicker(channelsEvery / 2)
	defer tick.Stop()
	for {
		for ctx.Err() == nil {
			made, err := s.gather(ctx, s.cfg.FTP.GatherFor)
			if err == nil && !made {
				made, err = s.gatherAnswers(ctx, s.cfg.FTP.GatherFor)
			}
			if err != nil && ctx.Err() == nil {
				s.log.WarnContext(ctx, "no support can be gathered for now", "error", err)
			}
			if !made || err != nil {
				break
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// enough says whether what waits makes a support now, when its oldest document waits at most so long.
func (f *FTPConfig) enough(files, size int64, age, most time.Duration) bool {
	return files > 0 && (files >= int64(f.SupportFiles) || size >= f.SupportSize || age >= most)
}

// gather binds documents to a new support under a name of its own, in one transaction with the promise to make
// it. From here on a document is in this support and in no other, until SdI is known not to have taken it.
func (s *Service) gather(ctx context.Context, most time.Duration) (made bool, err error) {
	cfg := &s.cfg.FTP
	now := pg.Time(s.now())
	err = s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		made = false
		q := db.New(tx)
		waiting, err := q.WaitingForSupport(ctx)
		if err != nil || !cfg.enough(waiting.Files, waiting.Bytes, now.Sub(waiting.Oldest), most) {
			return err
		}
		facts, err := s.channelFacts(ctx)
		if err != nil || ftpHealth(facts, now, cfg.SilentAfter, cfg.RetryRefused) != "" {
			return err // they wait, or move
		}
		ids, tenants, err := s.pickForSupport(ctx, q, now)
		if err != nil || len(ids) == 0 {
			return err
		}
		made = true
		return s.bind(ctx, tx, ids, tenants, now)
	})
	return made && err == nil, err
}

// pickForSupport takes what waits, oldest first, up to the size of a support. What somebody has paused is passed over.
func (s *Service) pickForSupport(ctx context.Context, q *db.Queries, now time.Time) (ids []uuid.UUID, tenants []string, err error) {
	pauses, err := q.OpenPauses(ctx)
	if err != nil {
		return nil, nil, err
	}
	page := db.PickForSupportParams{N: min(s.cfg.FTP.SupportFiles, 1000)}
	var size int64
	for {
		rows, err := q.PickForSupport(ctx, page)
		if err != nil {
			return nil, nil, err
		}
		for _, row := range rows {
			if pausedBy(pauses, row.Invoice, now) != nil {
				continue
			}
			ref, err := blob.ParseURI(row.FileUri)
			if err != nil {
				return nil, nil, err
			}
			if len(ids) > 0 && (size+ref.Size > s.cfg.FTP.SupportSize || len(ids) >= int(s.cfg.FTP.SupportFiles)) {
				return ids, tenants, nil
			}
			size += ref.Size
			ids, tenants = append(ids, row.ID), append(tenants, row.TenantID)
		}
		if len(rows) < int(page.N) {
			return ids, tenants, nil
		}
		last := rows[len(rows)-1]
		page.AfterTime, page.AfterID = last.CreatedAt, last.ID
	}
}

func (s *Service) bind(ctx context.Context, tx pgx.Tx, ids []uuid.UUID, tenants []string, now time.Time) error {
	q := db.New(tx)
	name, err := s.supportName(ctx, q, now)
	if err != nil {
		return err
	}
	id, err := pg.NewID()
	if err != nil {
		return err
	}
	err = q.InsertSupport(ctx, db.InsertSupportParams{ID: id, Node: name.Node, Name: name.String(), Documents: int32(len(ids)), Now: now}) //nolint:gosec // at most 20,000
	if err == nil {
		err = q.InsertSupportFiles(ctx, db.InsertSupportFilesParams{SupportID: id, TransmissionIds: ids, TenantIds: tenants})
	}
	if err == nil {
		err = q.BindToSupport(ctx, db.BindToSupportParams{SupportID: &id, Ids: ids, Now: now})
	}
	if err != nil {
		return err
	}
	return s.jobs.InsertTx(ctx, tx, buildArgs{Support: id}, nil)
}

// supportName takes the next number of the minute. Numbers are given once, also in the hour that is there
// twice when summer time ends.
// spec: SDIFTP-4.3 §3.1
func (s *Service) supportName(ctx context.Context, q *db.Queries, now time.Time) (sdiftp.Name, error) {
	first, last := sdiftp.FirstNumber, sdiftp.LastNumber
	if s.cfg.FTP.Test {
		first, last = sdiftp.FirstTestNumber, sdiftp.LastTestNumber
	}
	local := now.In(sdi.Roma())
	minute := fmt.Sprintf("%04d%03d.%02d%02d", local.Year(), local.YearDay(), local.Hour(), local.Minute())
	n, err := q.TakeSupportNumber(ctx, db.TakeSupportNumberParams{Node: s.cfg.FTP.Node, Minute: minute, First: int32(first)}) //nolint:gosec // three digits
	if err != nil {
		return sdiftp.Name{}, err
	}
	if int(n) > last {
		return sdiftp.Name{}, fault.Exhausted(time.Minute, "SDIFTP_NO_NUMBER", "all %d numbers of this minute are used; the next support is made in the next one", last-first+1)
	}
	return sdiftp.NewName(sdiftp.FI, s.cfg.FTP.Node, now, int(n)), nil
}

// buildSupport makes the bytes of a support and shows it, at once and whole. A crash before the last step leaves
// nothing but a blob that nobody names.
func (s *Service) buildSupport(ctx context.Context, job *river.Job[buildArgs]) error {
	var support db.LockSupportRow
	var files []db.SupportFilesRow
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		support, err = db.New(tx).LockSupport(ctx, job.Args.Support)
		if err == nil && support.State == "GATHERED" {
			files, err = db.New(tx).SupportFiles(ctx, support.ID)
		}
		return err
	})
	if err != nil || support.State != "GATHERED" {
		return err
	}
	docs, err := s.collect(ctx, support.ID, files)
	if err != nil {
		return err
	}
	answers, err := s.answersIn(ctx, support.ID)
	if err != nil {
		return err
	}
	docs = append(docs, answers...)
	if len(docs) == 0 {
		return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
			now := pg.Time(s.now())
			return db.New(tx).SettleSupport(ctx, db.SettleSupportParams{ID: support.ID, State: "WITHDRAWN", Problem: "none of its documents can be had", Now: &now})
		})
	}
	name, err := sdiftp.ParseName(support.Name)
	if err != nil {
		return err
	}
	archive, err := sdiftp.Build(name, support.CreatedAt, docs)
	if err != nil {
		return err
	}
	sealed, err := sdiftp.Seal(ctx, archive, s.now(), s.ftp.keys.signer, s.ftp.keys.recipients...)
	if err != nil {
		return fault.Precondition("SDIFTP_SEAL", "support %s cannot be signed or encrypted: %v; mend the certificates, then retry the job", support.Name, err)
	}
	ref, err := s.blobs.Put(ctx, supportTenant, sealed)
	if err != nil {
		return err
	}
	return s.show(ctx, support, ref, int32(len(docs))) //nolint:gosec // at most 20,000
}

// collect reads the documents. One that cannot be had leaves the support, told and parked by nobody else's
// leave; the others go.
func (s *Service) collect(ctx context.Context, support uuid.UUID, files []db.SupportFilesRow) ([]sdiftp.Documento, error) {
	docs := make([]sdiftp.Documento, 0, len(files))
	for _, t := range files {
		ref, err := blob.ParseURI(t.FileUri)
		var content []byte
		if err == nil {
			content, err = s.blobs.Get(ctx, ref)
		}
		if err == nil && sha256.Sum256(content) != ref.SHA256 {
			err = fault.Internal("BLOB_CORRUPT", "the file is not the one that was reserved")
		}
		if err == nil {
			docs = append(docs, sdiftp.Documento{Name: t.FileName, Data: content})
			continue
		}
		if k := fault.Of(err).Kind; k == fault.KindUnavailable || ctx.Err() != nil {
			return nil, err
		}
		err = s.leaveOut(ctx, support, t, err)
		if err != nil {
			return nil, err
		}
	}
	return docs, nil
}

func (s *Service) leaveOut(ctx context.Context, support uuid.UUID, t db.SupportFilesRow, cause error) error {
	message := fmt.Sprintf("the file cannot be read and was left out of its support: %v", cause)
	s.log.ErrorContext(ctx, "a document was left out of its support", "transmission", t.ID, "error", cause)
	return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		err := q.DropFromSupport(ctx, db.DropFromSupportParams{ID: t.ID, LastError: codeSupportFile + ": " + message, Now: pg.Time(s.now())})
		if err == nil {
			err = q.DeleteSupportFile(ctx, db.DeleteSupportFileParams{SupportID: support, TransmissionID: t.ID})
		}
		if err != nil {
			return err
		}
		ctx = pg.WithTenant(story(ctx, t.TenantID, t.Invoice, "", t.Traceparent), t.TenantID)
		return s.bus.Emit(ctx, tx, &sdiv1.TransmissionFailed{
			Invoice: t.Invoice, Transmission: transmissionName(t.TenantID, t.ID), Code: codeSupportFile, Message: message,
		})
	})
}

// show puts a support where SdI sees it, and counts the attempt of each document.
func (s *Service) show(ctx context.Context, support db.LockSupportRow, ref blob.Ref, documents int32) error {
	return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		now := pg.Time(s.now())
		q := db.New(tx)
		n, err := q.ShowSupport(ctx, db.ShowSupportParams{ID: support.ID, FileUri: ref.URI(), Sha256: ref.SHA256[:], Size: ref.Size, Documents: documents, Now: &now})
		if err != nil || n == 0 {
			return err
		}
		s.log.InfoContext(ctx, "a support is shown to SdI", "name", support.Name, "documents", documents, "size", ref.Size)
		err = q.CountAnswerAttempts(ctx, db.CountAnswerAttemptsParams{SupportID: &support.ID, Now: &now})
		if err != nil {
			return err
		}
		return q.CountAttempts(ctx, db.CountAttemptsParams{SupportID: &support.ID, Now: &now})
	})
}

// withdraw takes back supports that SdI has never opened, and frees their documents. One that is being opened
// at this moment stays: its row decides.
func (s *Service) withdraw(ctx context.Context, why string) error {
	return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		now := pg.Time(s.now())
		q := db.New(tx)
		rows, err := q.WithdrawSupports(ctx, db.WithdrawSupportsParams{Now: &now, Problem: codeSupportWithdraw + ": " + why})
		if err != nil {
			return err
		}
		for _, row := range rows {
			n, err := freeSupport(ctx, q, row.ID, codeSupportWithdraw+": "+why, now)
			if err != nil {
				return err
			}
			s.log.WarnContext(ctx, "a support that nobody came for was withdrawn", "name", row.Name, "documents", n)
		}
		return nil
	})
}

// freeSupport frees what a support carried of which SdI has nothing: invoices and outcomes. It gives how many.
func freeSupport(ctx context.Context, q *db.Queries, support uuid.UUID, why string, now time.Time) (int64, error) {
	files, err := q.FreeFromSupport(ctx, db.FreeFromSupportParams{SupportID: &support, LastError: why, Now: now})
	if err != nil {
		return 0, err
	}
	answers, err := q.FreeAnswers(ctx, db.FreeAnswersParams{SupportID: &support, Message: plainText(why, 500)})
	return files + answers, err
}

// noSuchSupport turns an outcome about a support that is not ours into words.
func noSuchSupport(err error, name string) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return fault.Precondition("SDIFTP_UNKNOWN_SUPPORT", "support %s was never shown by us", name)
	}
	return err
}
