package pecgateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"google.golang.org/protobuf/types/known/timestamppb"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// vouched is the word of a person by which a message counts as proven, as its report has it.
type vouched struct {
	Vouching string    `json:"vouching"`
	By       string    `json:"by"`
	Time     time.Time `json:"time"`
	Reason   string    `json:"reason"`
	NotShown string    `json:"not_shown"`
}

// says is the word in words.
func (w *vouched) says() string {
	if w == nil {
		return ""
	}
	return fmt.Sprintf("%s vouched on %s: %s", w.By, w.Time.UTC().Format(time.RFC3339), w.Reason)
}

// word is the person's word that covers a message, and nil for what nobody may vouch for, or nobody did. Of several the first counts.
func word(standing []db.Vouching, r *pec.Reading, rep *pec.Report) *vouched {
	if !r.ProvenBeforeEnd(rep) {
		return nil
	}
	for _, w := range standing {
		if covers(w, rep.JudgedAt) {
			return given(w, fmt.Sprintf("that the signature was made before the certificate ended on %s: only the signature itself says so, and whoever has the key can date what he likes",
				rep.NotAfter.UTC().Format(time.RFC3339)))
		}
	}
	return nil
}

func given(w db.Vouching, notShown string) *vouched {
	return &vouched{Vouching: vouchingName(w), By: w.VouchedBy, Time: w.VouchTime, Reason: w.Reason, NotShown: notShown}
}

func covers(w db.Vouching, at time.Time) bool {
	return !at.Before(w.ArriveFrom) && !at.After(w.ArriveUntil)
}

// clocksApart is how far the clock of a provider may be from ours.
const clocksApart = 15 * time.Minute

// olderThan says why a receipt that a person vouched for is none of a message of ours: the moment that it states of itself is before the
// message was there. Whoever has the key of a certificate that has ended could make one of any message.
func olderThan(sent db.Message, j *judged) string {
	if j.vouched == nil || !j.report.SigningTime.Before(sent.ReceiveTime.Add(-clocksApart)) {
		return ""
	}
	return fmt.Sprintf("RECEIPT_BEFORE_MESSAGE: it says that it was signed on %s, and the message is of %s: it does not count, whoever vouches for it",
		j.report.SigningTime.UTC().Format(time.RFC3339), sent.ReceiveTime.UTC().Format(time.RFC3339))
}

// standingVouchings are the words that count in a mailbox.
func (s *Service) standingVouchings(ctx context.Context, box db.Mailbox) (out []db.Vouching, err error) {
	err = s.db.View(ctx, box.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		out, err = q(tx).StandingVouchings(ctx, db.StandingVouchingsParams{TenantID: box.TenantID, MailboxID: box.ID})
		return err
	})
	return out, err
}

// holdVouchings makes sure until the end of the transaction that each message was judged by the words that stand now: what one of them
// covers is found by whoever goes through the mailbox after it was given or taken back.
func (s *Service) holdVouchings(ctx context.Context, tx pgx.Tx, box db.Mailbox, all ...*judged) error {
	var standing []db.Vouching
	held := false
	for _, j := range all {
		if j.report == nil || j.report.Status != pec.StatusEnded {
			continue
		}
		if !held {
			err := q(tx).HoldVouchings(ctx, box.ID.String())
			if err == nil {
				standing, err = q(tx).StandingVouchings(ctx, db.StandingVouchingsParams{TenantID: box.TenantID, MailboxID: box.ID})
			}
			if err != nil {
				return err
			}
			held = true
		}
		if !sameWord(word(standing, j.reading, j.report), j.vouched) {
			return errTrustMoved
		}
	}
	return nil
}

func sameWord(a, b *vouched) bool {
	return (a == nil) == (b == nil) && (a == nil || a.Vouching == b.Vouching)
}

// wordIn is the word that a message counts by as a report says.
func wordIn(report []byte) *vouched {
	var rec struct {
		Vouched *vouched `json:"vouched"`
	}
	if json.Unmarshal(report, &rec) != nil {
		return nil
	}
	return rec.Vouched
}

