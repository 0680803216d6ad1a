package pecgateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
)

// everyCall says for each method that names a mailbox a request that is well formed, and the right that it needs; a method
// that names none is listed with none.
func everyCall(box, message, draft string) map[string]struct {
	right pecv1.MailboxRight
	req   proto.Message
} {
	read, send, manage := pecv1.MailboxRight_MAILBOX_RIGHT_READ, pecv1.MailboxRight_MAILBOX_RIGHT_SEND, pecv1.MailboxRight_MAILBOX_RIGHT_MANAGE
	type call = struct {
		right pecv1.MailboxRight
		req   proto.Message
	}
	return map[string]call{
		"PecService/CreateMailbox":              {},
		"PecService/ListMailboxes":              {},
		"PecService/GetMailbox":                 {read, &pecv1.GetMailboxRequest{Name: box}},
		"PecService/SendMessage":                {send, &pecv1.SendMessageRequest{Parent: box, To: []string{recipient}, Subject: "x", RequestId: uuid.NewString()}},
		"PecService/GetMessage":                 {read, &pecv1.GetMessageRequest{Name: message}},
		"PecService/ListMessages":               {read, &pecv1.ListMessagesRequest{Parent: box}},
		"PecService/TestMailbox":                {manage, &pecv1.TestMailboxRequest{Name: box}},
		"PecService/UpdateMailbox":              {manage, &pecv1.UpdateMailboxRequest{Mailbox: &pecv1.Mailbox{Name: box}, UpdateMask: mask("ordinary_rule")}},
		"PecService/SuspendMailbox":             {manage, &pecv1.SuspendMailboxRequest{Name: box}},
		"PecService/ResumeMailbox":              {manage, &pecv1.ResumeMailboxRequest{Name: box}},
		"PecService/ChangeMailboxPassword":      {manage, &pecv1.ChangeMailboxPasswordRequest{Name: box, Password: "x", Untested: true}},
		"PecService/GetMessageContent":          {read, &pecv1.GetMessageContentRequest{Name: message}},
		"PecService/GetMessageEvidence":         {read, &pecv1.GetMessageEvidenceRequest{Name: message}},
		"PecService/ListQuarantinedMessages":    {read, &pecv1.ListQuarantinedMessagesRequest{Parent: box}},
		"PecService/ReadMessageAgain":           {send, &pecv1.ReadMessageAgainRequest{Name: message}},
		"PecDeliveryService/UploadAttachment":   {},
		"PecDeliveryService/GetDelivery":        {read, &pecv1.GetDeliveryRequest{Name: message}},
		"PecDeliveryService/ListDeliveries":     {read, &pecv1.ListDeliveriesRequest{Parent: box}},
		"PecDeliveryService/CancelMessage":      {send, &pecv1.CancelMessageRequest{Name: message}},
		"PecDeliveryService/ResolveMessage":     {send, &pecv1.ResolveMessageRequest{Name: message, Decision: pecv1.DeliveryDecision_DELIVERY_DECISION_WAIT, Reason: "x"}},
		"PecDeliveryService/ResumeSending":      {send, &pecv1.ResumeSendingRequest{Name: box}},
		"PecDeliveryService/StrikeReceipt":      {send, &pecv1.StrikeReceiptRequest{Name: message, Reason: "x"}},
		"PecDeliveryService/VouchForCopies":     {manage, &pecv1.VouchForCopiesRequest{Parent: box, ArriveFrom: stampOf(time.Now().Add(-time.Hour)), ArriveUntil: stampOf(time.Now().Add(-time.Minute)), Reason: "x"}},
		"PecDeliveryService/EndVouching":        {manage, &pecv1.EndVouchingRequest{Name: box + "/vouchings/" + uuid.NewString(), Reason: "x"}},
		"PecDeliveryService/ListVouchings":      {read, &pecv1.ListVouchingsRequest{Parent: box}},
		"PecDraftService/CreateDraft":           {send, &pecv1.CreateDraftRequest{Parent: box, Draft: &pecv1.Draft{}, RequestId: uuid.NewString()}},
		"PecDraftService/GetDraft":              {read, &pecv1.GetDraftRequest{Name: draft}},
		"PecDraftService/ListDrafts":            {read, &pecv1.ListDraftsRequest{Parent: box}},
		"PecDraftService/UpdateDraft":           {send, &pecv1.UpdateDraftRequest{Draft: &pecv1.Draft{Name: draft}, UpdateMask: mask("text")}},
		"PecDraftService/DeleteDraft":           {send, &pecv1.DeleteDraftRequest{Name: draft, Etag: `"0"`}},
		"PecDraftService/SendDraft":             {send, &pecv1.SendDraftRequest{Name: draft, RequestId: uuid.NewString()}},
		"PecDeskService/ListFolders":            {read, &pecv1.ListFoldersRequest{Parent: box}},
		"PecDeskService/CreateFolder":           {send, &pecv1.CreateFolderRequest{Parent: box, Folder: "Nuova " + uuid.NewString()}},
		"PecDeskService/RenameFolder":           {send, &pecv1.RenameFolderRequest{Parent: box, Folder: "nessuna", NewName: "altra"}},
		"PecDeskService/DeleteFolder":           {send, &pecv1.DeleteFolderRequest{Parent: box, Folder: "nessuna"}},
		"PecDeskService/MoveMessages":           {send, &pecv1.MoveMessagesRequest{Parent: box, Messages: []string{message}, Folder: "INBOX"}},
		"PecDeskService/GetMailboxPolicy":       {read, &pecv1.GetMailboxPolicyRequest{Name: box + "/policy"}},
		"PecDeskService/UpdateMailboxPolicy":    {manage, &pecv1.UpdateMailboxPolicyRequest{Policy: &pecv1.MailboxPolicy{Name: box + "/policy"}, UpdateMask: mask("terms")}},
		"PecDeskService/GetMailboxAccess":       {manage, &pecv1.GetMailboxAccessRequest{Name: box}},
		"PecDeskService/SetMailboxAccess":       {manage, nil}, // below: it would change who may do what
		"PecDeskService/GetHub":                 {},
		"PecDeskService/ListProviderPresets":    {},
		"PecDeskService/ListLogEntries":         {read, &pecv1.ListLogEntriesRequest{Parent: box}},
		"PecDeskService/ExportLog":              {read, &pecv1.ExportLogRequest{Parent: box}},
		"PecDeskService/ExportMailbox":          {read, &pecv1.ExportMailboxRequest{Name: box}},
		"PecDeskService/RestoreMailbox":         {manage, &pecv1.RestoreMailboxRequest{Name: box, Archive: &eventv1.Blob{Uri: "blob:tenants/acme/00?size=1", Sha256: make([]byte, 32)}}},
		"PecDeskService/PreserveMessages":       {send, &pecv1.PreserveMessagesRequest{Parent: box, Messages: []string{message}}},
		"PecDeskService/ListPreservedDays":      {read, &pecv1.ListPreservedDaysRequest{Parent: box}},
		"PecDeskService/ListDamagedMessages":    {read, &pecv1.ListDamagedMessagesRequest{Parent: box}},
		"PecTrustService/ListTrustedProviders":  {},
		"PecTrustService/ImportTrustList":       {},
		"PecTrustService/ListSeenCertificates":  {},
		"PecTrustService/DecideSeenCertificate": {},
		"PecTrustService/WithdrawTrust":         {},
		"PecTrustService/ReinstateTrust":        {},
		"PecTrustService/ListTrustWithdrawals":  {},
	}
}

