package pecgateway

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// recordAll writes a batch of messages down and says how many of them were not known by their bytes. Statements of
// one kind travel together: a first reading consists of little else.
func (v *visit) recordAll(ctx context.Context, tx pgx.Tx, at place, items []*found) (int, error) {
	if len(items) == 0 {
		return 0, nil
	}
	rows := make([]db.InsertManyReceivedParams, len(items))
	var err error
	v.policy, err = policyOf(ctx, tx, v.box)
	if err != nil {
		return 0, err
	}
	about, err := v.correlateAll(ctx, tx, items)
	if err != nil {
		return 0, err
	}
	for i, f := range items {
		rows[i], err = v.row(at, f, about[i])
		if err != nil {
			return 0, err
		}
	}
	fresh := make([]bool, len(items))
	err = v.insertAll(ctx, tx, rows, fresh)
	if err != nil {
		return 0, err
	}
	err = v.locate(ctx, tx, at, items, rows)
	if err != nil {
		return 0, err
	}
	count, now := 0, pg.Time(v.s.now())
	var found []noted
	conclusion := v.s.conclusionsOf(v.box)
	for i, f := range items {
		if !fresh[i] {
			continue
		}
		count++
		id, j := rows[i].ID, f.judged
		found = append(found, noted{id, j.words, j.files})
		if !at.sent {
			err = v.serve(ctx, tx, id, j, f.ref, f.want)
			if err != nil {
				return 0, err
			}
		}
		if !at.sent && j.code != codeRejected {
			err = v.s.bus.Emit(bus.WithCorrelation(ctx, id.String()), tx, &pecv1.MessageReceived{
				Message: messageName(v.box.TenantID, v.box.ID, id), Kind: j.kind.String(), Content: content(f.ref), ReceiveTime: timestamppb.New(now),
				Initial: v.box.SyncEndTime == nil, Verdict: j.verdict(),
			})
			if err != nil {
				return 0, err
			}
		}
		if !at.sent {
			err = v.tellClaim(ctx, tx, id, j)
		}
		if err == nil {
			err = conclusion.add(ctx, tx, id, j, about[i], f.ref)
		}
		if err != nil {
			return 0, err
		}
	}
	err = v.s.searchable(ctx, tx, v.box, found...)
	if err != nil {
		return 0, err
	}
	return count, conclusion.end(ctx, tx)
}

// row is what is written of one message.
func (v *visit) row(at place, f *found, about *correlated) (db.InsertManyReceivedParams, error) {
	id, err := pg.NewID()
	f.want = sorted{folder: at.shown}
	if !at.sent {
		f.want = v.sort(f.judged, at.shown)
	}
	p := received(v.box, id, f.judged, f.ref)
	p.Folder, p.ReceiveTime = trim(f.want.folder, 300), pg.Time(v.s.now())
	if f.says >= 0 && f.says != f.sp.size {
		p.Doubts = append(p.Doubts, fmt.Sprintf("%s: the server announced %d bytes and gave %d", codeSize, f.says, f.sp.size))
	}
	if about != nil {
		p.AboutID, p.Doubts = &about.sent.ID, append(p.Doubts, about.doubts...)
	}
	return p, err
}

// insertAll writes the rows; those of bytes that are known get the id of the earlier one.
func (v *visit) insertAll(ctx context.Context, tx pgx.Tx, rows []db.InsertManyReceivedParams, fresh []bool) error {
	var failed error
	var known [][]byte
	q(tx).InsertManyReceived(ctx, rows).QueryRow(func(i int, _ uuid.UUID, err error) {
		switch {
		case err == nil:
			fresh[i] = true
		case errors.Is(err, pgx.ErrNoRows):
			known = append(known, rows[i].Sha256)
		case failed == nil:
			failed = err
		}
	})
	if failed != nil || len(known) == 0 {
		return failed
	}
	earlier, err := q(tx).MessagesOfContent(ctx, db.MessagesOfContentParams{TenantID: v.box.TenantID, MailboxID: v.box.ID, Sums: known})
	if err != nil {
		return err
	}
	ids := make(map[string]uuid.UUID, len(earlier))
	for _, e := range earlier {
		ids[hex.EncodeToString(e.Sha256)] = e.ID
	}
	for i := range rows {
		if id, ok := ids[hex.EncodeToString(rows[i].Sha256)]; ok {
			rows[i].ID = id
		} else if !fresh[i] {
			return fmt.Errorf("pec-gateway: bytes %x are known and stand nowhere", rows[i].Sha256)
		}
	}
	return nil
}