func vouchingName(w db.Vouching) string {
	return mailboxName(w.TenantID, w.MailboxID) + "/vouchings/" + w.ID.String()
}

// vouchArgs is the promise to judge anew what a word covers: when it is given, and when it is taken back.
type vouchArgs struct {
	Vouching uuid.UUID `json:"vouching"`
}

// Kind names the job in the database.
func (vouchArgs) Kind() string { return "pec_vouch" }

// VouchForCopies writes down a person's word for the mail that was copied into a mailbox within a period, and promises to judge it
// anew. Faults: those of the contract.
func (s *Service) VouchForCopies(ctx context.Context, req *pecv1.VouchForCopiesRequest) (*pecv1.Vouching, error) {
	tenant, mailbox, err := splitMailbox(req.GetParent())
	if err != nil {
		return nil, err
	}
	id, err := pg.NewID()
	if err != nil {
		return nil, err
	}
	now := pg.Time(s.now())
	w := db.Vouching{TenantID: tenant, ID: id, MailboxID: mailbox, ArriveFrom: pg.Time(req.GetArriveFrom().AsTime()), ArriveUntil: pg.Time(req.GetArriveUntil().AsTime()),
		Reason: req.GetReason(), VouchedBy: telemetry.Actor(ctx), VouchTime: now}
	if w.ArriveUntil.Before(w.ArriveFrom) || w.ArriveUntil.After(now) {
		return nil, fault.Invalid("VOUCHING_PERIOD_INVALID", "arrive_until: the copies came within a period that is over, from arrive_from to arrive_until: nobody vouches for what is still to come").
			WithField("arrive_until", "VOUCHING_PERIOD_INVALID", "is before arrive_from, or in the future")
	}
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		_, err := s.mailbox(ctx, tx, tenant, mailbox, false)
		if err == nil {
			err = q(tx).LockVouchings(ctx, mailbox.String())
		}
		if err != nil {
			return err
		}
		standing, err := q(tx).StandingVouchings(ctx, db.StandingVouchingsParams{TenantID: tenant, MailboxID: mailbox})
		if err != nil {
			return err
		}
		for _, e := range standing {
			if !e.ArriveFrom.After(w.ArriveFrom) && !e.ArriveUntil.Before(w.ArriveUntil) {
				return fault.Precondition("ALREADY_VOUCHED", "for what came then %s vouched already (%s)", e.VouchedBy, vouchingName(e))
			}
		}
		err = q(tx).InsertVouching(ctx, db.InsertVouchingParams{TenantID: w.TenantID, ID: w.ID, MailboxID: w.MailboxID, ArriveFrom: w.ArriveFrom, ArriveUntil: w.ArriveUntil,
			Reason: w.Reason, VouchedBy: w.VouchedBy, VouchTime: w.VouchTime})
		if err == nil {
			err = s.jobs.InsertTx(ctx, tx, vouchArgs{Vouching: w.ID}, nil)
		}
		if err != nil {
			return err
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "mailbox.vouch", Resource: req.GetParent(), Detail: map[string]string{"vouching": vouchingName(w),
			"from": w.ArriveFrom.Format(time.RFC3339), "until": w.ArriveUntil.Format(time.RFC3339), "reason": w.Reason}})
	})
	if err != nil {
		return nil, err
	}
	return showVouching(w, db.CountVouchedRow{}), nil
}

