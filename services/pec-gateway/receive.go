package pecgateway

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// found is one message on its way in: where it stood and what its bytes are.
type found struct {
	uid  string
	mark []byte    // over POP3: what tells it from another under the same id
	date time.Time // of the server; zero when it does not say
	says int64     // size that the server announced; -1 when it did not
	sp   *spool

	want   sorted // by the rules of the mailbox
	ref    blob.Ref
	judged *judged
}

// place is where messages were found.
type place struct {
	folder   string // as the server names it
	shown    string
	validity uint32
	sent     bool // the folder of what was sent: nothing in it was received
	still    bool // these stand before the cursor, which stays where it is
}

// errFenced: another replica presides over the mailbox, or its owner changed it.
var errFenced = fault.Aborted("MAILBOX_CHANGED_HANDS", "another replica presides over the mailbox, or it was changed")

// codeSize: the provider's idea of a message's size is not that of its bytes. It changes nothing but is worth knowing
// when somebody compares.
const codeSize = "SIZE_DIFFERS"

// receive archives messages, reads them and records them in one transaction. First the bytes are safe,
// then they are understood: a crash in between costs a second reading. With them the cursor moves to next; 0: it stays.
func (v *visit) receive(ctx context.Context, at place, items []*found, next uint32) error {
	err := v.keep(ctx, items)
	if err != nil {
		return err
	}
	return v.admit(ctx, at, items, next)
}

// When a mailbox has many messages at a time, others wait behind it.
const (
	crowd       = 64  // messages of one batch that are many
	mostBehind  = 512 // events that wait to be published before it gives way
	giveWayLook = 20 * time.Millisecond
	giveWayMost = 2 * time.Second // for a batch: where the broker is away, what lies at the provider is kept all the same
)

// giveWay waits while many events have still to be published. They go out in one order, so a mailbox that is flooded, or read for the
// first time, would have the news of all others wait behind its own.
func (s *Service) giveWay(ctx context.Context, coming int) error {
	if coming < crowd {
		return nil
	}
	for end := time.Now().Add(giveWayMost); time.Now().Before(end); {
		behind := false
		err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
			var err error
			behind, err = bus.Behind(ctx, tx, mostBehind)
			return err
		})
		if err != nil || !behind {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(giveWayLook):
		}
	}
	return nil
}

// admit reads and records messages that are archived.
func (v *visit) admit(ctx context.Context, at place, items []*found, next uint32) error {
	err := v.s.giveWay(ctx, len(items))
	if err != nil {
		return err
	}
	release, err := v.s.slot(ctx)
	if err != nil {
		return err
	}
	defer release()
	return v.s.untilTrustRests(ctx, func() error { return v.judgeAndRecord(ctx, at, items, next) })
}

func (v *visit) judgeAndRecord(ctx context.Context, at place, items []*found, next uint32) error {
	trust, err := v.s.trustNow(ctx)
	if err != nil {
		return err
	}
	standing, err := v.s.standingVouchings(ctx, v.box)
	if err != nil {
		return err
	}
	var sent sentBatch
	defer sent.close()
	var reading errgroup.Group
	reading.SetLimit(readAtOnce)
	for _, f := range items {
		reading.Go(func() error { return v.read(ctx, trust, standing, f, &sent) })
	}
	err = reading.Wait()
	if err != nil {
		return err
	}
	return v.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		err := v.hold(ctx, tx)
		if err == nil {
			err = v.s.holdTrust(ctx, tx, trust.version)
		}
		if err == nil {
			all := make([]*judged, len(items))
			for i, f := range items {
				all[i] = f.judged
			}
			err = v.s.holdVouchings(ctx, tx, v.box, all...)
		}
		if err != nil {
			return err
		}
		if next > 0 {
			err = q(tx).PutFolder(ctx, db.PutFolderParams{TenantID: v.box.TenantID, MailboxID: v.box.ID, Name: at.folder,
				UidValidity: int64(at.validity), NextUid: int64(next)})
			if err != nil {
				return err
			}
		}
		fresh, err := v.recordAll(ctx, tx, at, items)
		if err != nil || fresh == 0 {
			return err
		}
		now := pg.Time(v.s.now())
		return q(tx).RecordFetched(ctx, db.RecordFetchedParams{TenantID: v.box.TenantID, ID: v.box.ID, Fetched: int64(fresh), ReceiveTime: &now})
	})
}

// readAtOnce bounds the messages of a batch that are read at a time: more than there are processors, since what was
// sent may have to be fetched from the archive.
const readAtOnce = 8

