package pecgateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// partsOfPolicy are what UpdateMailboxPolicy takes: whole parts, and fields of those whose fields say something by themselves.
var partsOfPolicy = []string{
	"rules", "notice", "notice.addresses", "notice.senders", "notice.language", "preservation", "terms", "terms.expire_date", "terms.password_days", "terms.password_set_date",
	"terms.sending_suspended", "room", "room.enabled", "room.at_percent", "room.to_percent", "room.keep_days", "room.preserved_only",
}

// policyOf reads how a mailbox is run; an empty policy when nobody said.
func policyOf(ctx context.Context, tx pgx.Tx, box db.Mailbox) (*pecv1.MailboxPolicy, error) {
	row, err := q(tx).GetPolicy(ctx, db.GetPolicyParams{TenantID: box.TenantID, MailboxID: box.ID})
	if errors.Is(err, pgx.ErrNoRows) {
		return showPolicy(box, db.MailboxPolicy{})
	}
	if err != nil {
		return nil, err
	}
	return showPolicy(box, row)
}

func showPolicy(box db.Mailbox, row db.MailboxPolicy) (*pecv1.MailboxPolicy, error) {
	p := &pecv1.MailboxPolicy{}
	if len(row.Policy) > 0 {
		err := protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(row.Policy, p)
		if err != nil {
			return nil, fmt.Errorf("pec-gateway: the policy of mailbox %s: %w", box.ID, err)
		}
	}
	p.Name, p.Etag = mailboxName(box.TenantID, box.ID)+"/policy", etag(row.Version)
	if p.Preservation != nil {
		p.Preservation.StartTime = stamp(row.Since)
	}
	if p.Terms != nil && row.PasswordTime != nil {
		p.Terms.PasswordSetDate = dayOf(*row.PasswordTime).Format(time.DateOnly)
		if row.PasswordDays > 0 {
			p.Terms.PasswordExpireDate = passwordEnd(row.PasswordTime, row.PasswordDays).Format(time.DateOnly)
		}
	}
	return p, nil
}

func passwordEnd(given *time.Time, days int32) time.Time {
	return dayOf(*given).AddDate(0, 0, int(days))
}

// GetMailboxPolicy shows how a mailbox is run.
func (s *Service) GetMailboxPolicy(ctx context.Context, req *pecv1.GetMailboxPolicyRequest) (*pecv1.MailboxPolicy, error) {
	var out *pecv1.MailboxPolicy
	err := s.look(ctx, strings.TrimSuffix(req.GetName(), "/policy"), func(ctx context.Context, tx pgx.Tx, box db.Mailbox) error {
		var err error
		out, err = policyOf(ctx, tx, box)
		return err
	})
	return out, err
}

