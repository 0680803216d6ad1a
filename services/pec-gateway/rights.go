package pecgateway

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

const (
	mayRead   = pecv1.MailboxRight_MAILBOX_RIGHT_READ
	maySendIt = pecv1.MailboxRight_MAILBOX_RIGHT_SEND
	mayManage = pecv1.MailboxRight_MAILBOX_RIGHT_MANAGE
)

// rights says what each method that names a mailbox needs of whoever calls it. A method that is not here is
// refused to callers with grants: forgetting one closes a door and opens none.
var rights = map[string]pecv1.MailboxRight{
	pecv1.PecService_GetMailbox_FullMethodName:              mayRead,
	pecv1.PecService_SendMessage_FullMethodName:             maySendIt,
	pecv1.PecService_GetMessage_FullMethodName:              mayRead,
	pecv1.PecService_ListMessages_FullMethodName:            mayRead,
	pecv1.PecService_TestMailbox_FullMethodName:             mayManage,
	pecv1.PecService_UpdateMailbox_FullMethodName:           mayManage,
	pecv1.PecService_SuspendMailbox_FullMethodName:          mayManage,
	pecv1.PecService_ResumeMailbox_FullMethodName:           mayManage,
	pecv1.PecService_ChangeMailboxPassword_FullMethodName:   mayManage,
	pecv1.PecService_GetMessageContent_FullMethodName:       mayRead,
	pecv1.PecService_GetMessageEvidence_FullMethodName:      mayRead,
	pecv1.PecService_ListQuarantinedMessages_FullMethodName: mayRead,
	pecv1.PecService_ReadMessageAgain_FullMethodName:        maySendIt,
	pecv1.PecDeliveryService_GetDelivery_FullMethodName:     mayRead,
	pecv1.PecDeliveryService_ListDeliveries_FullMethodName:  mayRead,
	pecv1.PecDeliveryService_CancelMessage_FullMethodName:   maySendIt,
	pecv1.PecDeliveryService_ResolveMessage_FullMethodName:  maySendIt,
	pecv1.PecDeliveryService_ResumeSending_FullMethodName:   maySendIt,
	pecv1.PecDeliveryService_StrikeReceipt_FullMethodName:   maySendIt,
	pecv1.PecDeliveryService_VouchForCopies_FullMethodName:  mayManage,
	pecv1.PecDeliveryService_EndVouching_FullMethodName:     mayManage,
	pecv1.PecDeliveryService_ListVouchings_FullMethodName:   mayRead,
	pecv1.PecDraftService_CreateDraft_FullMethodName:        maySendIt,
	pecv1.PecDraftService_GetDraft_FullMethodName:           mayRead,
	pecv1.PecDraftService_ListDrafts_FullMethodName:         mayRead,
	pecv1.PecDraftService_UpdateDraft_FullMethodName:        maySendIt,
	pecv1.PecDraftService_DeleteDraft_FullMethodName:        maySendIt,
	pecv1.PecDraftService_SendDraft_FullMethodName:          maySendIt,
	pecv1.PecDeskService_ListFolders_FullMethodName:         mayRead,
	pecv1.PecDeskService_CreateFolder_FullMethodName:        maySendIt,
	pecv1.PecDeskService_RenameFolder_FullMethodName:        maySendIt,
	pecv1.PecDeskService_DeleteFolder_FullMethodName:        maySendIt,
	pecv1.PecDeskService_MoveMessages_FullMethodName:        maySendIt,
	pecv1.PecDeskService_GetMailboxPolicy_FullMethodName:    mayRead,
	pecv1.PecDeskService_UpdateMailboxPolicy_FullMethodName: mayManage,
	pecv1.PecDeskService_GetMailboxAccess_FullMethodName:    mayManage,
	pecv1.PecDeskService_SetMailboxAccess_FullMethodName:    mayManage,
	pecv1.PecDeskService_ListLogEntries_FullMethodName:      mayRead,
	pecv1.PecDeskService_ExportLog_FullMethodName:           mayRead,
	pecv1.PecDeskService_ExportMailbox_FullMethodName:       mayRead,
	pecv1.PecDeskService_RestoreMailbox_FullMethodName:      mayManage,
	pecv1.PecDeskService_PreserveMessages_FullMethodName:    maySendIt,
	pecv1.PecDeskService_ListPreservedDays_FullMethodName:   mayRead,
	pecv1.PecDeskService_ListDamagedMessages_FullMethodName: mayRead,
}

