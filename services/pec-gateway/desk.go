package pecgateway

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// DeskConfig says when what people want of their mailboxes is done.
type DeskConfig struct {
	// Every is how often it is looked what is due: notices, days to hand over, dates that come near.
	Every time.Duration `yaml:"every"`
	// NoticePause is how long after a notice the next one about the same mailbox waits; it names all that came meanwhile.
	NoticePause time.Duration `yaml:"notice_pause"`
	// DayCloses is how long after midnight in Rome the set of a day is handed over to preservation.
	DayCloses time.Duration `yaml:"day_closes"`
	// LogCredential signs the manifests of exported logs: the platform's credential of kind ROLE, as
	// tenants/{tenant}/companies/{company}/credentials/-. Empty: signed logs are not to be had.
	LogCredential string `yaml:"log_credential"`
}

var credentialPattern = regexp.MustCompile(`^tenants/[^/]+/companies/[^/]+/credentials/[^/]+$`)

func defaultDesk() DeskConfig {
	return DeskConfig{Every: 10 * time.Second, NoticePause: 5 * time.Minute, DayCloses: 15 * time.Minute}
}

func (c DeskConfig) check(bad func(when bool, path, format string, a ...any)) {
	bad(c.Every < 10*time.Millisecond, "desk.every", "%s is too short: use 1s to 5m, for example 10s", c.Every)
	bad(c.LogCredential != "" && !credentialPattern.MatchString(c.LogCredential), "desk.log_credential", "%q is no credential: write it as tenants/{tenant}/companies/{company}/credentials/-", c.LogCredential)
	bad(c.NoticePause < 0, "desk.notice_pause", "must not be negative")
	bad(c.DayCloses < 0 || c.DayCloses > 23*time.Hour, "desk.day_closes", "%s is out of range: use 0s to 23h, for example 15m", c.DayCloses)
}

// actor is who does what nobody asked for at that moment.
const actor = "service:pec-gateway"

// openDesk wires what people do with mailboxes.
func (s *Service) openDesk(h *run.Host) {
	pecv1.RegisterPecDeskServiceServer(h.RPC, s)
	bus.On(h.Bus, "unit-kept", s.onUnitTakenInCharge, bus.Concerning(s.preserving))
	bus.On(h.Bus, "unit-sealed", s.onUnitPreserved, bus.Concerning(s.preserving))
	bus.On(h.Bus, "destroyed", s.onUnitsDestroyed)
	bus.On(h.Bus, "condemned", s.onCopiesCondemned)
	run.Work(h, run.WorkOptions{Workers: 1, Timeout: 10 * time.Minute, MaxAttempts: 50}, s.tellCopies)
	h.Go("desk", s.attend)
}

// attend does what is due until ctx ends. Replicas may do so at the same time: rows are locked, and what one has done the
// other does not find.
func (s *Service) attend(ctx context.Context) error {
	tick := time.NewTicker(s.cfg.Desk.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for what, do := range map[string]func(context.Context) error{
			"words of messages not entered": s.enterWords, "notices not made": s.makeNotices, "days not handed over": s.closeDays, "terms not looked at": s.warnOfTerms,
			"receipts not counted": s.countLate,
		} {
			s.quiet(ctx, what, do(ctx))
		}
	}
}

// mostNamed is how many messages one notice names; the others are counted.
const mostNamed = 20

// makeNotices asks for the notices that are due, one for each mailbox.
func (s *Service) makeNotices(ctx context.Context) error {
	var due []db.DueNoticesRow
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		due, err = q(tx).DueNotices(ctx, pg.Time(s.now().Add(-s.cfg.Desk.NoticePause)))
		return err
	})
	if err != nil {
		return err
	}
	for _, d := range due { // what is amiss with one mailbox holds up no other
		one := s.db.Tx(ctx, d.TenantID, func(ctx context.Context, tx pgx.Tx) error { return s.makeNotice(ctx, tx, d.TenantID, d.MailboxID) })
		if one != nil {
			err = errors.Join(err, fmt.Errorf("notice of mailbox %s: %w", d.MailboxID, one))
		}
	}
	return err
}

