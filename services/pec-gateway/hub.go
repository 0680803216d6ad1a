package pecgateway

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// GetHub shows all mailboxes of a tenant that the caller may read, those in trouble first.
func (s *Service) GetHub(ctx context.Context, req *pecv1.GetHubRequest) (*pecv1.Hub, error) {
	tenant := strings.TrimPrefix(req.GetParent(), "tenants/")
	out := &pecv1.Hub{}
	err := s.db.View(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		ids, err := s.reachable(ctx, tx, req.GetParent()+"/mailboxes/-")
		if err != nil || len(ids) == 0 {
			return err
		}
		rows, err := q(tx).HubRows(ctx, db.HubRowsParams{TenantID: tenant, Ids: ids})
		for _, r := range rows {
			e := s.hubEntry(r)
			out.Entries = append(out.Entries, e)
			out.Mailboxes++
			if len(e.GetTroubles()) > 0 {
				out.Troubled++
			}
			out.Waiting, out.Undecided, out.Quarantined = out.GetWaiting()+e.GetWaiting(), out.GetUndecided()+e.GetUndecided(), out.GetQuarantined()+e.GetQuarantined()
		}
		slices.SortStableFunc(out.GetEntries(), func(a, b *pecv1.HubEntry) int {
			return cmp.Compare(boolInt(len(a.GetTroubles()) == 0), boolInt(len(b.GetTroubles()) == 0))
		})
		return err
	})
	return out, err
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// since1970 is nothing: the statement gives it for what never was.
func since1970(t time.Time) *timestamppb.Timestamp {
	if t.Unix() <= 0 {
		return nil
	}
	return timestamppb.New(t)
}

func (s *Service) hubEntry(r db.HubRowsRow) *pecv1.HubEntry {
	m := showMailbox(r.Mailbox, nil, db.StandingsRow{HeldCode: r.HeldCode})
	e := &pecv1.HubEntry{
		Mailbox: m.GetName(), Address: m.GetAddress(), State: m.GetState(), LastPollTime: m.GetLastPollTime(), LastReceiveTime: m.GetLastReceiveTime(),
		LastSendTime: since1970(r.LastSendTime), Quota: m.GetQuota(), Sync: m.GetSync(), Waiting: r.Waiting, WaitingSince: since1970(r.WaitingSince),
		Undecided: r.Undecided, Quarantined: r.Quarantined, SendingHeld: r.HeldCode, Damaged: r.Damaged,
	}
	today := dayOf(s.now())
	bad := func(when bool, code string) {
		if when && code != "" && !slices.Contains(e.Troubles, code) {
			e.Troubles = append(e.Troubles, code)
		}
	}
	bad(m.GetState() == pecv1.MailboxState_MAILBOX_STATE_DEGRADED, or(m.GetProblemCode(), "MAILBOX_DEGRADED"))
	bad(true, r.HeldCode)
	bad(m.GetState() == pecv1.MailboxState_MAILBOX_STATE_SUSPENDED, m.GetProblemCode())
	bad(r.Damaged > 0, codeDamaged)
	if r.ExpireOn.Valid {
		e.ExpireDate = r.ExpireOn.Time.Format(time.DateOnly)
		days := int(r.ExpireOn.Time.Sub(today) / (24 * time.Hour))
		bad(days < 0, codeMailboxEnded)
		bad(days >= 0 && days <= 30, codeMailboxEnds)
		if days < 0 {
			e.SendingHeld = or(e.SendingHeld, codeMailboxEnded)
		}
	}
	if r.PasswordDays > 0 && r.PasswordTime != nil {
		end := passwordEnd(r.PasswordTime, r.PasswordDays)
		e.PasswordExpireDate = end.Format(time.DateOnly)
		days := int(end.Sub(today) / (24 * time.Hour))
		bad(days < 0, codePasswordEnded)
		bad(days >= 0 && days <= 14, codePasswordEnds)
	}
	bad(m.GetQuota().GetLevel() >= pecv1.QuotaLevel_QUOTA_LEVEL_WARNING, "MAILBOX_QUOTA")
	bad(r.Undecided > 0, "DELIVERY_DECISION_NEEDED")
	if r.SendingSuspended {
		e.SendingHeld = codeNoLeave // wanted, and no trouble
	}
	return e
}

// notes is what to know before a mailbox of a provider is added.
var notes = map[string]string{
	"aruba":     "The name to log in with is the address. With two-factor login a password for programs is needed, which expires after three months: say so with password_days. IMAP and SMTP may be switched off in the provider's panel.",
	"legalmail": "The name to log in with is the user id, not the address: give username. Six messages a minute.",
	"namirial":  "The servers come from a public program and not from the provider: compare them with its page.",
	"register":  "The server for sending is not known from the provider: give it.",
	"generic":   "Any other provider: give the servers, TLS from the first byte.",
	"sandbox":   "A simulated provider, for development.",
}

// ListProviderPresets lists the providers whose servers are known, with their limits.
func (s *Service) ListProviderPresets(context.Context, *pecv1.ListProviderPresetsRequest) (*pecv1.ListProviderPresetsResponse, error) {
	out := &pecv1.ListProviderPresetsResponse{}
	for _, name := range slices.Sorted(maps.Keys(s.presets)) {
		p, lim := s.presets[name], s.limitsOf(name)
		out.Presets = append(out.Presets, &pecv1.ProviderPreset{
			Provider: name, Servers: &pecv1.MailboxServers{Imap: p.imap, Pop3: p.pop3, Smtp: p.smtp}, Note: notes[name],
			MaxRecipients: int32(lim.Recipients), MaxVolume: lim.Volume, PerMinute: int32(lim.perMinute), //nolint:gosec // small numbers of a file
		})
	}
	return out, nil
}
