package pecgateway

import (
	"context"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// leftStates are those of sent messages that a provider has, or had: what never left is no traffic. One whose outcome is
// unknown waits for its answer.
var leftStates = []int16{
	int16(pecv1.MessageState_MESSAGE_STATE_SUBMITTED), int16(pecv1.MessageState_MESSAGE_STATE_ACCEPTED), int16(pecv1.MessageState_MESSAGE_STATE_REFUSED),
	int16(pecv1.MessageState_MESSAGE_STATE_DELIVERED), int16(pecv1.MessageState_MESSAGE_STATE_PARTLY_DELIVERED), int16(pecv1.MessageState_MESSAGE_STATE_FAILED),
}

// handPage is how many messages one transaction hands over.
const handPage = 200

// daySet is the set of one day of one mailbox.
type daySet struct {
	s      *Service
	box    db.Mailbox
	day    time.Time // midnight UTC of the day in Rome
	since  *time.Time
	closed bool
}

// closeDays hands over the days that are over. The set of a day is everything up to its end that was not handed over
// before, so nothing falls between two days; days on which nobody looked are closed one after the other.
func (s *Service) closeDays(ctx context.Context) error {
	yesterday := dayOf(s.now().Add(-s.cfg.Desk.DayCloses)).AddDate(0, 0, -1)
	var due []db.DaysToCloseRow
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		due, err = q(tx).DaysToClose(ctx, dateOf(yesterday))
		return err
	})
	if err != nil {
		return err
	}
	for _, d := range due {
		day := yesterday
		switch {
		case d.LastDay.Valid:
			day = d.LastDay.Time.AddDate(0, 0, 1)
		case d.Since != nil:
			day = dayOf(*d.Since)
		}
		for ; !day.After(yesterday) && ctx.Err() == nil; day = day.AddDate(0, 0, 1) {
			set := &daySet{s: s, box: db.Mailbox{TenantID: d.TenantID, ID: d.MailboxID, Address: d.Address}, day: day, since: d.Since}
			one := set.close(pg.WithTenant(ctx, d.TenantID))
			if one != nil { // its later days wait for this one; other mailboxes do not
				err = errors.Join(err, fmt.Errorf("day %s of mailbox %s: %w", day.Format(time.DateOnly), d.MailboxID, one))
				break
			}
		}
	}
	return err
}

func (d *daySet) tx(ctx context.Context, fn func(ctx context.Context, tx pgx.Tx) error) error {
	return d.s.db.Tx(ctx, d.box.TenantID, fn)
}

// close hands over what is left of the set, writes its register and closes it. After a crash it goes on where it was.
func (d *daySet) close(ctx context.Context) error {
	for more := true; more && !d.closed; {
		err := d.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
			var err error
			more, err = d.page(ctx, tx)
			return err
		})
		if err != nil {
			return err
		}
	}
	for !d.closed {
		ref, lines, err := d.register(ctx)
		if err != nil {
			return err
		}
		err = d.tx(ctx, func(ctx context.Context, tx pgx.Tx) error { return d.end(ctx, tx, ref, lines) })
		if err != nil {
			return err
		}
	}
	return nil
}

// page hands over some messages of the set.
func (d *daySet) page(ctx context.Context, tx pgx.Tx) (more bool, err error) {
	err = q(tx).OpenDay(ctx, db.OpenDayParams{TenantID: d.box.TenantID, MailboxID: d.box.ID, Day: dateOf(d.day)})
	if err != nil {
		return false, err
	}
	row, err := q(tx).LockDay(ctx, db.LockDayParams{TenantID: d.box.TenantID, MailboxID: d.box.ID, Day: dateOf(d.day)})
	if err != nil {
		return false, err
	}
	if row.CloseTime != nil {
		d.closed = true // another replica was faster
		return false, nil
	}
	next := d.day.AddDate(0, 0, 1)
	until := time.Date(next.Year(), next.Month(), next.Day(), 0, 0, 0, 0, rome)
	ids, err := q(tx).TakeForDay(ctx, db.TakeForDayParams{TenantID: d.box.TenantID, MailboxID: d.box.ID, Day: dateOf(d.day), Now: pg.Time(d.s.now()),
		Until: until, Since: d.since, LeftStates: leftStates, Most: handPage})
	if err != nil {
		return false, err
	}
	return len(ids) > 0, d.s.tellHandedOver(ctx, tx, d.box, ids, d.day.Format(time.DateOnly))
}

