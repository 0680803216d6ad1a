package pecgateway

import (
	"archive/zip"
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// Bounds of one call: it ends well before its deadline, and the next goes on.
const (
	restoreMessages = 200
	restoreBytes    = 64 << 20
)

// restoration is one call.
type restoration struct {
	s       *Service
	box     db.Mailbox
	archive string // where the file lies, which goes with the last message that came in it
	files   map[string]*zip.File
	out     *pecv1.RestoreMailboxResponse
	waiting []*found // received messages of one folder
	lines   []archived
	folder  string
	bytes   int64
}

func badArchive(format string, a ...any) error {
	text := fmt.Sprintf(format, a...)
	return fault.Invalid("ARCHIVE_INVALID", "archive: %s: give a ZIP of ExportMailbox", text).WithField("archive", "ARCHIVE_INVALID", text)
}

// RestoreMailbox takes messages of an exported mailbox into this one. Those that were sent come first, with what we did; then
// what was received is read and judged like mail that comes, and the states follow. Faults: those of the contract.
func (s *Service) RestoreMailbox(ctx context.Context, req *pecv1.RestoreMailboxRequest) (*pecv1.RestoreMailboxResponse, error) {
	r := &restoration{s: s, out: &pecv1.RestoreMailboxResponse{Position: req.GetPosition()}, files: map[string]*zip.File{}}
	err := s.look(ctx, req.GetName(), func(_ context.Context, _ pgx.Tx, box db.Mailbox) error {
		r.box = box
		if !box.Paused {
			return fault.Precondition("MAILBOX_NOT_SUSPENDED", "suspend the mailbox first: while it is restored nothing is fetched into it")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	ref, err := blob.ParseURI(req.GetArchive().GetUri())
	if err != nil || ref.Tenant != r.box.TenantID {
		return nil, badArchive("%q is no file of this tenant", req.GetArchive().GetUri())
	}
	r.archive = ref.URI()
	sp, err := s.fromArchive(ctx, req.GetArchive().GetUri())
	if err != nil {
		return nil, err
	}
	defer sp.close()
	index, err := r.open(sp)
	if err != nil {
		return nil, err
	}
	defer index.Close()
	err = r.all(pg.WithTenant(ctx, r.box.TenantID), index)
	if err != nil {
		return nil, err
	}
	err = s.db.Tx(ctx, r.box.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "mailbox.restore", Resource: req.GetName(), Detail: map[string]string{
			"archive": req.GetArchive().GetUri(), "restored": fmt.Sprint(r.out.GetRestored()), "known": fmt.Sprint(r.out.GetKnown())}})
	})
	return r.out, err
}

func (r *restoration) open(sp *spool) (io.ReadCloser, error) {
	z, err := zip.NewReader(sp, sp.size)
	if err != nil {
		return nil, badArchive("%v", err)
	}
	for _, f := range z.File {
		r.files[f.Name] = f
	}
	if r.files[indexFile] == nil {
		return nil, badArchive("it has no %s", indexFile)
	}
	return r.files[indexFile].Open()
}

// all takes lines from the position on, as many as one call does.
func (r *restoration) all(ctx context.Context, index io.Reader) error {
	defer func() { batch{items: r.waiting}.close() }()
	lines := bufio.NewScanner(index)
	lines.Buffer(nil, 1<<20)
	at, first := int64(0), r.out.GetPosition()
	for lines.Scan() {
		at++
		if at <= first {
			continue
		}
		if at > first+restoreMessages || r.bytes > restoreBytes {
			return r.receive(ctx)
		}
		var a archived
		err := json.Unmarshal(lines.Bytes(), &a)
		if err == nil {
			err = r.one(ctx, a)
		} else {
			err = badArchive("line %d of %s: %v", at, indexFile, err)
		}
		if err != nil {
			return err
		}
		r.out.Position = at
	}
	if err := lines.Err(); err != nil {
		return badArchive("%s: %v", indexFile, err)
	}
	r.out.Done = true
	return r.receive(ctx)
}

// one takes one line: what was sent at once, what was received with its neighbours.
func (r *restoration) one(ctx context.Context, a archived) error {
	f := r.files[fileOf(a.SHA256)]
	if f == nil {
		return badArchive("%s is in the list and not in the file", fileOf(a.SHA256))
	}
	in, err := f.Open()
	if err != nil {
		return badArchive("%s: %v", f.Name, err)
	}
	defer in.Close()
	sp, err := newSpool(io.LimitReader(in, a.Size+1), a.Size)
	if err != nil {
		return badArchive("%s: %v", f.Name, err)
	}
	sum, err := sp.sum()
	if err != nil || hex.EncodeToString(sum) != a.SHA256 {
		sp.close()
		return errors.Join(err, badArchive("%s has other bytes than its name says", f.Name))
	}
	r.bytes += sp.size
	if a.Direction == "SENT" {
		defer sp.close()
		return r.sent(ctx, a, sp)
	}
	if len(r.waiting) >= batchMessages || len(r.waiting) > 0 && r.folder != a.Folder {
		err = r.receive(ctx)
	}
	if err != nil {
		sp.close()
		return err
	}
	r.folder, r.lines = a.Folder, append(r.lines, a)
	r.waiting = append(r.waiting, &found{uid: a.SHA256, says: -1, sp: sp})
	return nil
}

// receive takes the messages that wait as if they came, except that nobody is told and no rule is followed: that was done
// when they came.
func (r *restoration) receive(ctx context.Context) error {
	if len(r.waiting) == 0 {
		return nil
	}
	items, lines := r.waiting, r.lines
	r.waiting, r.lines = nil, nil
	defer func() { batch{items: items}.close() }()
	p := db.RestoreTimesParams{TenantID: r.box.TenantID, MailboxID: r.box.ID}
	known := map[string]bool{}
	for _, a := range lines {
		sum, _ := hex.DecodeString(a.SHA256) // it was compared
		why := ""
		if a.Quarantine != "" {
			why = "mail that is not certified is kept away by the rule of the mailbox"
		}
		p.Sums, p.Times, p.Codes, p.Whys = append(p.Sums, sum), append(p.Times, pg.Time(a.Time)), append(p.Codes, a.Quarantine), append(p.Whys, why)
	}
	err := r.s.db.Tx(ctx, r.box.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := q(tx).MessagesOfContent(ctx, db.MessagesOfContentParams{TenantID: r.box.TenantID, MailboxID: r.box.ID, Sums: p.Sums})
		for _, row := range rows {
			known[hex.EncodeToString(row.Sha256)] = true
		}
		return err
	})
	if err != nil {
		return err
	}
	fresh := slices.DeleteFunc(slices.Clone(items), func(f *found) bool { return known[f.uid] })
	r.out.Known += int64(len(items) - len(fresh))
	if len(fresh) > 0 {
		v := &visit{s: r.s, box: r.box}
		err = v.receive(ctx, place{shown: r.folder, sent: true}, fresh, 0)
		if err != nil {
			return err
		}
		r.out.Restored += int64(len(fresh))
	}
	return r.s.db.Tx(ctx, r.box.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		err := q(tx).NoteRestoredContents(ctx, db.NoteRestoredContentsParams{ArchiveUri: r.archive, TenantID: p.TenantID, MailboxID: p.MailboxID, Sums: p.Sums})
		if err != nil || len(fresh) == 0 {
			return err
		}
		return q(tx).RestoreTimes(ctx, p)
	})
}

