package pecgateway

import (
	"archive/zip"
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// indexFile is the list of an exported mailbox: what the bytes of its messages do not say.
const indexFile = "index.jsonl"

// archived is one message of the list. Everything else about it is in its bytes.
type archived struct {
	Direction  string         `json:"direction"` // SENT or RECEIVED; those that were sent come first
	SHA256     string         `json:"sha256"`    // hexadecimal; the file is messages/{sha256}.eml
	Size       int64          `json:"size"`
	Folder     string         `json:"folder,omitempty"`
	Time       time.Time      `json:"time"` // when it was fetched, or handed to us to be sent
	Quarantine string         `json:"quarantine,omitempty"`
	Facts      []archivedFact `json:"facts,omitempty"` // of a sent message: what we did
}

type archivedFact struct {
	What string    `json:"what"` // queued, submitted, outcome-unknown, rejected, cancelled
	At   time.Time `json:"at"`
}

func fileOf(sum string) string { return "messages/" + sum + ".eml" }

// exportStream sends what is written to it.
type exportStream struct {
	stream pecv1.PecDeskService_ExportMailboxServer
	name   string
}

func (e *exportStream) Write(p []byte) (int, error) {
	err := e.stream.Send(&pecv1.ExportMailboxResponse{FileName: e.name, Data: p})
	e.name = ""
	return len(p), err
}

// mailboxExport is an export on its way. The list is kept in a file until all messages are written.
type mailboxExport struct {
	s     *Service
	box   db.Mailbox
	z     *zip.Writer
	index *json.Encoder
	done  map[string]bool
}

// ExportMailbox streams all messages of a mailbox and the list of them.
func (s *Service) ExportMailbox(req *pecv1.ExportMailboxRequest, stream pecv1.PecDeskService_ExportMailboxServer) error {
	ctx := stream.Context()
	e := &mailboxExport{s: s, done: map[string]bool{}}
	err := s.look(ctx, req.GetName(), func(_ context.Context, _ pgx.Tx, box db.Mailbox) error {
		e.box = box
		return nil
	})
	if err != nil {
		return err
	}
	list, err := os.CreateTemp("", "ceralacca-pec-*")
	if err != nil {
		return err
	}
	defer list.Close()
	_ = os.Remove(list.Name()) // it is gone with its last descriptor
	lines := bufio.NewWriter(list)
	out := bufio.NewWriterSize(&exportStream{stream, "mailbox-" + s.now().UTC().Format("20060102T150405Z") + ".zip"}, chunk)
	e.z, e.index = zip.NewWriter(out), json.NewEncoder(lines)
	for _, direction := range []pecv1.MessageDirection{pecv1.MessageDirection_MESSAGE_DIRECTION_SENT, pecv1.MessageDirection_MESSAGE_DIRECTION_RECEIVED} {
		err = e.all(ctx, int16(direction))
		if err != nil {
			return err
		}
	}
	err = lines.Flush()
	if err == nil {
		_, err = list.Seek(0, io.SeekStart)
	}
	if err != nil {
		return err
	}
	w, err := e.z.CreateHeader(&zip.FileHeader{Name: indexFile, Method: zip.Deflate, Modified: s.now()})
	if err == nil {
		_, err = io.Copy(w, list)
	}
	return errors.Join(err, e.z.Close(), out.Flush())
}

func (e *mailboxExport) all(ctx context.Context, direction int16) error {
	for after := uuid.Nil; ; {
		var rows []db.Message
		facts := map[uuid.UUID][]archivedFact{}
		err := e.s.db.View(ctx, e.box.TenantID, func(ctx context.Context, tx pgx.Tx) error {
			var err error
			rows, err = q(tx).MessagesToExport(ctx, db.MessagesToExportParams{TenantID: e.box.TenantID, MailboxID: e.box.ID, Direction: direction, After: after, Most: handPage})
			if err != nil || len(rows) == 0 {
				return err
			}
			ids := make([]uuid.UUID, len(rows))
			for i, r := range rows {
				ids[i] = r.ID
			}
			own, err := q(tx).OwnFacts(ctx, db.OwnFactsParams{TenantID: e.box.TenantID, Ids: ids})
			for _, f := range own {
				facts[f.MessageID] = append(facts[f.MessageID], archivedFact{happened[f.Kind], f.At})
			}
			return err
		})
		if err != nil || len(rows) == 0 {
			return err
		}
		for _, r := range rows {
			err = e.one(ctx, r, facts[r.ID])
			if err != nil {
				return err
			}
		}
		after = rows[len(rows)-1].ID
	}
}

func (e *mailboxExport) one(ctx context.Context, r db.Message, facts []archivedFact) error {
	a := archived{Direction: direction(r), SHA256: hex.EncodeToString(r.Sha256), Size: r.Size, Folder: r.Folder, Time: r.ReceiveTime, Facts: facts}
	if r.QuarantineCode == codeRejected {
		a.Quarantine = r.QuarantineCode
	}
	err := e.index.Encode(a)
	if err != nil || e.done[a.SHA256] {
		return err
	}
	e.done[a.SHA256] = true
	sp, err := e.s.fromArchive(ctx, r.ContentUri)
	if err != nil {
		return err
	}
	defer sp.close()
	return (&bundle{z: e.z}).add(fileOf(a.SHA256), io.NewSectionReader(sp, 0, sp.size))
}