// locate writes down where the messages stand.
func (v *visit) locate(ctx context.Context, tx pgx.Tx, at place, items []*found, rows []db.InsertManyReceivedParams) error {
	p := db.InsertLocationsParams{TenantID: v.box.TenantID, MailboxID: v.box.ID, Folder: at.folder, UidValidity: int64(at.validity)}
	for i, f := range items {
		mark := f.mark
		if mark == nil {
			mark = []byte{}
		}
		p.Uids, p.MessageIds, p.Marks = append(p.Uids, f.uid), append(p.MessageIds, rows[i].ID), append(p.Marks, mark)
	}
	return q(tx).InsertLocations(ctx, p)
}

// correlateAll finds, for each receipt, the sent message that it is about; nil for all others.
func (v *visit) correlateAll(ctx context.Context, tx pgx.Tx, items []*found) ([]*correlated, error) {
	out := make([]*correlated, len(items))
	var msgids, identificativi []string
	for _, f := range items {
		if j := f.judged; correlates(j) {
			msgids, identificativi = append(msgids, j.ref), append(identificativi, j.ident)
		} else if j.told != nil {
			msgids, identificativi = append(msgids, j.ref), append(identificativi, j.ref)
		}
	}
	if len(msgids) == 0 {
		return out, nil
	}
	rows, err := q(tx).SentAmong(ctx, db.SentAmongParams{TenantID: v.box.TenantID, MailboxID: v.box.ID, Msgids: msgids, Identificativi: identificativi})
	if err != nil || len(rows) == 0 {
		return out, err
	}
	ours := map[string]bool{}
	for _, r := range rows {
		ours[r.MessageID] = true
		ours[r.Identificativo] = true
	}
	delete(ours, "")
	known := &sentCache{}
	for i, f := range items {
		if j := f.judged; j.told != nil && ours[j.ref] {
			out[i], err = v.s.reportedOn(ctx, tx, v.box, j)
			if err != nil {
				return nil, err
			}
		} else if correlates(j) && (ours[j.ref] || ours[j.ident]) {
			out[i], err = v.s.correlateWith(ctx, tx, v.box, j, known)
			if err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// correlates: only proven receipts count, and only by what they name.
func correlates(j *judged) bool {
	return j.proven && j.tipo.Receipt() && (j.ref != "" || j.ident != "")
}

// sentCache keeps, over a batch, what receipts of one message are held to: a message to a thousand recipients has
// thousands of them. Rows are for who they are, not for their states.
type sentCache struct {
	rows map[[2]string]db.Message // by msgid and identificativo
	sent map[uuid.UUID]*pec.Sent
}

func (c *sentCache) find(ctx context.Context, tx pgx.Tx, box db.Mailbox, j *judged) (db.Message, error) {
	key := [2]string{j.ref, j.ident}
	if row, ok := c.rows[key]; ok {
		return row, nil
	}
	row, err := q(tx).SentOf(ctx, db.SentOfParams{TenantID: box.TenantID, MailboxID: box.ID, Msgid: j.ref, Identificativo: j.ident})
	if err != nil {
		return row, err
	}
	if c.rows == nil {
		c.rows = map[[2]string]db.Message{}
	}
	c.rows[key] = row
	return row, nil
}

func (c *sentCache) get(ctx context.Context, tx pgx.Tx, row db.Message) (*pec.Sent, error) {
	if sent := c.sent[row.ID]; sent != nil {
		return sent, nil
	}
	recipients, err := q(tx).ListRecipients(ctx, db.ListRecipientsParams{TenantID: row.TenantID, MessageID: row.ID})
	if err != nil {
		return nil, err
	}
	sent := &pec.Sent{MessageID: row.MessageID, Identificativo: row.Identificativo, Recipients: make([]string, len(recipients))}
	for i, r := range recipients {
		sent.Recipients[i] = r.Address
	}
	if c.sent == nil {
		c.sent = map[uuid.UUID]*pec.Sent{}
	}
	c.sent[row.ID] = sent
	return sent, nil
}