// tellHandedOver emits the events of messages that were just noted as handed over.
func (s *Service) tellHandedOver(ctx context.Context, tx pgx.Tx, box db.Mailbox, ids []uuid.UUID, day string) error {
	rows, err := q(tx).MessagesByID(ctx, db.MessagesByIDParams{TenantID: box.TenantID, Ids: ids})
	if err != nil {
		return err
	}
	var abouts []uuid.UUID
	for _, r := range rows {
		if r.AboutID != nil {
			abouts = append(abouts, *r.AboutID)
		}
	}
	digests := map[uuid.UUID][]byte{}
	if len(abouts) > 0 {
		list, err := q(tx).DigestsOfMessages(ctx, db.DigestsOfMessagesParams{TenantID: box.TenantID, Ids: abouts})
		if err != nil {
			return err
		}
		for _, x := range list {
			digests[x.ID] = x.Sha256
		}
	}
	for _, r := range rows {
		ev := handedOver(box, r, day)
		if r.AboutID != nil {
			ev.About, ev.AboutSha256 = messageName(r.TenantID, r.MailboxID, *r.AboutID), digests[*r.AboutID]
		}
		err = s.bus.Emit(bus.WithCorrelation(ctx, r.ID.String()), tx, ev)
		if err != nil {
			return err
		}
	}
	return nil
}

func handedOver(box db.Mailbox, r db.Message, day string) *pecv1.MessageHandedOver {
	ev := &pecv1.MessageHandedOver{
		Message: messageName(r.TenantID, r.MailboxID, r.ID), Content: rowContent(r), Direction: direction(r), Type: r.Tipo, MessageId: r.MessageID,
		ProviderId: r.Identificativo, MailboxAddress: box.Address, Sender: or(r.CertifiedSender, r.FromAddress), Title: r.Subject,
		Recipients: r.Recipients[:min(len(r.Recipients), 100)], ReceiveTime: timestamppb.New(r.ReceiveTime), CertifiedTime: stamp(r.CertifiedTime), Proven: provenByItself(r), Day: day,
	}
	if m, err := showMessage(r, nil); err == nil {
		ev.Provider = m.GetVerification().GetProvider()
	}
	return ev
}

// provenByItself leaves out what counts by a person's word: what is preserved says what signatures prove.
func provenByItself(r db.Message) bool { return r.Proven && r.Verification != string(pec.StatusEnded) }

func direction(r db.Message) string {
	return strings.TrimPrefix(pecv1.MessageDirection(r.Direction).String(), "MESSAGE_DIRECTION_")
}

// register writes the list of the set into the store: the same set gives the same bytes. Its first line names the register before
// it, which is closed and stays as it is: whoever has one of them can tell whether any before it was changed or left out.
func (d *daySet) register(ctx context.Context) (blob.Ref, int64, error) {
	before, err := d.registerBefore(ctx)
	if err != nil {
		return blob.Ref{}, 0, err
	}
	read, write := io.Pipe()
	lines := int64(0)
	go func() {
		out := csv.NewWriter(write)
		out.UseCRLF = true
		err := out.Write([]string{"number", "message", "direction", "type", "message_id", "provider_id", "sender", "recipients", "subject", "receive_time",
			"certified_time", "proven", "size", "sha256"})
		if err == nil && before != nil {
			err = out.Write(before)
		}
		for after := uuid.Nil; err == nil; {
			var rows []db.Message
			err = d.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
				var err error
				rows, err = q(tx).MessagesOfDay(ctx, db.MessagesOfDayParams{TenantID: d.box.TenantID, MailboxID: d.box.ID, Day: dateOf(d.day), After: after, Most: handPage})
				return err
			})
			for _, r := range rows {
				lines++
				if err == nil {
					err = out.Write(registerLine(lines, r))
				}
				after = r.ID
			}
			if len(rows) < handPage {
				break
			}
		}
		out.Flush()
		write.CloseWithError(errors.Join(err, out.Error())) // nil is io.EOF for the reader
	}()
	ref, err := d.s.blobs.PutReader(ctx, d.box.TenantID, read)
	_ = read.Close() // ends the writer when the store gave up first
	return ref, lines, err
}

// registerBefore is the line about the register of the closed day before this one; nil when there is none.
func (d *daySet) registerBefore(ctx context.Context) (line []string, err error) {
	err = d.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		row, err := q(tx).RegisterBefore(ctx, db.RegisterBeforeParams{TenantID: d.box.TenantID, MailboxID: d.box.ID, Day: dateOf(d.day)})
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		name := mailboxName(d.box.TenantID, d.box.ID) + "/days/" + row.Day.Time.Format(time.DateOnly)
		line = []string{"0", name, "", "register", "", "", "", "", "", "", "", "", "", hex.EncodeToString(row.RegisterSha256)}
		return err
	})
	return line, err
}