// EndVouching takes a word back. Faults: those of the contract.
func (s *Service) EndVouching(ctx context.Context, req *pecv1.EndVouchingRequest) (*pecv1.Vouching, error) {
	parent, last, _ := strings.Cut(req.GetName(), "/vouchings/")
	tenant, mailbox, err := splitMailbox(parent)
	if err != nil {
		return nil, err
	}
	unknown := fault.NotFound("VOUCHING_NOT_FOUND", "there is no %s", req.GetName())
	id, err := uuid.Parse(last)
	if err != nil {
		return nil, unknown
	}
	var w db.Vouching
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		_, err := s.mailbox(ctx, tx, tenant, mailbox, false)
		if err == nil {
			err = q(tx).LockVouchings(ctx, mailbox.String())
		}
		if err != nil {
			return err
		}
		w, err = q(tx).GetVouching(ctx, db.GetVouchingParams{TenantID: tenant, ID: id})
		if errors.Is(err, pgx.ErrNoRows) || err == nil && w.MailboxID != mailbox {
			return unknown
		}
		if err != nil {
			return err
		}
		if w.EndTime != nil {
			return fault.Precondition("VOUCHING_ENDED", "%s took it back on %s", w.EndedBy, w.EndTime.UTC().Format(time.RFC3339))
		}
		now := pg.Time(s.now())
		w.EndTime, w.EndedBy, w.EndReason, w.JudgeTime, w.Failed = &now, telemetry.Actor(ctx), req.GetReason(), nil, 0
		err = q(tx).EndVouching(ctx, db.EndVouchingParams{TenantID: tenant, ID: id, EndTime: w.EndTime, EndedBy: w.EndedBy, EndReason: w.EndReason})
		if err == nil {
			err = s.jobs.InsertTx(ctx, tx, vouchArgs{Vouching: w.ID}, nil)
		}
		if err != nil {
			return err
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "mailbox.vouch_end", Resource: parent, Detail: map[string]string{"vouching": req.GetName(), "reason": w.EndReason}})
	})
	if err != nil {
		return nil, err
	}
	return showVouching(w, db.CountVouchedRow{}), nil
}

// ListVouchings shows whose word mail of a mailbox counts by.
func (s *Service) ListVouchings(ctx context.Context, req *pecv1.ListVouchingsRequest) (*pecv1.ListVouchingsResponse, error) {
	tenant, mailbox, err := splitMailbox(req.GetParent())
	if err != nil {
		return nil, err
	}
	filter := pg.FilterHash("vouchings", tenant, mailbox.String())
	var last uuid.UUID
	found, err := pg.DecodePageToken(req.GetPageToken(), filter, &last)
	if err != nil {
		return nil, err
	}
	size := pageSize(req.GetPageSize())
	p := db.ListVouchingsParams{TenantID: tenant, MailboxID: mailbox, PageSize: size + 1}
	if found {
		p.Before = &last
	}
	out := &pecv1.ListVouchingsResponse{}
	err = s.db.View(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := s.mailbox(ctx, tx, tenant, mailbox, false); err != nil {
			return err
		}
		rows, err := q(tx).ListVouchings(ctx, p)
		if err != nil {
			return err
		}
		rows, out.NextPageToken, err = pg.Page(rows, size, filter, func(r db.Vouching) []any { return []any{r.ID} })
		if err != nil {
			return err
		}
		counts, err := q(tx).CountVouched(ctx, db.CountVouchedParams{TenantID: tenant, MailboxID: mailbox})
		by := map[string]db.CountVouchedRow{}
		for _, c := range counts {
			by[c.Vouching] = c
		}
		for _, r := range rows {
			out.Vouchings = append(out.Vouchings, showVouching(r, by[vouchingName(r)]))
		}
		return err
	})
	return out, err
}

func showVouching(w db.Vouching, count db.CountVouchedRow) *pecv1.Vouching {
	return &pecv1.Vouching{
		Name: vouchingName(w), ArriveFrom: timestamppb.New(w.ArriveFrom), ArriveUntil: timestamppb.New(w.ArriveUntil), Reason: w.Reason, VouchedBy: w.VouchedBy,
		VouchTime: timestamppb.New(w.VouchTime), EndTime: stamp(w.EndTime), EndedBy: w.EndedBy, EndReason: w.EndReason,
		Messages: count.Messages, Receipts: count.Receipts, FailedMessages: w.Failed, JudgeTime: stamp(w.JudgeTime),
	}
}

func showVouched(w *vouched) *pecv1.Vouched {
	if w == nil {
		return nil
	}
	return &pecv1.Vouched{Vouching: w.Vouching, By: w.By, Time: timestamppb.New(w.Time), Reason: w.Reason, NotShown: w.NotShown}
}