// hold makes sure that the mailbox is still ours until the end of the transaction.
func (v *visit) hold(ctx context.Context, tx pgx.Tx) error {
	fence, err := q(tx).HoldFence(ctx, db.HoldFenceParams{TenantID: v.box.TenantID, ID: v.box.ID})
	if err == nil && fence != v.box.Fence {
		err = errFenced
	}
	return err
}

func (v *visit) read(ctx context.Context, trust *trusted, standing []db.Vouching, f *found, sent *sentBatch) (err error) {
	f.judged, err = v.s.judge(ctx, f.sp, trust.verification(v.box, f.date, v.s.now()), standing)
	if err == nil {
		err = v.s.compare(ctx, v.box, f.judged, sent)
	}
	return err
}

// received is the row of a message.
func received(box db.Mailbox, id uuid.UUID, j *judged, ref blob.Ref) db.InsertManyReceivedParams {
	p := db.InsertManyReceivedParams{
		TenantID: box.TenantID, ID: id, MailboxID: box.ID, Kind: int16(j.kind), Tipo: string(j.tipo), State: int16(pecv1.MessageState_MESSAGE_STATE_RECEIVED),
		MessageID: j.messageD, Reference: j.ref, Identificativo: j.ident, FromAddress: j.from, CertifiedSender: j.sender, Recipients: j.to,
		Subject: j.subject, Proven: j.proven, Report: j.stored, Doubts: j.doubts, QuarantineCode: j.code, Quarantine: trim(j.reason, 1000),
		ContentUri: ref.URI(), Sha256: ref.SHA256[:], Size: ref.Size, CertifiedTime: j.certTime,
	}
	if j.report != nil {
		p.Verification = string(j.report.Status)
	}
	return p
}

func content(ref blob.Ref) *eventv1.Blob {
	return &eventv1.Blob{Uri: ref.URI(), Sha256: ref.SHA256[:], Size: ref.Size, MediaType: "message/rfc822"}
}

// ordinary applies the rule for mail that is not certified: what is proven to be a transport envelope or
// a receipt is no such mail, what merely claims to be is.
func (v *visit) ordinary(j *judged, folder string) string {
	if j.code != "" || j.kind != pecv1.MessageKind_MESSAGE_KIND_ORDINARY && j.kind != pecv1.MessageKind_MESSAGE_KIND_ANOMALY {
		return folder
	}
	switch pecv1.OrdinaryAction(v.box.OrdinaryAction) {
	case pecv1.OrdinaryAction_ORDINARY_ACTION_MOVE:
		return v.box.OrdinaryFolder
	case pecv1.OrdinaryAction_ORDINARY_ACTION_REJECT:
		j.code, j.reason = codeRejected, "mail that is not certified is kept away by the rule of the mailbox"
	}
	return folder
}

// correlated is the sent message that a receipt is about.
type correlated struct {
	sent    db.Message
	doubts  []string
	counts  bool // the receipt may change its state
	hearsay bool // an ordinary delivery report: it proves nothing
}

// correlate finds the sent message that a proven receipt is about: by our Message-ID, then by the
// provider's identifier. nil: it is about none of ours. spec: RFC6109 §2.2.1, §4.4
func (s *Service) correlate(ctx context.Context, tx pgx.Tx, box db.Mailbox, j *judged) (*correlated, error) {
	if j.told != nil {
		return s.reportedOn(ctx, tx, box, j)
	}
	if !correlates(j) {
		return nil, nil
	}
	return s.correlateWith(ctx, tx, box, j, &sentCache{})
}

func (s *Service) correlateWith(ctx context.Context, tx pgx.Tx, box db.Mailbox, j *judged, known *sentCache) (*correlated, error) {
	row, err := known.find(ctx, tx, box, j)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	sent, err := known.get(ctx, tx, row)
	if err != nil {
		return nil, err
	}
	m := pec.Match(j.reading, *sent)
	if !m.Ours {
		return nil, nil
	}
	c := &correlated{sent: row, counts: !m.Findings.Has(pec.CodeRecipient)}
	if why := olderThan(row, j); why != "" {
		c.counts, c.doubts = false, append(c.doubts, why)
	}
	if c.counts && j.ident != "" && (sent.Identificativo == "" || j.ident < sent.Identificativo) {
		sent.Identificativo = j.ident // as the state will have it
	}
	for _, f := range m.Findings {
		c.doubts = append(c.doubts, trim(f.Code+": "+f.Message, 500))
	}
	return c, nil
}

// believe keeps the report and draws the conclusions of a proven receipt.
func (s *Service) believe(ctx context.Context, tx pgx.Tx, box db.Mailbox, id uuid.UUID, j *judged, about *correlated, ref blob.Ref) error {
	c := s.conclusionsOf(box)
	err := c.add(ctx, tx, id, j, about, ref)
	if err != nil {
		return err
	}
	return c.end(ctx, tx)
}