// UpdateMailboxPolicy changes the parts that the mask names. Faults: those of the contract.
func (s *Service) UpdateMailboxPolicy(ctx context.Context, req *pecv1.UpdateMailboxPolicyRequest) (*pecv1.MailboxPolicy, error) {
	in, paths := req.GetPolicy(), req.GetUpdateMask().GetPaths()
	if len(paths) == 0 {
		return nil, fault.Invalid("MASK_REQUIRED", "update_mask: name what is to change: %v", partsOfPolicy).WithField("update_mask", "MASK_REQUIRED", "is empty")
	}
	for _, p := range paths {
		if !slices.Contains(partsOfPolicy, p) {
			return nil, fault.Invalid("FIELD_NOT_CHANGEABLE", "update_mask: %q cannot be changed; these can: %v", p, partsOfPolicy).WithField("update_mask", "FIELD_NOT_CHANGEABLE", "names "+p)
		}
	}
	name := strings.TrimSuffix(in.GetName(), "/policy")
	if !mailboxPattern.MatchString(name) || name == in.GetName() {
		return nil, fault.Invalid("NAME_INVALID", "policy.name: write it as tenants/{tenant}/mailboxes/{mailbox}/policy").WithField("policy.name", "NAME_INVALID", "is no name of a policy")
	}
	err := checkSenders(in, paths)
	if err == nil {
		err = s.ordinaryAddresses(ctx, in, paths)
	}
	if err != nil {
		return nil, err
	}
	var out *pecv1.MailboxPolicy
	err = s.at(ctx, name, func(ctx context.Context, tx pgx.Tx, box db.Mailbox) error {
		row, err := q(tx).LockPolicy(ctx, db.LockPolicyParams{TenantID: box.TenantID, MailboxID: box.ID})
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		if in.GetEtag() != "" && in.GetEtag() != etag(row.Version) {
			return fault.Aborted("ETAG_MISMATCH", "the policy was changed in between: read it again").WithField("policy.etag", "ETAG_MISMATCH", "is not the current one")
		}
		now, err := showPolicy(box, row)
		if err != nil {
			return err
		}
		merge(now, in, paths)
		err = s.checkRules(ctx, tx, box, now.GetRules())
		if err == nil {
			err = checkRoom(now.GetRoom())
		}
		if err == nil {
			err = s.keepPolicy(ctx, tx, box, row, now)
		}
		if err != nil {
			return err
		}
		out, err = policyOf(ctx, tx, box)
		if err != nil {
			return err
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "mailbox.policy", Resource: in.GetName(), Detail: map[string]string{"changed": strings.Join(paths, " ")}})
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// merge takes over what the paths name, each one of partsOfPolicy.
func merge(now, in *pecv1.MailboxPolicy, paths []string) {
	for _, p := range paths {
		to, from := now.ProtoReflect(), in.ProtoReflect()
		part, field, nested := strings.Cut(p, ".")
		f := to.Descriptor().Fields().ByName(protoreflect.Name(part))
		if nested {
			to, from = to.Mutable(f).Message(), from.Get(f).Message()
			f = to.Descriptor().Fields().ByName(protoreflect.Name(field))
		}
		if from.Has(f) {
			to.Set(f, from.Get(f))
		} else {
			to.Clear(f)
		}
	}
}

// checkSenders refuses senders whom nobody can be. Faults: Invalid SENDER_INVALID.
func checkSenders(in *pecv1.MailboxPolicy, paths []string) error {
	lists := map[string][]string{}
	if slices.Contains(paths, "notice") || slices.Contains(paths, "notice.senders") {
		lists["policy.notice.senders"] = in.GetNotice().GetSenders()
	}
	if slices.Contains(paths, "rules") {
		for i, r := range in.GetRules() {
			lists[fmt.Sprintf("policy.rules[%d].senders", i)] = r.GetSenders()
		}
	}
	for _, field := range slices.Sorted(maps.Keys(lists)) {
		for i, sender := range lists[field] {
			local, domain, at := strings.Cut(strings.TrimSpace(sender), "@")
			if at && domain != "" && !strings.ContainsAny(local+domain, "@ \t<>,;") {
				continue
			}
			path := fmt.Sprintf("%s[%d]", field, i)
			return fault.Invalid("SENDER_INVALID", "%s: %q is neither an address, such as anna@example.com, nor @ with a domain, such as @example.com", path, sender).
				WithField(path, "SENDER_INVALID", "is neither an address nor @ with a domain")
		}
	}
	return nil
}

// keepPolicy writes a policy with what the database has to ask of it. Preservation of everything begins with the day on
// which it is switched on.
func (s *Service) keepPolicy(ctx context.Context, tx pgx.Tx, box db.Mailbox, before db.MailboxPolicy, p *pecv1.MailboxPolicy) error {
	bare := proto.CloneOf(p)
	bare.Name, bare.Etag = "", ""
	if bare.Terms != nil {
		bare.Terms.PasswordExpireDate, bare.Terms.PasswordSetDate = "", "" // the row has it
	}
	raw, err := protojson.Marshal(bare)
	if err != nil {
		return err
	}
	now := pg.Time(s.now())
	set, err := s.passwordSet(box, before, p.GetTerms().GetPasswordSetDate())
	if err != nil {
		return err
	}
	row := db.PutPolicyParams{
		TenantID: box.TenantID, MailboxID: box.ID, Policy: raw, Daily: p.GetPreservation().GetDaily(), Since: before.Since,
		PasswordDays: p.GetTerms().GetPasswordDays(), PasswordTime: &set, SendingSuspended: p.GetTerms().GetSendingSuspended(),
	}
	switch {
	case p.GetPreservation().GetEarlier():
		row.Since = nil
	case row.Daily && (!before.Daily || before.Since == nil):
		start := startOfDay(now)
		row.Since = &start
	}
	if end := p.GetTerms().GetExpireDate(); end != "" {
		day, err := time.Parse(time.DateOnly, end)
		if err != nil {
			return fault.Invalid("DATE_INVALID", "policy.terms.expire_date: %q is no date such as 2027-01-31", end).WithField("policy.terms.expire_date", "DATE_INVALID", "is no date")
		}
		row.ExpireOn = dateOf(day)
	}
	err = q(tx).PutPolicy(ctx, row)
	if err == nil && before.SendingSuspended && !row.SendingSuspended {
		_, err = s.wakeSending(ctx, tx, box.ID)
	}
	return err
}

// passwordSet is the moment from which the days of a password count: the day that its owner states, or the moment at which it was given.
func (s *Service) passwordSet(box db.Mailbox, before db.MailboxPolicy, stated string) (time.Time, error) {
	switch {
	case stated == "" && box.PasswordTime != nil:
		return *box.PasswordTime, nil
	case stated == "":
		return box.CreateTime, nil
	case before.PasswordTime != nil && dayOf(*before.PasswordTime).Format(time.DateOnly) == stated:
		return *before.PasswordTime, nil
	}
	const field = "policy.terms.password_set_date"
	day, err := time.Parse(time.DateOnly, stated)
	if err != nil {
		return day, fault.Invalid("DATE_INVALID", "%s: %q is no date such as 2026-11-30", field, stated).WithField(field, "DATE_INVALID", "is no date")
	}
	if day.After(dayOf(s.now())) {
		return day, fault.Invalid("DATE_INVALID", "%s: %s is still to come: give the day on which the password was made", field, stated).WithField(field, "DATE_INVALID", "is still to come")
	}
	return time.Date(day.Year(), day.Month(), day.Day(), 0, 0, 0, 0, rome), nil
}

func badRule(i int, field, format string, a ...any) error {
	path, text := fmt.Sprintf("policy.rules[%d].%s", i, field), fmt.Sprintf(format, a...)
	return fault.Invalid("RULE_INVALID", "%s: %s", path, text).WithField(path, "RULE_INVALID", text)
}

// checkRules refuses rules that cannot be carried out.
func (s *Service) checkRules(ctx context.Context, tx pgx.Tx, box db.Mailbox, rules []*pecv1.MailRule) error {
	for i, r := range rules {
		ordinary := r.GetScope() == pecv1.RuleScope_RULE_SCOPE_ORDINARY
		switch r.GetAction() {
		case pecv1.RuleAction_RULE_ACTION_MOVE:
			if r.GetFolder() == "" {
				return badRule(i, "folder", "name the folder that mail is moved to")
			}
			exists, err := folderExists(ctx, tx, box, r.GetFolder())
			if err != nil {
				return err
			}
			if !exists {
				return noFolder(r.GetFolder())
			}
		case pecv1.RuleAction_RULE_ACTION_REJECT:
			if !ordinary {
				return badRule(i, "action", "only mail that is not certified is kept away: use the scope ORDINARY")
			}
		case pecv1.RuleAction_RULE_ACTION_FORWARD:
			if !ordinary {
				return badRule(i, "action", "only mail that is not certified is sent on: outside of its mailbox certified mail is worth nothing; use the scope ORDINARY")
			}
			if r.GetForwardTo() == "" {
				return badRule(i, "forward_to", "name the address that mail is sent on to")
			}
		}
	}
	return nil
}

// ordinaryAddresses refuses addresses to which a notice or mail that is sent on would come back: those of providers of
// certified mail, and those of mailboxes in keeping. Faults: Invalid ADDRESS_CERTIFIED, ADDRESS_IN_KEEPING.
func (s *Service) ordinaryAddresses(ctx context.Context, in *pecv1.MailboxPolicy, paths []string) error {
	at := map[string]string{} // address -> field
	if slices.Contains(paths, "notice") || slices.Contains(paths, "notice.addresses") {
		for i, a := range in.GetNotice().GetAddresses() {
			at[key(a)] = fmt.Sprintf("policy.notice.addresses[%d]", i)
		}
	}
	if slices.Contains(paths, "rules") {
		for i, r := range in.GetRules() {
			if r.GetForwardTo() != "" {
				at[key(r.GetForwardTo())] = fmt.Sprintf("policy.rules[%d].forward_to", i)
			}
		}
	}
	if len(at) == 0 {
		return nil
	}
	trust, err := s.trustNow(ctx)
	if err != nil {
		return err
	}
	var list []string
	for a, field := range at {
		if trust.list.Manager(pec.Domain(a)) != nil {
			return fault.Invalid("ADDRESS_CERTIFIED", "%s: %s is an address of certified mail; name an ordinary one", field, a).WithField(field, "ADDRESS_CERTIFIED", "is certified mail")
		}
		list = append(list, a)
	}
	var kept []string
	err = s.db.SystemView(ctx, func(ctx context.Context, tx pgx.Tx) error {
		kept, err = q(tx).AddressesInKeeping(ctx, list)
		return err
	})
	if err == nil && len(kept) > 0 {
		err = fault.Invalid("ADDRESS_IN_KEEPING", "%s: mail to this address would come back into a mailbox", at[kept[0]]).WithField(at[kept[0]], "ADDRESS_IN_KEEPING", "is a mailbox in keeping")
	}
	return err
}

// rome is where days begin and end.
var rome = func() *time.Location {
	l, err := time.LoadLocation("Europe/Rome")
	if err != nil {
		panic("pec-gateway: no time zone Europe/Rome: " + err.Error())
	}
	return l
}()

// startOfDay is the moment at which the day of t began in Rome.
func startOfDay(t time.Time) time.Time {
	y, m, d := t.In(rome).Date()
	return time.Date(y, m, d, 0, 0, 0, 0, rome)
}

// dayOf is the day of t in Rome as a date: midnight UTC.
func dayOf(t time.Time) time.Time {
	y, m, d := t.In(rome).Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
}

func dateOf(day time.Time) pgtype.Date { return pgtype.Date{Time: day, Valid: true} }