// copiesTogether is how many messages are judged between two notes of how far it is: all of them are read from the store, which may be slow.
const copiesTogether = 20

// judgeCopies judges anew what a word covers, or covered until it was taken back. It goes on where it was, a turn at a time.
func (s *Service) judgeCopies(ctx context.Context, job *river.Job[vouchArgs]) error {
	ctx = telemetry.WithActor(ctx, actor)
	turn, cancel := context.WithTimeout(ctx, rejudgeFor)
	defer cancel()
	for turn.Err() == nil {
		done, err := s.judgeCopiesPage(ctx, pg.Tenant(ctx), job.Args.Vouching)
		if err != nil || done {
			return err
		}
	}
	return river.JobSnooze(0)
}

func (s *Service) judgeCopiesPage(ctx context.Context, tenant string, id uuid.UUID) (bool, error) {
	var w db.Vouching
	var page []uuid.UUID
	err := s.db.View(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		w, err = q(tx).GetVouching(ctx, db.GetVouchingParams{TenantID: tenant, ID: id})
		if err == nil {
			page, err = q(tx).CopiesAfter(ctx, db.CopiesAfterParams{TenantID: tenant, MailboxID: w.MailboxID, After: w.AtMessage,
				ArriveFrom: w.ArriveFrom, ArriveUntil: w.ArriveUntil, Most: copiesTogether})
		}
		return err
	})
	if err != nil || w.JudgeTime != nil {
		return true, err
	}
	at := db.KeepVouchingParams{TenantID: tenant, ID: id, AtMessage: w.AtMessage, Standing: w.EndTime == nil}
	for _, message := range page {
		at.AtMessage = message
		err = s.judgeCopy(ctx, w, message)
		if away(ctx, err) {
			return false, err
		}
		if err != nil {
			if w.EndTime != nil {
				fell := s.fallUnread(ctx, w, message)
				if fell != nil {
					return false, fell
				}
			}
			at.Failed++
			s.log.ErrorContext(ctx, "a message could not be judged anew", "message", messageName(tenant, w.MailboxID, message), "error", err)
		}
	}
	done := len(page) < copiesTogether
	if done && w.EndTime != nil {
		done, err = s.fallDestroyed(ctx, w)
		if err != nil {
			return false, err
		}
	}
	if done {
		at.JudgeTime = moment(s.now())
	}
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error { return q(tx).KeepVouching(ctx, at) })
	return done, err
}

// judgeCopy judges one message by the words that stand now, whatever this one has become meanwhile. What they change nothing about is
// not written down.
func (s *Service) judgeCopy(ctx context.Context, w db.Vouching, id uuid.UUID) error {
	return s.untilTrustRests(ctx, func() error {
		var box db.Mailbox
		var row db.Message
		err := s.db.View(ctx, w.TenantID, func(ctx context.Context, tx pgx.Tx) error {
			var err error
			box, err = q(tx).GetMailbox(ctx, db.GetMailboxParams{TenantID: w.TenantID, ID: w.MailboxID})
			if err == nil {
				row, err = q(tx).GetMessage(ctx, db.GetMessageParams{TenantID: w.TenantID, MailboxID: w.MailboxID, ID: id})
			}
			return err
		})
		if err != nil || row.DestroyedBy != "" {
			return err
		}
		j, ref, err := s.judgeKept(ctx, box, row)
		if err != nil {
			return err
		}
		return s.db.Tx(ctx, w.TenantID, func(ctx context.Context, tx pgx.Tx) error {
			row, err := q(tx).LockMessage(ctx, db.LockMessageParams{TenantID: w.TenantID, ID: id})
			if err != nil || row.DestroyedBy != "" || row.Proven == j.proven && sameWord(wordIn(row.Report), j.vouched) {
				return err
			}
			_, err = s.recordAgain(ctx, tx, box, row, j, ref, messageName(w.TenantID, w.MailboxID, id), vouchingName(w))
			return err
		})
	})
}
