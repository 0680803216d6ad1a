package pecgateway

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/rpc"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// labelScope is before the label of a mailbox in the scope that its keys need.
const labelScope = "mailbox."

// key is an address as it is compared.
func key(address string) string { return strings.ToLower(strings.TrimSpace(address)) }

// CreateMailbox makes a mailbox. Faults: Conflict MAILBOX_EXISTS; Precondition MAILBOX_TEST_FAILED;
// Invalid PROVIDER_UNKNOWN, SERVER_REQUIRED, PASSWORD_REQUIRED.
func (s *Service) CreateMailbox(ctx context.Context, req *pecv1.CreateMailboxRequest) (*pecv1.Mailbox, error) {
	tenant := strings.TrimPrefix(req.GetParent(), "tenants/")
	id, err := pg.NewID()
	if err != nil {
		return nil, err
	}
	row, err := s.newRow(tenant, id, req.GetMailbox())
	if err != nil {
		return nil, err
	}
	if req.GetPassword() == "" {
		return nil, fault.Invalid("PASSWORD_REQUIRED", "password: a mailbox needs one").WithField("password", "PASSWORD_REQUIRED", "is empty")
	}
	err = s.mayUse(ctx, row)
	if err != nil {
		return nil, err
	}
	if !req.GetUntested() {
		err = s.passes(ctx, row, req.GetPassword())
		if err != nil {
			return nil, err
		}
	}
	// What identifies the request must not hold the password: its hash would stay in the database.
	bare := proto.CloneOf(req)
	bare.Password = ""
	out := &pecv1.Mailbox{}
	// The password first: a mailbox without one would be degraded at once. Without a mailbox it is forgotten.
	err = s.keys.put(ctx, tenant, id, req.GetPassword())
	if err != nil {
		return nil, err
	}
	made := false
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		return rpc.Once(ctx, tx, "CreateMailbox", req.GetRequestId(), bare, out, func() error {
			made = true
			return s.insertMailbox(ctx, tx, row, out)
		})
	})
	if err != nil || !made {
		if dropErr := s.keys.drop(context.WithoutCancel(ctx), tenant, id); dropErr != nil {
			s.log.WarnContext(ctx, "the password of a mailbox that was not made stays in Vault", "mailbox", mailboxName(tenant, id), "error", dropErr)
		}
	}
	if pg.Constraint(err) == "mailbox_address" {
		return nil, fault.Conflict("MAILBOX_EXISTS", "the tenant has a mailbox %s already", row.Address)
	}
	if err != nil {
		return nil, err
	}
	s.knock()
	return out, nil
}

func (s *Service) insertMailbox(ctx context.Context, tx pgx.Tx, row db.Mailbox, out *pecv1.Mailbox) error {
	err := q(tx).InsertMailbox(ctx, db.InsertMailboxParams{
		TenantID: row.TenantID, ID: row.ID, Address: row.Address, AddressKey: row.AddressKey, Provider: row.Provider, Username: row.Username,
		Imap: row.Imap, Pop3: row.Pop3, Smtp: row.Smtp, Access: row.Access, Label: row.Label, HomeProvider: row.HomeProvider,
		OrdinaryAction: row.OrdinaryAction, OrdinaryFolder: row.OrdinaryFolder, Capacity: row.Capacity, State: row.State, CreateTime: row.CreateTime,
	})
	if err != nil {
		return err
	}
	kept, err := q(tx).GetMailbox(ctx, db.GetMailboxParams{TenantID: row.TenantID, ID: row.ID})
	if err != nil {
		return err
	}
	proto.Merge(out, showMailbox(kept, nil, db.StandingsRow{}))
	return telemetry.Audit(ctx, tx, telemetry.Act{Action: "mailbox.create", Resource: out.GetName(), Detail: map[string]string{"provider": row.Provider}})
}

// newRow checks what a caller says of a mailbox.
func (s *Service) newRow(tenant string, id uuid.UUID, in *pecv1.Mailbox) (db.Mailbox, error) {
	now := pg.Time(s.now())
	if in.GetAddress() == "" {
		return db.Mailbox{}, fault.Invalid("ADDRESS_REQUIRED", "mailbox.address: a mailbox has an address").WithField("mailbox.address", "ADDRESS_REQUIRED", "is empty")
	}
	row := db.Mailbox{
		TenantID: tenant, ID: id, Address: strings.TrimSpace(in.GetAddress()), AddressKey: key(in.GetAddress()), Provider: in.GetProvider(),
		State: int16(pecv1.MailboxState_MAILBOX_STATE_PENDING), CreateTime: now, UpdateTime: now, NextPollTime: now,
	}
	return row, s.setRow(&row, in, func(string) bool { return true })
}