// invoke calls a method by its description and gives the error.
func invoke(ctx context.Context, conn grpc.ClientConnInterface, m protoreflect.MethodDescriptor, req proto.Message) error {
	full := "/" + string(m.Parent().FullName()) + "/" + string(m.Name())
	out := dynamicpb.NewMessage(m.Output())
	if !m.IsStreamingServer() {
		return conn.Invoke(ctx, full, req, out)
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, full)
	if err == nil {
		err = stream.SendMsg(req)
	}
	if err == nil {
		err = stream.CloseSend()
	}
	for err == nil {
		err = stream.RecvMsg(out)
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func said(p *pecv1.MailboxPermissions) []string {
	var out []string
	for _, g := range p.GetGrants() {
		out = append(out, g.GetCaller()+" "+g.GetRight().String())
	}
	return out
}

// TestG9WhoMayDoWhat: every method of the five services that names a mailbox, for a caller of each right and for one
// without. To whom may not read it the mailbox is not there; who may read and not do this is told so; nobody else is kept
// from anything. A method that the table lacks fails the test.
func TestG9WhoMayDoWhat(t *testing.T) {
	h := open(t, "")
	h.believe()
	box := h.add(recipient)
	h.inject(recipient, plain("uno"))
	h.kept(box)
	message := h.list(box)[0].GetName()
	draft := h.draft(box.GetName(), &pecv1.Draft{Subject: "Bozza"}).GetName()
	caller := func(id string, scopes ...string) grpc.ClientConnInterface {
		return h.DialKey("pec-gateway", h.Key(auth.Caller{ID: parent + "/apiKeys/" + id, Role: auth.RoleTenant, Tenant: tenant, Scopes: scopes}))
	}
	conns := map[pecv1.MailboxRight]grpc.ClientConnInterface{}
	grants := &pecv1.MailboxPermissions{Name: box.GetName()}
	for right, id := range map[pecv1.MailboxRight]string{0: "stranger", 1: "reader", 2: "sender", 3: "manager"} {
		conns[right] = caller(id, "pec.read", "pec.write")
		if right > 0 {
			name := id // of a key: its id, or the whole name
			if id == "sender" {
				name = parent + "/apiKeys/" + id
			}
			grants.Grants = append(grants.Grants, &pecv1.MailboxGrant{Caller: "key:" + name, Right: right})
		}
	}
	desk := pecv1.NewPecDeskServiceClient(caller("admin", "*"))
	_, err := desk.SetMailboxAccess(t.Context(), &pecv1.SetMailboxAccessRequest{Permissions: &pecv1.MailboxPermissions{Name: box.GetName(), Grants: grants.GetGrants()[:0:0]}})
	require.NoError(t, err)
	_, err = desk.SetMailboxAccess(t.Context(), &pecv1.SetMailboxAccessRequest{Permissions: &pecv1.MailboxPermissions{Name: box.GetName(),
		Grants: []*pecv1.MailboxGrant{{Caller: "key:reader", Right: pecv1.MailboxRight_MAILBOX_RIGHT_READ}}}})
	requireFault(t, err, "ACCESS_LOCKED_OUT")
	for code, callers := range map[string][]string{"CALLER_TWICE": {"key:manager", "key:" + parent + "/apiKeys/manager"}, "CALLER_INVALID": {"key:manager", "key:tenants/beta/apiKeys/manager"}} {
		wrong := &pecv1.MailboxPermissions{Name: box.GetName()}
		for _, c := range callers {
			wrong.Grants = append(wrong.Grants, &pecv1.MailboxGrant{Caller: c, Right: pecv1.MailboxRight_MAILBOX_RIGHT_MANAGE})
		}
		_, err = desk.SetMailboxAccess(t.Context(), &pecv1.SetMailboxAccessRequest{Permissions: wrong})
		requireFault(t, err, code)
	}
	set, err := desk.SetMailboxAccess(t.Context(), &pecv1.SetMailboxAccessRequest{Permissions: grants})
	require.NoError(t, err)
	shown, err := desk.GetMailboxAccess(t.Context(), &pecv1.GetMailboxAccessRequest{Name: box.GetName()})
	require.NoError(t, err)
	require.ElementsMatch(t, said(set), said(shown), "what is answered is what is kept")
	require.Contains(t, said(shown), "key:"+parent+"/apiKeys/reader MAILBOX_RIGHT_READ", "as audit records name it")

	// A replica of the release before, which runs beside this one while it is brought in, writes keys by their ids. They mean the same.
	h.execute(`UPDATE mailbox_grant SET caller = 'key:reader' WHERE caller = $1`, "key:"+parent+"/apiKeys/reader")
	h.execute(`INSERT INTO mailbox_grant (tenant_id, mailbox_id, caller, entitled) SELECT tenant_id, mailbox_id, 'key:sender', 3 FROM mailbox_grant WHERE caller = 'key:reader'`)

	calls := everyCall(box.GetName(), message, draft)
	change := calls["PecDeskService/SetMailboxAccess"]
	change.req = &pecv1.SetMailboxAccessRequest{Permissions: grants}
	calls["PecDeskService/SetMailboxAccess"] = change
	seen := 0
	for _, name := range []protoreflect.FullName{"ceralacca.pec.v1.PecService", "ceralacca.pec.v1.PecDeliveryService", "ceralacca.pec.v1.PecDeskService", "ceralacca.pec.v1.PecDraftService", "ceralacca.pec.v1.PecTrustService"} {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
		require.NoError(t, err)
		methods := d.(protoreflect.ServiceDescriptor).Methods()
		for i := range methods.Len() {
			m := methods.Get(i)
			short := string(name.Name()) + "/" + string(m.Name())
			c, ok := calls[short]
			require.True(t, ok, "say in the table which right %s needs", short)
			if c.right == 0 {
				continue
			}
			seen++
			for right, conn := range conns {
				err := invoke(t.Context(), conn, m, c.req)
				code := ""
				if err != nil {
					code = fault.Of(err).Code
				}
				switch {
				case right == 0:
					require.Equal(t, "MAILBOX_NOT_FOUND", code, "%s by a stranger: %v", short, err)
				case right < c.right:
					require.Equal(t, "MAILBOX_RIGHT_MISSING", code, "%s with %s: %v", short, right, err)
				default:
					require.NotContains(t, []string{"MAILBOX_NOT_FOUND", "MAILBOX_RIGHT_MISSING"}, code, "%s with %s", short, right)
				}
			}
		}
	}
	require.Greater(t, seen, 25)

	// Lists show what may be read, and nothing of the rest.
	for right, conn := range conns {
		list, err := pecv1.NewPecServiceClient(conn).ListMailboxes(t.Context(), &pecv1.ListMailboxesRequest{Parent: parent})
		require.NoError(t, err)
		require.Len(t, list.GetMailboxes(), min(int(right), 1), right)
		hub, err := pecv1.NewPecDeskServiceClient(conn).GetHub(t.Context(), &pecv1.GetHubRequest{Parent: parent})
		require.NoError(t, err)
		require.EqualValues(t, min(right, 1), hub.GetMailboxes())
		all, err := pecv1.NewPecServiceClient(conn).ListMessages(t.Context(), &pecv1.ListMessagesRequest{Parent: parent + "/mailboxes/-"})
		require.NoError(t, err)
		require.Equal(t, right > 0, len(all.GetMessages()) > 0)
		log, err := pecv1.NewPecDeskServiceClient(conn).ListLogEntries(t.Context(), &pecv1.ListLogEntriesRequest{Parent: parent + "/mailboxes/-"})
		require.NoError(t, err)
		require.Equal(t, right > 0, len(log.GetEntries()) > 0)
	}
	_, err = h.api.GetMailbox(t.Context(), &pecv1.GetMailboxRequest{Name: box.GetName()})
	require.NoError(t, err, "a key with all scopes is not bound by grants")
	require.True(t, strings.HasPrefix(box.GetName(), parent))
}

// TestG9MessageUnderAnotherMailbox: whoever manages mailbox A names a message, or a draft, of mailbox B as if it were A's, in every method that
// names one: it is not there, nothing is shown of it or changed, and who may not read B is in the audit records with the mailbox that was
// guessed at. Who may use both is told the same and stands in no record. TESTPLAN G9.
func TestG9MessageUnderAnotherMailbox(t *testing.T) {
	t.Parallel()
	h := open(t, "")
	h.believe()
	a, b := h.add(sender), h.add(recipient)
	h.inject(recipient, plain("riservata"))
	h.kept(a, b)
	secret := h.list(b)[0]
	message := a.GetName() + "/messages/" + last(secret.GetName())
	draft := a.GetName() + "/drafts/" + last(h.draft(b.GetName(), &pecv1.Draft{Subject: "Bozza riservata"}).GetName())
	for box, who := range map[*pecv1.Mailbox]string{a: "curioso", b: "altro"} {
		_, err := h.desk().SetMailboxAccess(t.Context(), &pecv1.SetMailboxAccessRequest{Permissions: &pecv1.MailboxPermissions{Name: box.GetName(),
			Grants: []*pecv1.MailboxGrant{{Caller: "key:" + who, Right: pecv1.MailboxRight_MAILBOX_RIGHT_MANAGE}}}})
		require.NoError(t, err)
	}
	guesser := h.DialKey("pec-gateway", h.Key(auth.Caller{ID: parent + "/apiKeys/curioso", Role: auth.RoleTenant, Tenant: tenant, Scopes: []string{"pec.read", "pec.write"}}))
	before := h.dumped("message", "draft", "sending", "preserved_message")
	tried := map[string]int{}
	for short, c := range everyCall(a.GetName(), message, draft) {
		if c.req == nil || !strings.Contains(fmt.Sprint(c.req), last(message)) && !strings.Contains(fmt.Sprint(c.req), last(draft)) {
			continue
		}
		service, method, _ := strings.Cut(short, "/")
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName("ceralacca.pec.v1." + service))
		require.NoError(t, err)
		m := d.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(method))
		for _, conn := range []grpc.ClientConnInterface{guesser, h.Tenant("pec-gateway", tenant)} {
			err = invoke(t.Context(), conn, m, c.req)
			require.Error(t, err, short)
			require.Contains(t, []string{"MESSAGE_NOT_FOUND", "DRAFT_NOT_FOUND"}, fault.Of(err).Code, "%s: %v", short, err)
			require.NotContains(t, err.Error(), "riservata", short)
		}
		tried["/ceralacca.pec.v1."+short]++
	}
	require.Len(t, tried, 14, "%v", tried)
	list, err := pecv1.NewPecServiceClient(guesser).ListMessages(t.Context(), &pecv1.ListMessagesRequest{Parent: a.GetName(), About: message})
	require.NoError(t, err)
	require.Empty(t, list.GetMessages())
	require.Equal(t, before, h.dumped("message", "draft", "sending", "preserved_message"), "nothing was changed")
	actor := "key:" + parent + "/apiKeys/curioso"
	for method := range tried {
		h.eventually(method+" is recorded", func() bool {
			return h.query(`SELECT coalesce(sum((detail->>'times')::int), 0) FROM audit_entry WHERE action = 'mailbox.denied' AND outcome = 'denied' AND actor = $1
				AND resource = $2 AND detail->>'method' = $3 AND detail->>'code' = 'MAILBOX_NOT_FOUND'`, actor, b.GetName(), method) == 1
		})
	}
	require.Zero(t, h.query(`SELECT count(*) FROM audit_entry WHERE action = 'mailbox.denied' AND actor <> $1`, actor))
	h.invariants(a, b)
}

// last is the last part of a name.
func last(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }

// dumped is every row of some tables.
func (h *house) dumped(tables ...string) []string {
	var out []string
	for line := range strings.Lines(h.dump()) {
		if table, _, _ := strings.Cut(line, " "); slices.Contains(tables, table) {
			out = append(out, line)
		}
	}
	slices.Sort(out)
	return out
}