func (s *Service) makeNotice(ctx context.Context, tx pgx.Tx, tenant string, mailbox uuid.UUID) error {
	_, err := q(tx).LockPolicy(ctx, db.LockPolicyParams{TenantID: tenant, MailboxID: mailbox})
	if err != nil {
		return err
	}
	box, err := q(tx).GetMailbox(ctx, db.GetMailboxParams{TenantID: tenant, ID: mailbox})
	if err != nil {
		return err
	}
	policy, err := policyOf(ctx, tx, box)
	if err != nil {
		return err
	}
	owed, err := q(tx).TakeNotices(ctx, db.TakeNoticesParams{TenantID: tenant, MailboxID: mailbox})
	n := policy.GetNotice()
	if err != nil || len(owed) == 0 || len(n.GetAddresses()) == 0 {
		return err // another was faster, or nobody wants to be told any more
	}
	now := pg.Time(s.now())
	err = q(tx).NoticeMade(ctx, db.NoticeMadeParams{TenantID: tenant, MailboxID: mailbox, At: now})
	if err != nil {
		return err
	}
	ev := &pecv1.IncomingNoticeDue{Mailbox: mailboxName(tenant, mailbox), Addresses: n.GetAddresses(), Language: or(n.GetLanguage(), "it")}
	for i, o := range owed {
		if i == mostNamed {
			ev.More = int64(len(owed) - mostNamed)
			break
		}
		ev.Messages = append(ev.Messages, &pecv1.NoticedMessage{
			Message: messageName(tenant, mailbox, o.MessageID), Sender: o.Sender, Recipient: box.Address, Title: o.Subject,
			ReceiveTime: timestamppb.New(o.ReceiveTime), Certified: o.Certified,
		})
	}
	err = s.bus.Emit(bus.WithCorrelation(ctx, mailbox.String()), tx, ev)
	if err != nil {
		return err
	}
	return telemetry.Audit(telemetry.WithActor(ctx, actor), tx, telemetry.Act{Action: "mailbox.notice", Resource: ev.GetMailbox(),
		Detail: map[string]string{"addresses": fmt.Sprint(len(n.GetAddresses())), "messages": fmt.Sprint(len(owed))}})
}

// Codes of dates that come near or have passed, and of a mailbox that sends nothing.
const (
	codePasswordEnds  = "PASSWORD_EXPIRING"
	codePasswordEnded = "PASSWORD_EXPIRED"
	codeMailboxEnds   = "MAILBOX_EXPIRING"
	codeMailboxEnded  = "MAILBOX_EXPIRED"
	codeNoLeave       = "MAILBOX_SENDING_SUSPENDED"
)

// warnings are how many days before an end its owner is told; after the end once more.
var warnings = []int32{1, 7, 14, 30}

// step is the warning that is due with so many days left: the smallest that covers them; -1 after the end.
func step(days int) (int32, bool) {
	if days < 0 {
		return -1, true
	}
	for _, w := range warnings {
		if days <= int(w) {
			return w, true
		}
	}
	return 0, false
}

// warnOfTerms tells of mailboxes and passwords whose end comes near, each warning once.
func (s *Service) warnOfTerms(ctx context.Context) error {
	today := dayOf(s.now())
	var failed error
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := q(tx).PoliciesWithTerms(ctx, dateOf(today.AddDate(0, 0, int(warnings[len(warnings)-1]))))
		if err != nil {
			return err
		}
		for _, r := range rows {
			one := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { return s.warnOne(pg.WithTenant(ctx, r.TenantID), tx, r, today) })
			if one != nil {
				failed = errors.Join(failed, fmt.Errorf("terms of mailbox %s: %w", r.MailboxID, one))
			}
		}
		return nil
	})
	return errors.Join(failed, err)
}