// setRow takes over what may be changed, as far as wanted says, and refuses what cannot work.
func (s *Service) setRow(row *db.Mailbox, in *pecv1.Mailbox, wanted func(field string) bool) error {
	if wanted("username") {
		row.Username = or(in.GetUsername(), row.Address)
	}
	for _, server := range []struct {
		name, given, port string
		kept              *string
	}{
		{"imap", in.GetServers().GetImap(), "993", &row.Imap}, {"pop3", in.GetServers().GetPop3(), "995", &row.Pop3}, {"smtp", in.GetServers().GetSmtp(), "465", &row.Smtp},
	} {
		if !wanted("servers") && !wanted("servers."+server.name) {
			continue
		}
		if server.given != "" && !isHostPort(server.given) {
			field := "mailbox.servers." + server.name
			return fault.Invalid("SERVER_INVALID", "%s: %q is no host:port: write it as %s.example.com:%s", field, server.given, server.name, server.port).
				WithField(field, "SERVER_INVALID", "is no host:port")
		}
		*server.kept = server.given
	}
	if wanted("access") {
		row.Access = int16(max(in.GetAccess(), pecv1.MailboxAccess_MAILBOX_ACCESS_IMAP))
	}
	if wanted("label") {
		row.Label = in.GetLabel()
	}
	if wanted("home_provider") {
		row.HomeProvider = in.GetHomeProvider()
	}
	if wanted("capacity") {
		row.Capacity = in.GetCapacity()
	}
	if wanted("ordinary_rule") {
		rule := in.GetOrdinaryRule()
		row.OrdinaryAction = int16(max(rule.GetAction(), pecv1.OrdinaryAction_ORDINARY_ACTION_ACCEPT))
		row.OrdinaryFolder = strings.TrimSpace(rule.GetFolder())
	}
	if row.OrdinaryAction == int16(pecv1.OrdinaryAction_ORDINARY_ACTION_MOVE) && row.OrdinaryFolder == "" {
		return fault.Invalid("FOLDER_REQUIRED", "mailbox.ordinary_rule.folder: name the folder that mail is moved to").
			WithField("mailbox.ordinary_rule.folder", "FOLDER_REQUIRED", "is empty")
	}
	all, err := s.serversOf(row.Provider, servers{imap: row.Imap, pop3: row.Pop3, smtp: row.Smtp})
	if err != nil {
		return err
	}
	field, server := "mailbox.servers.imap", all.imap
	if isPOP3(*row) {
		field, server = "mailbox.servers.pop3", all.pop3
	}
	if server == "" {
		return fault.Invalid("SERVER_REQUIRED", "%s: the preset %q names no such server: give host:port", field, row.Provider).
			WithField(field, "SERVER_REQUIRED", "is empty")
	}
	return nil
}

// isHostPort says whether a server is written as its name or address and a port.
func isHostPort(server string) bool {
	host, port, err := net.SplitHostPort(server)
	n, numeric := strconv.ParseUint(port, 10, 16)
	return err == nil && host != "" && numeric == nil && n > 0
}

// mayUse keeps a mailbox with a label from keys that lack its scope. To them it is not there.
func (s *Service) mayUse(ctx context.Context, row db.Mailbox) error {
	all, labels := visible(ctx)
	if all || row.Label == "" || slices.Contains(labels, row.Label) {
		return nil
	}
	return noMailbox(mailboxName(row.TenantID, row.ID))
}

// visible says which labels the caller sees.
func visible(ctx context.Context) (all bool, labels []string) {
	c, ok := auth.From(ctx)
	if !ok || c.Role != auth.RoleTenant || c.Has("*") {
		return ok, []string{}
	}
	labels = []string{}
	for _, scope := range c.Scopes {
		if label, is := strings.CutPrefix(scope, labelScope); is {
			labels = append(labels, label)
		}
	}
	return false, labels
}

func noMailbox(name string) error { return fault.NotFound("MAILBOX_NOT_FOUND", "there is no %s", name) }

// splitMailbox takes tenants/{tenant}/mailboxes/{mailbox}[/...] apart.
func splitMailbox(name string) (tenant string, id uuid.UUID, err error) {
	parts := strings.Split(name, "/")
	id, err = uuid.Parse(parts[3])
	if err != nil {
		return "", uuid.Nil, noMailbox(name)
	}
	return parts[1], id, nil
}

// mailbox reads one that the caller may use.
func (s *Service) mailbox(ctx context.Context, tx pgx.Tx, tenant string, id uuid.UUID, lock bool) (db.Mailbox, error) {
	var row db.Mailbox
	var err error
	if lock {
		row, err = q(tx).LockMailbox(ctx, db.LockMailboxParams{TenantID: tenant, ID: id})
	} else {
		row, err = q(tx).GetMailbox(ctx, db.GetMailboxParams{TenantID: tenant, ID: id})
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return row, noMailbox(mailboxName(tenant, id))
	}
	if err != nil {
		return row, err
	}
	return row, s.permit(ctx, tx, row)
}

// GetMailbox answers with one mailbox.
func (s *Service) GetMailbox(ctx context.Context, req *pecv1.GetMailboxRequest) (*pecv1.Mailbox, error) {
	tenant, id, err := splitMailbox(req.GetName())
	if err != nil {
		return nil, err
	}
	var out *pecv1.Mailbox
	err = s.db.View(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		row, err := s.mailbox(ctx, tx, tenant, id, false)
		if err != nil {
			return err
		}
		list, err := withCounts(ctx, tx, tenant, []db.Mailbox{row})
		if err != nil {
			return err
		}
		out = list[0]
		return nil
	})
	return out, err
}

