package sdigateway

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/format/sdiftp"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// readSupportArgs is the promise to read one file that SdI put.
type readSupportArgs struct {
	Support uuid.UUID `json:"support"`
}

// Kind names the job in the database.
func (readSupportArgs) Kind() string { return "sdi_read_support" }

// saveArriving keeps a file that SdI has put and not yet marked as whole. Its bytes are durable already.
func (s *Service) saveArriving(ctx context.Context, name sdiftp.Name, ref blob.Ref) error {
	return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		id, err := pg.NewID()
		if err != nil {
			return err
		}
		return db.New(tx).SaveArriving(ctx, db.SaveArrivingParams{
			ID: id, Node: name.Node, Kind: string(name.Kind), Name: name.String(), FileUri: ref.URI(), Sha256: ref.SHA256[:], Size: ref.Size, Now: pg.Time(s.now()),
		})
	})
}

// saveReceived keeps a whole file and promises to read it. The same file again only counts; another content
// under the same name is a file of its own.
func (s *Service) saveReceived(ctx context.Context, name sdiftp.Name, ref blob.Ref) error {
	return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error { return s.receiveSupport(ctx, tx, name, ref) })
}

func (s *Service) receiveSupport(ctx context.Context, tx pgx.Tx, name sdiftp.Name, ref blob.Ref) error {
	id, err := pg.NewID()
	if err != nil {
		return err
	}
	saved, err := db.New(tx).SaveReceived(ctx, db.SaveReceivedParams{
		ID: id, Node: name.Node, Kind: string(name.Kind), Name: name.String(), FileUri: ref.URI(), Sha256: ref.SHA256[:], Size: ref.Size, Now: pg.Time(s.now()),
	})
	if err != nil || !saved.First {
		return err
	}
	return s.jobs.InsertTx(ctx, tx, readSupportArgs{Support: saved.ID}, nil)
}

// completeArriving is SdI's rename, which certifies that the file is whole. A rename repeated after a lost answer
// finds the file received already.
func (s *Service) completeArriving(ctx context.Context, from, to sdiftp.Name) error {
	return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		arrived, err := db.New(tx).TakeArriving(ctx, from.String())
		if errors.Is(err, pgx.ErrNoRows) {
			_, err = db.New(tx).StatReceived(ctx, to.String())
			return err
		}
		if err != nil {
			return err
		}
		ref, err := blob.ParseURI(arrived.FileUri)
		if err != nil {
			return err
		}
		return s.receiveSupport(ctx, tx, to, ref)
	})
}

// readSupport reads one file of SdI. What cannot be read stays as it came, in quarantine, and the job is parked:
// it can be retried once the reason is mended.
func (s *Service) readSupport(ctx context.Context, job *river.Job[readSupportArgs]) error {
	var row db.LockSupportRow
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		row, err = db.New(tx).LockSupport(ctx, job.Args.Support)
		return err
	})
	if err != nil || row.State == "READ" {
		return err
	}
	name, err := sdiftp.ParseName(row.Name)
	if err != nil {
		return fault.Invalid("SDIFTP_NAME", "%v", err)
	}
	ref, err := blob.ParseURI(row.FileUri)
	if err != nil {
		return err
	}
	raw, err := s.blobs.Get(ctx, ref)
	if err != nil {
		return err
	}
	documents, outcome, err := s.readKind(ctx, row.ID, name, raw)
	state, problem := "READ", ""
	if err != nil {
		if !fault.Permanent(err) {
			return err
		}
		state, problem = "QUARANTINED", fault.Of(err).Code+": "+fault.Of(err).Message
	}
	return errors.Join(err, s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		now := pg.Time(s.now())
		return db.New(tx).FinishReading(ctx, db.FinishReadingParams{ID: row.ID, State: state, Outcome: outcome, Problem: problem, Documents: documents, Now: &now})
	}))
}

func (s *Service) readKind(ctx context.Context, id uuid.UUID, name sdiftp.Name, raw []byte) (documents int32, outcome string, err error) {
	switch name.Kind {
	case sdiftp.EO:
		outcome, err = s.readOutcome(ctx, id, name, raw)
		return 0, outcome, err
	case sdiftp.ER:
		outcome, err = s.readRefusal(ctx, id, name, raw)
		return 0, outcome, err
	case sdiftp.ST:
		documents, err = s.readReport(ctx, id, name, raw)
		return documents, "", err
	}
	documents, err = s.readContents(ctx, id, name, raw)
	return documents, "", err
}