func registerLine(n int64, r db.Message) []string {
	return []string{strconv.FormatInt(n, 10), messageName(r.TenantID, r.MailboxID, r.ID), direction(r), cell(r.Tipo), cell(r.MessageID), cell(r.Identificativo),
		cell(or(r.CertifiedSender, r.FromAddress)), cell(strings.Join(r.Recipients, " ")), cell(r.Subject), stamped(&r.ReceiveTime), stamped(r.CertifiedTime),
		strconv.FormatBool(provenByItself(r)), strconv.FormatInt(r.Size, 10), hex.EncodeToString(r.Sha256)}
}

// end closes the set, unless messages came to it since its register was written.
func (d *daySet) end(ctx context.Context, tx pgx.Tx, ref blob.Ref, lines int64) error {
	row, err := q(tx).LockDay(ctx, db.LockDayParams{TenantID: d.box.TenantID, MailboxID: d.box.ID, Day: dateOf(d.day)})
	if err != nil {
		return err
	}
	count, err := q(tx).CountOfDay(ctx, db.CountOfDayParams{TenantID: d.box.TenantID, MailboxID: d.box.ID, Day: dateOf(d.day)})
	if err != nil {
		return err
	}
	if d.closed = row.CloseTime != nil; d.closed || count != lines {
		return nil
	}
	now := pg.Time(d.s.now())
	err = q(tx).CloseDay(ctx, db.CloseDayParams{TenantID: d.box.TenantID, MailboxID: d.box.ID, Day: dateOf(d.day), Now: now, Messages: count,
		RegisterUri: ref.URI(), RegisterSha256: ref.SHA256[:]})
	if err != nil {
		return err
	}
	d.closed = true
	name := mailboxName(d.box.TenantID, d.box.ID)
	err = d.s.bus.Emit(bus.WithCorrelation(ctx, d.box.ID.String()), tx, &pecv1.MailboxDayClosed{
		Mailbox: name, MailboxAddress: d.box.Address, Day: d.day.Format(time.DateOnly), MessageCount: count, CloseTime: timestamppb.New(now),
		Register: &eventv1.Blob{Uri: ref.URI(), Sha256: ref.SHA256[:], Size: ref.Size, MediaType: "text/csv"},
	})
	if err != nil {
		return err
	}
	return telemetry.Audit(telemetry.WithActor(ctx, actor), tx, telemetry.Act{Action: "mailbox.day", Resource: name,
		Detail: map[string]string{"day": d.day.Format(time.DateOnly), "messages": fmt.Sprint(count)}})
}

// PreserveMessages hands chosen messages over, each once. Faults: NotFound MESSAGE_NOT_FOUND; Precondition MESSAGE_NOT_SENT.
func (s *Service) PreserveMessages(ctx context.Context, req *pecv1.PreserveMessagesRequest) (*pecv1.PreserveMessagesResponse, error) {
	out := &pecv1.PreserveMessagesResponse{}
	err := s.at(ctx, req.GetParent(), func(ctx context.Context, tx pgx.Tx, box db.Mailbox) error {
		ids, err := s.messagesIn(ctx, tx, box, req.GetMessages())
		if err != nil {
			return err
		}
		rows, err := q(tx).MessagesByID(ctx, db.MessagesByIDParams{TenantID: box.TenantID, Ids: ids})
		if err != nil {
			return err
		}
		for _, r := range rows {
			if direction(r) == "SENT" && !containsState(r.State) {
				return fault.Precondition("MESSAGE_NOT_SENT", "%s has not left for sure: it can be preserved once its outcome is known", messageName(r.TenantID, r.MailboxID, r.ID))
			}
		}
		fresh, err := q(tx).TakeChosen(ctx, db.TakeChosenParams{TenantID: box.TenantID, MailboxID: box.ID, Ids: ids, Now: pg.Time(s.now())})
		if err != nil || len(fresh) == 0 {
			return err
		}
		out.HandedOver = int32(len(fresh)) //nolint:gosec // at most a thousand
		err = s.tellHandedOver(ctx, tx, box, fresh, "")
		if err != nil {
			return err
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "message.preserve", Resource: req.GetParent(), Detail: map[string]string{"messages": shortList(req.GetMessages())}})
	})
	return out, err
}

func containsState(state int16) bool {
	for _, s := range leftStates {
		if s == state {
			return true
		}
	}
	return false
}