// ListMailboxes is the view over all mailboxes of a tenant, by address.
func (s *Service) ListMailboxes(ctx context.Context, req *pecv1.ListMailboxesRequest) (*pecv1.ListMailboxesResponse, error) {
	tenant := strings.TrimPrefix(req.GetParent(), "tenants/")
	filter := pg.FilterHash("mailboxes", tenant)
	var last string
	found, err := pg.DecodePageToken(req.GetPageToken(), filter, &last)
	if err != nil {
		return nil, err
	}
	var after *string
	if found {
		after = &last
	}
	size := pageSize(req.GetPageSize())
	all, labels := visible(ctx)
	who := grantee(ctx)
	out := &pecv1.ListMailboxesResponse{}
	err = s.db.View(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := q(tx).ListMailboxes(ctx, db.ListMailboxesParams{TenantID: tenant, After: after, AllLabels: all, Labels: labels, Caller: who, ByID: byID(tenant, who), PageSize: size + 1})
		if err != nil {
			return err
		}
		rows, out.NextPageToken, err = pg.Page(rows, size, filter, func(r db.Mailbox) []any { return []any{r.AddressKey} })
		if err != nil {
			return err
		}
		out.Mailboxes, err = withCounts(ctx, tx, tenant, rows)
		return err
	})
	return out, err
}

func pageSize(n int32) int32 {
	if n == 0 {
		return 50
	}
	return n
}

func withCounts(ctx context.Context, tx pgx.Tx, tenant string, rows []db.Mailbox) ([]*pecv1.Mailbox, error) {
	ids := make([]uuid.UUID, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
	}
	counts, err := q(tx).CountMessages(ctx, db.CountMessagesParams{TenantID: tenant, MailboxIds: ids})
	if err != nil {
		return nil, err
	}
	byID := map[uuid.UUID]*pecv1.MailboxCounts{}
	for _, c := range counts {
		byID[c.MailboxID] = &pecv1.MailboxCounts{Messages: c.Messages, Quarantined: c.Quarantined, Unproven: c.Unproven}
	}
	found, err := q(tx).Standings(ctx, db.StandingsParams{TenantID: tenant, Ids: ids})
	if err != nil {
		return nil, err
	}
	standings := map[uuid.UUID]db.StandingsRow{}
	for _, s := range found {
		standings[s.ID] = s
	}
	out := make([]*pecv1.Mailbox, len(rows))
	for i, r := range rows {
		out[i] = showMailbox(r, byID[r.ID], standings[r.ID])
	}
	return out, nil
}

func showMailbox(r db.Mailbox, counts *pecv1.MailboxCounts, standing db.StandingsRow) *pecv1.Mailbox {
	state := pecv1.MailboxState(r.State)
	if r.Paused {
		state = pecv1.MailboxState_MAILBOX_STATE_PAUSED
	}
	if counts == nil {
		counts = &pecv1.MailboxCounts{}
	}
	counts.Gone, counts.GoneTime = r.Gone, stamp(r.GoneTime)
	out := &pecv1.Mailbox{
		Name: mailboxName(r.TenantID, r.ID), Address: r.Address, Provider: r.Provider, State: state, Problem: r.Problem, ProblemCode: r.ProblemCode,
		ProblemTime: stamp(r.ProblemTime), CreateTime: timestamppb.New(r.CreateTime), Etag: etag(r.Version), Username: r.Username,
		Servers: &pecv1.MailboxServers{Imap: r.Imap, Pop3: r.Pop3, Smtp: r.Smtp}, Access: pecv1.MailboxAccess(r.Access), Label: r.Label,
		OrdinaryRule: &pecv1.OrdinaryRule{Action: pecv1.OrdinaryAction(r.OrdinaryAction), Folder: r.OrdinaryFolder}, HomeProvider: r.HomeProvider,
		LastPollTime: stamp(r.LastPollTime), LastReceiveTime: stamp(r.LastReceiveTime),
		Sync: &pecv1.MailboxSync{Done: r.SyncEndTime != nil, Total: r.SyncTotal, Fetched: r.SyncFetched,
			StartTime: stamp(r.SyncStartTime), EndTime: stamp(r.SyncEndTime), WholeTime: stamp(standing.WholeTime)},
		Quota:  &pecv1.MailboxQuota{Used: r.QuotaUsed, Limit: r.QuotaLimit, Level: pecv1.QuotaLevel(r.QuotaLevel), Computed: isPOP3(r) && r.QuotaUsed > 0},
		Counts: counts, Capacity: r.Capacity,
	}
	suspend(out, r, standing)
	return out
}

func stamp(t *time.Time) *timestamppb.Timestamp {
	if t == nil {
		return nil
	}
	return timestamppb.New(*t)
}

// etag names a version of a resource. spec: AIP-154
func etag(version int32) string { return strconv.Quote(strconv.Itoa(int(version))) }
