package pecgateway

import (
	"context"
	"errors"
	"regexp"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// changeable are the fields that UpdateMailbox takes.
var changeable = []string{"username", "servers", "servers.imap", "servers.pop3", "servers.smtp", "access", "label", "home_provider", "ordinary_rule", "capacity"}

var mailboxPattern = regexp.MustCompile(`^tenants/[^/]+/mailboxes/[^/]+$`)

// change locks a mailbox, has fn change it, and whoever presides over it begin anew.
func (s *Service) change(ctx context.Context, name, action string, fn func(ctx context.Context, tx pgx.Tx, row db.Mailbox) error) (*pecv1.Mailbox, error) {
	tenant, id, err := splitMailbox(name)
	if err != nil {
		return nil, err
	}
	var out *pecv1.Mailbox
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		row, err := s.mailbox(ctx, tx, tenant, id, true)
		if err != nil {
			return err
		}
		err = fn(ctx, tx, row)
		if err != nil {
			return err
		}
		row, err = q(tx).GetMailbox(ctx, db.GetMailboxParams{TenantID: tenant, ID: id})
		if err != nil {
			return err
		}
		list, err := withCounts(ctx, tx, tenant, []db.Mailbox{row})
		if err != nil {
			return err
		}
		out = list[0]
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: action, Resource: name})
	})
	if err != nil {
		return nil, err
	}
	s.dismiss(id)
	return out, nil
}

// UpdateMailbox changes what the mask names. Faults: Invalid FIELD_NOT_CHANGEABLE; Aborted ETAG_MISMATCH;
// those of the values.
func (s *Service) UpdateMailbox(ctx context.Context, req *pecv1.UpdateMailboxRequest) (*pecv1.Mailbox, error) {
	paths := req.GetUpdateMask().GetPaths()
	if len(paths) == 0 {
		return nil, fault.Invalid("MASK_REQUIRED", "update_mask: name what is to change").WithField("update_mask", "MASK_REQUIRED", "is empty")
	}
	for _, p := range paths {
		if !slices.Contains(changeable, p) {
			return nil, fault.Invalid("FIELD_NOT_CHANGEABLE", "update_mask: %q cannot be changed; these can: %v", p, changeable).
				WithField("update_mask", "FIELD_NOT_CHANGEABLE", "names "+p)
		}
	}
	if !mailboxPattern.MatchString(req.GetMailbox().GetName()) {
		return nil, fault.Invalid("NAME_INVALID", "mailbox.name: write it as tenants/{tenant}/mailboxes/{mailbox}").WithField("mailbox.name", "NAME_INVALID", "is no name of a mailbox")
	}
	return s.change(ctx, req.GetMailbox().GetName(), "mailbox.update", func(ctx context.Context, tx pgx.Tx, row db.Mailbox) error {
		if e := req.GetMailbox().GetEtag(); e != "" && e != etag(row.Version) {
			return fault.Aborted("ETAG_MISMATCH", "the mailbox was changed in between: read it again").WithField("mailbox.etag", "ETAG_MISMATCH", "is not the current one")
		}
		err := s.setRow(&row, req.GetMailbox(), func(field string) bool { return slices.Contains(paths, field) })
		if err != nil {
			return err
		}
		err = s.mayUse(ctx, row) // nobody locks himself out
		if err != nil {
			return err
		}
		err = q(tx).UpdateMailbox(ctx, db.UpdateMailboxParams{
			TenantID: row.TenantID, ID: row.ID, Username: row.Username, Imap: row.Imap, Pop3: row.Pop3, Smtp: row.Smtp, Access: row.Access,
			Label: row.Label, HomeProvider: row.HomeProvider, OrdinaryAction: row.OrdinaryAction, OrdinaryFolder: row.OrdinaryFolder, Capacity: row.Capacity, Now: pg.Time(s.now()),
		})
		if err == nil {
			_, err = s.wakeSending(ctx, tx, row.ID) // the servers or the name to log in with may be mended
		}
		return err
	})
}

// SuspendMailbox puts a mailbox to rest.
func (s *Service) SuspendMailbox(ctx context.Context, req *pecv1.SuspendMailboxRequest) (*pecv1.Mailbox, error) {
	return s.change(ctx, req.GetName(), "mailbox.suspend", func(ctx context.Context, tx pgx.Tx, row db.Mailbox) error {
		return q(tx).PauseMailbox(ctx, db.PauseMailboxParams{TenantID: row.TenantID, ID: row.ID, Now: pg.Time(s.now())})
	})
}

// ResumeMailbox has a mailbox presided over again, at once.
func (s *Service) ResumeMailbox(ctx context.Context, req *pecv1.ResumeMailboxRequest) (*pecv1.Mailbox, error) {
	return s.change(ctx, req.GetName(), "mailbox.resume", s.resume)
}

// resume lets the mailbox be read and what waits in it leave.
func (s *Service) resume(ctx context.Context, tx pgx.Tx, row db.Mailbox) error {
	err := q(tx).ResumeMailbox(ctx, db.ResumeMailboxParams{TenantID: row.TenantID, ID: row.ID, Now: pg.Time(s.now())})
	if err == nil {
		_, err = s.wakeSending(ctx, tx, row.ID)
	}
	return err
}

// ChangeMailboxPassword puts a new password into Vault once it is known to work. A mailbox that was
// degraded is tried again at once; one at rest stays so.
func (s *Service) ChangeMailboxPassword(ctx context.Context, req *pecv1.ChangeMailboxPasswordRequest) (*pecv1.Mailbox, error) {
	tenant, id, err := splitMailbox(req.GetName())
	if err != nil {
		return nil, err
	}
	var row db.Mailbox
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		row, err = s.mailbox(ctx, tx, tenant, id, false)
		return err
	})
	if err != nil {
		return nil, err
	}
	if !req.GetUntested() {
		err = s.passes(ctx, row, req.GetPassword())
		if err != nil {
			return nil, err
		}
	}
	// The same one once more, for example because its provider refused it for a while, is as old as before.
	former, err := s.keys.get(ctx, tenant, id)
	if err != nil && !errors.Is(err, fault.Precondition(codeNoPassword, "")) {
		return nil, err
	}
	return s.change(ctx, req.GetName(), "mailbox.password", func(ctx context.Context, tx pgx.Tx, row db.Mailbox) error {
		if former != req.GetPassword() {
			err := q(tx).PasswordGiven(ctx, db.PasswordGivenParams{TenantID: row.TenantID, MailboxID: row.ID, At: pg.Time(s.now())})
			if err != nil {
				return err
			}
		}
		if !row.Paused {
			err := s.resume(ctx, tx, row)
			if err != nil {
				return err
			}
		}
		// Last of all: when nothing was written down the next attempt has to find the former one, or the new one would be as old as that.
		return s.keys.put(ctx, tenant, id, req.GetPassword())
	})
}

// splitMessage takes tenants/{tenant}/mailboxes/{mailbox}/messages/{message} apart.
func splitMessage(name string) (tenant string, box, id uuid.UUID, err error) {
	tenant, box, err = splitMailbox(name)
	if err != nil {
		return "", box, id, noMessage(name)
	}
	id, err = uuid.Parse(name[len(mailboxName(tenant, box))+len("/messages/"):])
	if err != nil {
		return "", box, id, noMessage(name)
	}
	return tenant, box, id, nil
}

func noMessage(name string) error { return fault.NotFound("MESSAGE_NOT_FOUND", "there is no %s", name) }