// grantee is how grants name the caller; empty when grants do not bind it: operators, services of the platform, and
// keys of the tenant with all scopes.
func grantee(ctx context.Context) string {
	c, ok := auth.From(ctx)
	if !ok || c.Role != auth.RoleTenant || c.Has("*") {
		return ""
	}
	return c.Actor()
}

// granted is a caller of a list as grantee names him: an API key is one of the mailbox's tenant, by its id or its name. Faults: Invalid
// CALLER_INVALID.
func granted(tenant, caller, field string) (string, error) {
	id, isKey := strings.CutPrefix(caller, "key:")
	keys := "tenants/" + tenant + "/apiKeys/"
	if !isKey {
		return caller, nil
	}
	if id = strings.TrimPrefix(id, keys); strings.Contains(id, "/") {
		return "", fault.Invalid("CALLER_INVALID", "%s: %s is no key of %s: write it as key:{id} or key:%s{id}", field, caller, tenant, keys).WithField(field, "CALLER_INVALID", "is no key of the tenant")
	}
	return "key:" + keys + id, nil
}

// byID is how releases before wrote the name of an API key on a list, as one of them may do yet while another runs already: by the key's
// id alone. "" for who is no key.
func byID(tenant, caller string) string {
	if id, ok := strings.CutPrefix(caller, "key:tenants/"+tenant+"/apiKeys/"); ok {
		return "key:" + id
	}
	return ""
}

// permit lets a caller at a mailbox: by its label, and by its grants when it has any. To whom may not even read it the
// mailbox is not there. Faults: NotFound MAILBOX_NOT_FOUND; Denied MAILBOX_RIGHT_MISSING.
func (s *Service) permit(ctx context.Context, tx pgx.Tx, row db.Mailbox) error {
	err := s.entitled(ctx, tx, row)
	s.noteDenial(ctx, row, err)
	return err
}

func (s *Service) entitled(ctx context.Context, tx pgx.Tx, row db.Mailbox) error {
	err := s.mayUse(ctx, row)
	who := grantee(ctx)
	if err != nil || who == "" {
		return err
	}
	grants, err := q(tx).ListGrants(ctx, db.ListGrantsParams{TenantID: row.TenantID, MailboxID: row.ID})
	if err != nil || len(grants) == 0 {
		return err
	}
	rightOf := map[string]pecv1.MailboxRight{}
	for _, g := range grants {
		rightOf[g.Caller] = pecv1.MailboxRight(g.Entitled)
	}
	mine, named := rightOf[who]
	if !named {
		mine = rightOf[byID(row.TenantID, who)]
	}
	if mine < mayRead {
		return noMailbox(mailboxName(row.TenantID, row.ID))
	}
	method, _ := grpc.Method(ctx)
	need, known := rights[method]
	if !known || mine < need {
		return fault.Denied("MAILBOX_RIGHT_MISSING", "%s may only %s in %s: somebody who manages the mailbox can change that", who,
			strings.ToLower(strings.TrimPrefix(mine.String(), "MAILBOX_RIGHT_")), row.Address)
	}
	return nil
}

// reachable gives the mailboxes that a parent names, one or with - all that the caller may read.
func (s *Service) reachable(ctx context.Context, tx pgx.Tx, parent string) ([]uuid.UUID, error) {
	tenant, last, _ := strings.Cut(strings.TrimPrefix(parent, "tenants/"), "/mailboxes/")
	if last == "-" {
		all, labels := visible(ctx)
		who := grantee(ctx)
		return q(tx).ReachableMailboxes(ctx, db.ReachableMailboxesParams{TenantID: tenant, AllLabels: all, Labels: labels, Caller: who, ByID: byID(tenant, who)})
	}
	tenant, id, err := splitMailbox(parent)
	if err != nil {
		return nil, err
	}
	_, err = s.mailbox(ctx, tx, tenant, id, false)
	return []uuid.UUID{id}, err
}