// sent writes down a message of ours: from its bytes whom it was for, from the list what we did. It is never sent again.
func (r *restoration) sent(ctx context.Context, a archived, sp *spool) error {
	ref, err := r.s.blobs.PutReader(ctx, r.box.TenantID, io.NewSectionReader(sp, 0, sp.size))
	if err != nil {
		return err
	}
	m, err := pec.Parse(sp, sp.size, pec.Limits{Size: r.s.cfg.MaxMessage})
	if err != nil {
		return badArchive("%s: %v", fileOf(a.SHA256), err)
	}
	head := m.Root.Header
	id, err := pg.NewID()
	if err != nil {
		return err
	}
	p := db.InsertSentParams{TenantID: r.box.TenantID, ID: id, MailboxID: r.box.ID, State: int16(pecv1.MessageState_MESSAGE_STATE_PENDING),
		MessageID: head.MessageID("Message-ID"), FromAddress: first(pec.ParseAddresses(head.Get("From"))), Subject: trim(head.Text("Subject"), 2000),
		ContentUri: ref.URI(), Sha256: ref.SHA256[:], Size: ref.Size, Now: pg.Time(a.Time)}
	fields := recipientsOf(head, &p)
	return r.s.db.Tx(ctx, r.box.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		note := func(message uuid.UUID) error {
			return q(tx).NoteRestored(ctx, db.NoteRestoredParams{TenantID: r.box.TenantID, MessageID: message, ArchiveUri: r.archive})
		}
		there, err := q(tx).SentBefore(ctx, db.SentBeforeParams{TenantID: r.box.TenantID, MailboxID: r.box.ID, MessageID: p.MessageID, Sha256: p.Sha256})
		if err == nil {
			r.out.Known++
			return note(there)
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		err = q(tx).InsertSent(ctx, p)
		if err == nil {
			err = q(tx).InsertRecipients(ctx, db.InsertRecipientsParams{TenantID: r.box.TenantID, MessageID: id, Addresses: p.Recipients, Fields: fields})
		}
		for _, f := range a.Facts {
			kind := slices.Index(happened, f.What)
			if kind <= 0 {
				return badArchive("%q is no fact", f.What)
			}
			if err == nil {
				_, err = r.s.know(ctx, tx, id, pec.Fact{Kind: pec.FactKind(kind), At: f.At}, nil)
			}
		}
		if err == nil {
			_, err = r.s.advance(ctx, tx, id)
		}
		if err == nil {
			err = note(id)
		}
		if err == nil {
			r.out.Restored++
		}
		return err
	})
}

// recipientsOf takes those whom a message is for from its header, each once.
func recipientsOf(head pec.Header, p *db.InsertSentParams) (fields []string) {
	seen := map[string]bool{}
	p.Recipients, fields = []string{}, []string{}
	for _, field := range []string{"To", "Cc"} {
		for _, a := range pec.ParseAddresses(head.Get(field)) {
			if a.Addr != "" && !seen[key(a.Addr)] {
				seen[key(a.Addr)] = true
				p.Recipients, fields = append(p.Recipients, a.Addr), append(fields, strings.ToLower(field))
			}
		}
	}
	return fields
}