func (s *Service) warnOne(ctx context.Context, tx pgx.Tx, r db.PoliciesWithTermsRow, today time.Time) error {
	var err error
	told := db.TermsToldParams{TenantID: r.TenantID, MailboxID: r.MailboxID, WarnedMailbox: r.WarnedMailbox, WarnedPassword: r.WarnedPassword}
	if r.ExpireOn.Valid {
		told.WarnedMailbox, err = s.warn(ctx, tx, r, r.ExpireOn.Time, today, r.WarnedMailbox, codeMailboxEnds, codeMailboxEnded,
			"the contract of the mailbox", "renew it with the provider and give the new date; nothing is sent after the end, and providers delete mailboxes some time later. What is there is fetched")
		if err == nil && told.WarnedMailbox != r.WarnedMailbox && *told.WarnedMailbox < 0 {
			err = askWhole(ctx, tx, r.MailboxID, codeMailboxEnded, pg.Time(s.now()))
		}
	}
	if err == nil && r.PasswordDays > 0 && r.PasswordTime != nil {
		told.WarnedPassword, err = s.warn(ctx, tx, r, passwordEnd(r.PasswordTime, r.PasswordDays), today, r.WarnedPassword, codePasswordEnds, codePasswordEnded,
			"the password of the mailbox", "change it with the provider, then give it to the platform (ceralacca pec mailbox password)")
	}
	if err == nil && (told.WarnedMailbox != r.WarnedMailbox || told.WarnedPassword != r.WarnedPassword) {
		err = q(tx).TermsTold(ctx, told)
	}
	return err
}

func (s *Service) warn(ctx context.Context, tx pgx.Tx, r db.PoliciesWithTermsRow, end, today time.Time, warned *int32, near, passed, what, mend string) (*int32, error) {
	days := int(end.Sub(today) / (24 * time.Hour))
	due, ok := step(days)
	if !ok || warned != nil && *warned <= due {
		return warned, nil
	}
	code, text := near, fmt.Sprintf("%s of %s ends on %s, in %d days: %s", what, r.Address, end.Format(time.DateOnly), days, mend)
	if due < 0 {
		code, text = passed, fmt.Sprintf("%s of %s ended on %s: %s", what, r.Address, end.Format(time.DateOnly), mend)
	}
	return &due, s.tellMailbox(ctx, tx, r.TenantID, r.MailboxID, code, text)
}

// tellMailbox says that somebody should look after a mailbox, and names it by the address that people know.
func (s *Service) tellMailbox(ctx context.Context, tx pgx.Tx, tenant string, mailbox uuid.UUID, code, why string) error {
	box, err := q(tx).GetMailbox(ctx, db.GetMailboxParams{TenantID: tenant, ID: mailbox})
	if err != nil {
		return err
	}
	return s.bus.Emit(bus.WithCorrelation(ctx, mailbox.String()), tx, &pecv1.MailboxDegraded{
		Mailbox: mailboxName(tenant, mailbox), MailboxAddress: box.Address, Code: code, Reason: code + ": " + why,
	})
}

// sendingAllowed refuses to send from a mailbox whose contract has ended or whose owner wants nothing to leave. Faults:
// Precondition MAILBOX_EXPIRED, MAILBOX_SENDING_SUSPENDED.
func (s *Service) sendingAllowed(ctx context.Context, tx pgx.Tx, box db.Mailbox) error {
	code, why, err := s.inhibited(ctx, tx, box)
	if err == nil && code != "" {
		err = fault.Precondition(code, "nothing is sent from %s: %s; what comes in is received", box.Address, why)
	}
	return err
}

// inhibited says why nothing is sent from a mailbox; empty when nothing is in the way.
func (s *Service) inhibited(ctx context.Context, tx pgx.Tx, box db.Mailbox) (code, why string, err error) {
	policy, err := policyOf(ctx, tx, box)
	if err != nil {
		return "", "", err
	}
	end := policy.GetTerms().GetExpireDate()
	switch {
	case policy.GetTerms().GetSendingSuspended():
		return codeNoLeave, "its owner suspended sending", nil
	case end != "" && dayOf(s.now()).Format(time.DateOnly) > end:
		return codeMailboxEnded, "its contract ended on " + end, nil
	}
	return "", "", nil
}