// readContents opens a support of SdI and hands on what is inside: messages by the way of the callbacks, the rest
// to those who receive. The support itself is kept, so nothing here can lose anything; each step may be repeated.
func (s *Service) readContents(ctx context.Context, id uuid.UUID, name sdiftp.Name, raw []byte) (int32, error) {
	archive, err := s.ftp.keys.opener.Open(raw, s.now())
	if errors.Is(err, sdiftp.ErrEncryption) {
		return 0, fault.Precondition("SDIFTP_ENCRYPTION", "support %s cannot be decrypted (%v): check ftp.decrypt_cert_file and that the file is whole, then retry the job", name, err)
	}
	if err != nil {
		return 0, fault.Precondition("SDIFTP_SIGNATURE", "the signature of support %s does not hold (%v): it is kept and not read; check ftp.sdi_ca_file and ftp.sdi_signers, then retry the job", name, err)
	}
	content, err := sdiftp.Read(name, archive, sdiftp.Limits{})
	if err != nil {
		return 0, fault.Invalid("SDIFTP_ARCHIVE", "support %s cannot be unpacked: %v", name, err)
	}
	messages, others, err := s.sortDocuments(ctx, content.Documenti)
	if err != nil {
		return 0, err
	}
	err = s.noteMessages(ctx, id, messages)
	if err != nil {
		return 0, err
	}
	err = s.takeMessages(ctx, messages)
	if err != nil {
		return 0, err
	}
	err = s.takeDocuments(ctx, id, others, content.Scartati)
	if err != nil {
		return 0, err
	}
	return int32(len(content.Documenti)), s.compareCounts(ctx, id, name, content) //nolint:gosec // bounded by the limits of Read
}

// sortDocuments tells messages about what we sent from what is for a receiver. DT goes to both sides: it is
// ours when its file is.
func (s *Service) sortDocuments(ctx context.Context, docs []sdiftp.Documento) (messages, others []sdiftp.Documento, err error) {
	var own []uuid.UUID
	var keys, empty []string
	at := map[uuid.UUID]int{}
	for i, d := range docs {
		switch sdi.MessageType(d.Tipo) {
		case sdi.RC, sdi.NS, sdi.MC, sdi.NE, sdi.AT:
			messages = append(messages, d)
		case sdi.DT:
			id, err := pg.NewID()
			if err != nil {
				return nil, nil, err
			}
			name, err := sdi.ParseMessageName(d.Name)
			if err != nil {
				return nil, nil, err
			}
			at[id] = i
			own, keys, empty = append(own, id), append(keys, sdi.NameKey(name.Stem)), append(empty, "")
		default:
			others = append(others, d)
		}
	}
	if len(own) == 0 {
		return messages, others, nil
	}
	found := map[uuid.UUID]bool{}
	err = s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := db.New(tx).MatchTransmissions(ctx, db.MatchTransmissionsParams{MessageIds: own, SdiIds: empty, FileKeys: keys})
		for _, row := range rows {
			found[row.MessageID] = true
		}
		return err
	})
	for _, id := range own {
		if found[id] {
			messages = append(messages, docs[at[id]])
		} else {
			others = append(others, docs[at[id]])
		}
	}
	return messages, others, err
}

// takeMessages saves messages as the callbacks do, raw first, under the identifier that they state: in a support
// nothing else gives it.
func (s *Service) takeMessages(ctx context.Context, docs []sdiftp.Documento) error {
	for chunk := range slices.Chunk(docs, savedTogether) {
		var batch []*arrival
		for _, d := range chunk {
			id, err := pg.NewID()
			if err != nil {
				return err
			}
			a := &arrival{
				id: id, operation: string(d.Tipo), sum: sha256.Sum256(d.Data), at: pg.Time(s.now()), saved: make(chan error, 1),
				file: sdi.FileSdI{NomeFile: d.Name, File: d.Data},
			}
			op, ok := sdi.OperationFor(sdi.MessageType(d.Tipo))
			if ok {
				a.operation = op.String()
			}
			m, err := sdi.ParseMessage(d.Name, d.Data)
			if err == nil { // an unreadable one is saved too, and found unreadable where all are
				a.file.IdentificativoSdI = m.Head().IdentificativoSdI
			}
			batch = append(batch, a)
		}
		for all := slices.Clone(batch); len(all) > 0; {
			all = s.saveBatch(ctx, all)
		}
		for _, a := range batch {
			err := <-a.saved
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// takeDocuments keeps what is for those who receive, as it came, and files that no pattern explains, and promises
// to hand them on.
func (s *Service) takeDocuments(ctx context.Context, support uuid.UUID, docs []sdiftp.Documento, refused []sdiftp.Scartato) error {
	for _, f := range refused {
		s.log.WarnContext(ctx, "a file of a support cannot be used; it is kept", "support", support, "name", f.Name, "reason", f.Reason)
	}
	p := db.SaveDocumentsParams{SupportID: support, ReceivedAt: pg.Time(s.now())}
	add := func(kind, name, problem string, data []byte) error {
		id, err := pg.NewID()
		sum := sha256.Sum256(data)
		p.Ids, p.Types, p.FileNames, p.Problems = append(p.Ids, id), append(p.Types, kind), append(p.FileNames, name), append(p.Problems, problem)
		p.Hashes, p.Raws, p.FileKeys = append(p.Hashes, sum[:]), append(p.Raws, data), append(p.FileKeys, fileKeyOf(name))
		return err
	}
	for _, d := range docs {
		err := add(string(d.Tipo), d.Name, "", d.Data)
		if err != nil {
			return err
		}
	}
	for _, f := range refused {
		if !validText(f.Name) {
			f.Name = fmt.Sprintf("%q", f.Name)
		}
		err := add("", f.Name, f.Reason, f.Data)
		if err != nil {
			return err
		}
	}
	if len(p.Ids) == 0 {
		return nil
	}
	return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		err := db.New(tx).SaveDocuments(ctx, p)
		if err != nil {
			return err
		}
		return s.jobs.InsertTx(ctx, tx, handArgs{Support: support}, nil)
	})
}