// ListPreservedDays shows the sets of a mailbox, newest first.
func (s *Service) ListPreservedDays(ctx context.Context, req *pecv1.ListPreservedDaysRequest) (*pecv1.ListPreservedDaysResponse, error) {
	hash := pg.FilterHash("days", req.GetParent())
	var last time.Time
	found, err := pg.DecodePageToken(req.GetPageToken(), hash, &last)
	if err != nil {
		return nil, err
	}
	size := pageSize(req.GetPageSize())
	p := db.ListDaysParams{PageSize: size + 1}
	if found {
		p.Before = dateOf(last)
	}
	out := &pecv1.ListPreservedDaysResponse{}
	err = s.look(ctx, req.GetParent(), func(ctx context.Context, tx pgx.Tx, box db.Mailbox) error {
		p.TenantID, p.MailboxID = box.TenantID, box.ID
		rows, err := q(tx).ListDays(ctx, p)
		if err != nil {
			return err
		}
		rows, out.NextPageToken, err = pg.Page(rows, size, hash, func(r db.ListDaysRow) []any { return []any{r.Day.Time} })
		if err != nil {
			return err
		}
		for _, r := range rows {
			out.Days = append(out.Days, &pecv1.PreservedDay{
				Day: r.Day.Time.Format(time.DateOnly), Messages: r.Handed, InCustody: r.Kept, Sealed: r.Sealed, Closed: r.CloseTime != nil, CloseTime: stamp(r.CloseTime),
				RegisterSha256: hex.EncodeToString(r.RegisterSha256), Complete: r.CloseTime != nil && r.Unit != "" && r.Kept == r.Messages && r.Handed == r.Messages,
			})
		}
		return err
	})
	return out, err
}

// preserving gives those of the tenants who have handed something over.
func (s *Service) preserving(ctx context.Context, tenants []string) (named []string, err error) {
	err = s.db.SystemView(ctx, func(ctx context.Context, tx pgx.Tx) error {
		named, err = q(tx).TenantsPreserving(ctx, tenants)
		return err
	})
	return named, err
}

// onUnitTakenInCharge notes that a message, or the register of a day, is in custody. Units of others are none of ours.
func (s *Service) onUnitTakenInCharge(ctx context.Context, tx pgx.Tx, ev *conservationv1.UnitTakenInCharge) error {
	mailbox, last, isDay := strings.Cut(ev.GetSubject(), "/days/")
	if isDay && mailboxPattern.MatchString(mailbox) {
		tenant, id, err := splitMailbox(mailbox)
		if err != nil || tenant != pg.Tenant(ctx) {
			return err
		}
		day, err := time.Parse(time.DateOnly, last)
		if err != nil {
			return fault.Invalid("EVENT_MALFORMED", "%s is no day", ev.GetSubject())
		}
		return q(tx).DayKept(ctx, db.DayKeptParams{TenantID: tenant, MailboxID: id, Day: dateOf(day), Unit: ev.GetUnit()})
	}
	tenant, id, ok := messageOf(ctx, ev.GetSubject())
	if !ok {
		return nil
	}
	return q(tx).MessageKept(ctx, db.MessageKeptParams{TenantID: tenant, MessageID: id, Unit: ev.GetUnit()})
}

// onUnitPreserved notes the package in which a message was sealed.
func (s *Service) onUnitPreserved(ctx context.Context, tx pgx.Tx, ev *conservationv1.UnitPreserved) error {
	tenant, id, ok := messageOf(ctx, ev.GetSubject())
	if !ok {
		return nil
	}
	return q(tx).MessageSealed(ctx, db.MessageSealedParams{TenantID: tenant, MessageID: id, Package: ev.GetPackage()})
}

// messageOf is the message of this tenant that a unit is about.
func messageOf(ctx context.Context, subject string) (tenant string, id uuid.UUID, ok bool) {
	if !strings.Contains(subject, "/mailboxes/") || !strings.Contains(subject, "/messages/") {
		return "", id, false
	}
	tenant, _, id, err := splitMessage(subject)
	return tenant, id, err == nil && tenant == pg.Tenant(ctx)
}

// preservationOf says how far the preservation of a message is; nil when it was not handed over.
func preservationOf(ctx context.Context, tx pgx.Tx, row db.Message) (*pecv1.MessagePreservation, error) {
	p, err := q(tx).PreservationOf(ctx, db.PreservationOfParams{TenantID: row.TenantID, MessageID: row.ID})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // the contract has none then
	}
	if err != nil {
		return nil, err
	}
	out := &pecv1.MessagePreservation{HandOverTime: timestamppb.New(p.HandOverTime), Unit: p.Unit, Package: p.Package}
	if p.Day.Valid {
		out.Day = p.Day.Time.Format(time.DateOnly)
	}
	return out, nil
}