// GetMailboxAccess shows who may do what with a mailbox.
func (s *Service) GetMailboxAccess(ctx context.Context, req *pecv1.GetMailboxAccessRequest) (*pecv1.MailboxPermissions, error) {
	var out *pecv1.MailboxPermissions
	err := s.look(ctx, req.GetName(), func(ctx context.Context, tx pgx.Tx, box db.Mailbox) error {
		rows, err := q(tx).ListGrants(ctx, db.ListGrantsParams{TenantID: box.TenantID, MailboxID: box.ID})
		out = showGrants(req.GetName(), rows)
		return err
	})
	return out, err
}

func showGrants(name string, rows []db.ListGrantsRow) *pecv1.MailboxPermissions {
	out := &pecv1.MailboxPermissions{Name: name}
	for _, r := range rows {
		out.Grants = append(out.Grants, &pecv1.MailboxGrant{Caller: r.Caller, Right: pecv1.MailboxRight(r.Entitled)})
	}
	return out
}

// SetMailboxAccess replaces who may do what with a mailbox. Faults: Invalid CALLER_TWICE, CALLER_INVALID; Precondition ACCESS_LOCKED_OUT.
func (s *Service) SetMailboxAccess(ctx context.Context, req *pecv1.SetMailboxAccessRequest) (*pecv1.MailboxPermissions, error) {
	p := db.InsertGrantsParams{}
	managed := len(req.GetPermissions().GetGrants()) == 0
	name := req.GetPermissions().GetName()
	tenant, _, err := splitMailbox(name)
	if err != nil {
		return nil, err
	}
	out := &pecv1.MailboxPermissions{Name: name}
	for i, g := range req.GetPermissions().GetGrants() {
		field := fmt.Sprintf("permissions.grants[%d].caller", i)
		caller, err := granted(tenant, g.GetCaller(), field)
		if err != nil {
			return nil, err
		}
		if slices.Contains(p.Callers, caller) {
			return nil, fault.Invalid("CALLER_TWICE", "%s: %s is named twice", field, g.GetCaller()).WithField(field, "CALLER_TWICE", "is named twice")
		}
		managed = managed || g.GetRight() == mayManage
		p.Callers, p.Entitled = append(p.Callers, caller), append(p.Entitled, int16(g.GetRight()))
		out.Grants = append(out.Grants, &pecv1.MailboxGrant{Caller: caller, Right: g.GetRight()})
	}
	if !managed {
		return nil, fault.Precondition("ACCESS_LOCKED_OUT", "nobody on the list may manage the mailbox: give one the right MANAGE, or empty the list").
			WithField("permissions.grants", "ACCESS_LOCKED_OUT", "nobody manages")
	}
	err = s.at(ctx, name, func(ctx context.Context, tx pgx.Tx, box db.Mailbox) error {
		p.TenantID, p.MailboxID = box.TenantID, box.ID
		err := q(tx).DropGrants(ctx, db.DropGrantsParams{TenantID: box.TenantID, MailboxID: box.ID})
		if err == nil && len(p.Callers) > 0 {
			err = q(tx).InsertGrants(ctx, p)
		}
		if err != nil {
			return err
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "mailbox.access", Resource: name, Detail: map[string]string{"grants": grantText(out.GetGrants())}})
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func grantText(list []*pecv1.MailboxGrant) string {
	var out []string
	for _, g := range list {
		out = append(out, g.GetCaller()+" "+strings.TrimPrefix(g.GetRight().String(), "MAILBOX_RIGHT_"))
	}
	return strings.Join(out, ", ")
}

// at runs fn in a transaction on a mailbox that the caller may use in this way.
func (s *Service) at(ctx context.Context, name string, fn func(ctx context.Context, tx pgx.Tx, box db.Mailbox) error) error {
	return s.within(ctx, s.db.Tx, name, fn)
}

// look is at for what only reads: all of it is of one moment.
func (s *Service) look(ctx context.Context, name string, fn func(ctx context.Context, tx pgx.Tx, box db.Mailbox) error) error {
	return s.within(ctx, s.db.View, name, fn)
}

func (s *Service) within(ctx context.Context, begin func(context.Context, string, func(context.Context, pgx.Tx) error) error, name string,
	fn func(ctx context.Context, tx pgx.Tx, box db.Mailbox) error,
) error {
	tenant, id, err := splitMailbox(name)
	if err != nil {
		return err
	}
	return begin(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		box, err := s.mailbox(ctx, tx, tenant, id, false)
		if err != nil {
			return err
		}
		return fn(ctx, tx, box)
	})
}
