package pecgateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/rpc"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/pec-gateway/internal/db"
	"ceralacca.dev/services/pec-gateway/internal/submit"
)

// Codes of refused requests.
const (
	codePreflight = "MESSAGE_NOT_ACCEPTABLE" // an access point would refuse it: the fields say why
	codeNoSending = "MAILBOX_CANNOT_SEND"
	codeForeign   = "ATTACHMENT_FOREIGN"
	codeTwoKinds  = "ATTACHMENT_CONTENT"
)

// sendJobs registers the work of sending. The time of one job bounds perTurn messages whose servers use
// up every patience.
func (s *Service) sendJobs(h *run.Host) {
	bus.On(h.Bus, "requested", s.onMessageRequested)
	run.Work(h, run.WorkOptions{Workers: s.cfg.Sending.Workers, Timeout: perTurn * s.cfg.Sending.Lease, MaxAttempts: 100}, s.submitNext)
	run.Work(h, run.WorkOptions{Workers: 2, Timeout: 5 * time.Minute}, s.admitRequest)
	run.Work(h, run.WorkOptions{Workers: 2}, s.watchUnknown)
	run.Work(h, run.WorkOptions{Workers: 2}, s.followState)
	run.Work(h, run.WorkOptions{Workers: 1, Timeout: 5 * time.Minute}, s.lookAtTime)
	run.Work(h, run.WorkOptions{Workers: 1, Timeout: rejudgeFor + time.Minute, MaxAttempts: 100}, s.rejudge)
	run.Work(h, run.WorkOptions{Workers: 1, Timeout: rejudgeFor + time.Minute, MaxAttempts: 100}, s.judgeCopies)
	h.Go("looks", s.promiseLooks)
}

// SendMessage writes the message down, with its Message-ID and its bytes, and promises to hand it over.
// Nothing has left when it answers. Faults: Invalid MESSAGE_NOT_ACCEPTABLE with one field for each
// reason, ATTACHMENT_CONTENT; Denied ATTACHMENT_FOREIGN; NotFound BLOB_NOT_FOUND, MAILBOX_NOT_FOUND;
// Precondition MAILBOX_CANNOT_SEND.
func (s *Service) SendMessage(ctx context.Context, req *pecv1.SendMessageRequest) (*pecv1.Message, error) {
	return s.send(ctx, req, false)
}

// letter is one message on its way into the queue.
type letter struct {
	draft pec.Draft
	ref   blob.Ref
	id    uuid.UUID
}

// send does the work; internal is for other services of the platform, whom labels do not keep out.
func (s *Service) send(ctx context.Context, req *pecv1.SendMessageRequest, internal bool) (*pecv1.Message, error) {
	box, err := s.sender(ctx, req.GetParent(), internal)
	if err != nil {
		return nil, err
	}
	// One request is one message, however often it is asked for: its identifier follows from it.
	letters, err := s.write(ctx, box, req, strings.ToLower(req.GetRequestId()))
	if err != nil {
		return nil, err
	}
	out := &pecv1.Message{}
	err = s.db.Tx(ctx, box.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		return rpc.Once(ctx, tx, "SendMessage", req.GetRequestId(), req, out, func() error {
			return s.enqueue(ctx, tx, box, letters, req.GetRequestId(), out)
		})
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// sender is the mailbox through which something is to be sent, when it may.
func (s *Service) sender(ctx context.Context, parent string, internal bool) (db.Mailbox, error) {
	var box db.Mailbox
	tenant, mailbox, err := splitMailbox(parent)
	if err != nil {
		return box, err
	}
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		box, err = q(tx).GetMailbox(ctx, db.GetMailboxParams{TenantID: tenant, ID: mailbox})
		if errors.Is(err, pgx.ErrNoRows) {
			return noMailbox(parent)
		}
		if err == nil && !internal {
			err = s.permit(ctx, tx, box)
		}
		if err == nil {
			err = s.sendingAllowed(ctx, tx, box)
		}
		return err
	})
	if err == nil {
		err = s.maySend(box)
	}
	return box, err
}

// maySend says why a mailbox takes no messages to be sent.
func (s *Service) maySend(box db.Mailbox) error {
	if box.Paused {
		return fault.Precondition(codeNoSending, "%s was put to rest: resume the mailbox first", box.Address)
	}
	if _, err := s.smtpOf(box); err != nil {
		return err
	}
	return nil
}

// smtpOf is the server that the messages of a mailbox are handed to.
func (s *Service) smtpOf(box db.Mailbox) (string, error) {
	all, err := s.serversOf(box.Provider, servers{smtp: box.Smtp})
	if err != nil {
		return "", err
	}
	if all.smtp == "" {
		return "", fault.Precondition(codeNoSending, "no server for sending is known for %s: name it in mailbox.servers.smtp, host:port", box.Address)
	}
	return all.smtp, nil
}

// write composes what was asked for, as one message or, with consent, as several, checks each as the
// access point will, and keeps the bytes. The identifier of the one message follows from the mailbox and from seed.
func (s *Service) write(ctx context.Context, box db.Mailbox, req *pecv1.SendMessageRequest, seed string) ([]letter, error) {
	d, err := s.draft(ctx, box, req, seed)
	if err != nil {
		return nil, err
	}
	lim := s.limitsOf(box.Provider)
	one, size, err := s.compose(ctx, box, d, lim, !req.GetAllowSplit())
	if err != nil {
		return nil, err
	}
	drafts := []pec.Draft{*d}
	if req.GetAllowSplit() {
		drafts, err = d.Split(size, lim.SubmissionLimits)
		if err != nil {
			return nil, refusal(err)
		}
	}
	if len(drafts) == 1 && one.ref != (blob.Ref{}) {
		return []letter{one}, nil
	}
	letters := make([]letter, len(drafts))
	for i := range drafts {
		if len(drafts) > 1 {
			drafts[i].MessageID, err = pec.NewMessageID(nil, box.Address)
			if err != nil {
				return nil, err
			}
		}
		letters[i], _, err = s.compose(ctx, box, &drafts[i], lim, true)
		if err != nil {
			return nil, err
		}
	}
	return letters, nil
}

// draft turns the request into a draft.
func (s *Service) draft(ctx context.Context, box db.Mailbox, req *pecv1.SendMessageRequest, seed string) (*pec.Draft, error) {
	d := &pec.Draft{
		From: pec.Address{Name: req.GetFromName(), Addr: box.Address}, To: addresses(req.GetTo()), Cc: addresses(req.GetCc()), Subject: req.GetSubject(),
		Date: s.now(), InReplyTo: pec.TrimID(req.GetInReplyTo()), Text: req.GetText(), HTML: req.GetHtml(), Ricevuta: ricevute[req.GetReceiptType()],
	}
	sum := sha256.Sum256([]byte(box.ID.String() + " " + seed))
	var err error
	d.MessageID, err = pec.NewMessageID(bytes.NewReader(sum[:]), box.Address)
	if err != nil {
		return nil, err
	}
	for i, a := range req.GetAttachments() {
		f, err := s.attachment(ctx, box.TenantID, fmt.Sprintf("attachments[%d]", i), a)
		if err != nil {
			return nil, err
		}
		d.Attachments = append(d.Attachments, f)
	}
	return d, nil
}

var ricevute = map[pecv1.ReceiptType]pec.TipoRicevuta{
	pecv1.ReceiptType_RECEIPT_TYPE_COMPLETE: pec.Completa, pecv1.ReceiptType_RECEIPT_TYPE_BRIEF: pec.Breve,
	pecv1.ReceiptType_RECEIPT_TYPE_SYNTHETIC: pec.Sintetica,
}

func addresses(list []string) []pec.Address {
	var out []pec.Address
	for _, a := range list {
		out = append(out, pec.Address{Addr: a})
	}
	return out
}

// attachment is a file by its bytes or by a reference to bytes of the same tenant.
func (s *Service) attachment(ctx context.Context, tenant, field string, a *pecv1.Attachment) (pec.File, error) {
	if uri := a.GetContent().GetUri(); (uri == "") == (len(a.GetData()) == 0) {
		return pec.File{}, fault.Invalid(codeTwoKinds, "%s: give either data or content", field).WithField(field, codeTwoKinds, "give either data or content")
	}
	if a.GetContent() == nil || a.GetContent().GetUri() == "" {
		return pec.BytesFile(a.GetFileName(), a.GetMediaType(), a.GetData()), nil
	}
	ref, err := blob.ParseURI(a.GetContent().GetUri())
	if err != nil {
		return pec.File{}, err
	}
	if ref.Tenant != tenant {
		return pec.File{}, fault.Denied(codeForeign, "%s: the content belongs to another tenant", field)
	}
	media := or(a.GetMediaType(), a.GetContent().GetMediaType())
	return pec.File{Name: a.GetFileName(), MediaType: media, Open: func() (io.ReadCloser, error) { return s.blobs.Open(ctx, ref) }}, nil
}

// compose writes a draft into the store of bytes; strict holds it to the limits too. Without strict
// nothing is kept of a draft that passes them.
func (s *Service) compose(ctx context.Context, box db.Mailbox, d *pec.Draft, lim limits, strict bool) (letter, int64, error) {
	l := letter{draft: *d}
	f, err := os.CreateTemp("", "pec-draft-")
	if err != nil {
		return l, 0, fault.Unavailable("DISK_UNAVAILABLE", "the message cannot be written").With(err)
	}
	defer func() {
		_ = f.Close() // what counts is in the store
		_ = os.Remove(f.Name())
	}()
	size, err := pec.Compose(f, d)
	if err != nil {
		return l, 0, refusal(err)
	}
	m, err := pec.Parse(f, size, pec.Limits{})
	if err != nil {
		return l, 0, fmt.Errorf("read what was composed: %w", err)
	}
	vs, err := pec.Preflight(m, pec.Envelope{MailFrom: box.Address, Recipients: d.Recipients()}, box.Address, lim.SubmissionLimits)
	if err != nil {
		return l, 0, err
	}
	if len(vs) > 0 && (strict || !splits(vs)) {
		return l, 0, refusal(vs)
	}
	if len(vs) > 0 {
		return l, size, nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return l, 0, err
	}
	if _, err := submit.CheckContent(f); err != nil {
		return l, 0, fmt.Errorf("what was composed cannot travel: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return l, 0, err
	}
	l.ref, err = s.blobs.PutReader(ctx, box.TenantID, f)
	return l, size, err
}

// splits says whether several smaller messages would mend everything.
func splits(vs pec.Violations) bool {
	for _, v := range vs {
		if v.Code != "TOO_MANY_RECIPIENTS" && v.Code != "TOO_LARGE" {
			return false
		}
	}
	return true
}

// refusal tells the caller why no access point would take the message, and how to mend it.
func refusal(err error) error {
	var vs pec.Violations
	if !errors.As(err, &vs) {
		return err
	}
	f := fault.Invalid(codePreflight, "%v", vs)
	for _, v := range vs {
		text := v.Message
		if h := v.Hint(); h != "" {
			text += ": " + h
		}
		f = f.WithField(v.Field, v.Code, text)
	}
	return f
}

// enqueue writes the letters down and promises to hand them over, in the caller's transaction.
func (s *Service) enqueue(ctx context.Context, tx pgx.Tx, box db.Mailbox, letters []letter, requestID string, out *pecv1.Message) error {
	now := pg.Time(s.now())
	split := []uuid.UUID{}
	for i := range letters {
		id, err := pg.NewID()
		if err != nil {
			return err
		}
		letters[i].id = id
		if len(letters) > 1 {
			split = append(split, id)
		}
	}
	err := q(tx).OpenQueue(ctx, db.OpenQueueParams{TenantID: box.TenantID, MailboxID: box.ID})
	if err != nil {
		return err
	}
	for _, l := range letters {
		err = q(tx).InsertSent(ctx, db.InsertSentParams{
			TenantID: box.TenantID, ID: l.id, MailboxID: box.ID, State: int16(pecv1.MessageState_MESSAGE_STATE_PENDING), MessageID: l.draft.MessageID,
			FromAddress: box.Address, Recipients: l.draft.Recipients(), Subject: l.draft.Subject, ContentUri: l.ref.URI(), Sha256: l.ref.SHA256[:],
			Size: l.ref.Size, Now: now,
		})
		if err != nil {
			return err
		}
		p := db.InsertRecipientsParams{TenantID: box.TenantID, MessageID: l.id, Addresses: l.draft.Recipients()}
		for i := range p.Addresses {
			p.Fields = append(p.Fields, fieldOf(&l.draft, p.Addresses[i]))
		}
		err = q(tx).InsertRecipients(ctx, p)
		if err != nil {
			return err
		}
		err = s.sentSearchable(ctx, tx, box, &l)
		if err != nil {
			return err
		}
		err = q(tx).InsertSending(ctx, db.InsertSendingParams{TenantID: box.TenantID, MessageID: l.id, MailboxID: box.ID, Split: split, RequestID: requestID, Now: now})
		if err != nil {
			return err
		}
		if _, err = s.know(ctx, tx, l.id, pec.Fact{Kind: pec.FactQueued, At: now}, nil); err != nil {
			return err
		}
		err = s.bus.Emit(bus.WithCorrelation(ctx, l.id.String()), tx, &pecv1.MessageQueued{
			Message: messageName(box.TenantID, box.ID, l.id), RequestId: requestID, MessageId: l.draft.MessageID, Content: contentOf(l.ref),
		})
		if err != nil {
			return err
		}
	}
	proto.Merge(out, showLetter(box, letters[0], split))
	err = telemetry.Audit(ctx, tx, telemetry.Act{Action: "message.send", Resource: out.GetName(), Detail: map[string]string{
		"message_id": letters[0].draft.MessageID, "recipients": fmt.Sprint(len(out.GetTo())), "messages": fmt.Sprint(len(letters)),
	}})
	if err != nil {
		return err
	}
	return s.jobs.InsertTx(ctx, tx, submitArgs{Mailbox: box.ID}, nil)
}

func fieldOf(d *pec.Draft, address string) string {
	for _, a := range d.To {
		if pec.SameAddress(a.Addr, address) {
			return "to"
		}
	}
	return "cc"
}

func contentOf(ref blob.Ref) *eventv1.Blob {
	return &eventv1.Blob{Uri: ref.URI(), Sha256: ref.SHA256[:], Size: ref.Size, MediaType: "message/rfc822"}
}

// showLetter is a message that has just been written down.
func showLetter(box db.Mailbox, l letter, split []uuid.UUID) *pecv1.Message {
	m := &pecv1.Message{
		Name: messageName(box.TenantID, box.ID, l.id), State: pecv1.MessageState_MESSAGE_STATE_PENDING, MessageId: l.draft.MessageID,
		From: box.Address, To: l.draft.Recipients(), Subject: l.draft.Subject, Content: contentOf(l.ref),
		Direction: pecv1.MessageDirection_MESSAGE_DIRECTION_SENT, CreateTime: timestamppb.New(l.draft.Date),
	}
	for _, a := range m.GetTo() {
		m.Recipients = append(m.Recipients, &pecv1.RecipientOutcome{Address: a, State: string(pec.RecipientWaiting)})
	}
	for _, id := range split {
		m.Split = append(m.Split, messageName(box.TenantID, box.ID, id))
	}
	return m
}

// admitArgs is a message that another service wants to be sent.
type admitArgs struct {
	Mailbox   string `json:"mailbox"`
	RequestID string `json:"request_id"`
	Request   string `json:"request"` // blob URI
}

// Kind names the job in the database.
func (admitArgs) Kind() string { return "pec_admit" }

// onMessageRequested promises to look at a request: composing reads and writes files.
func (s *Service) onMessageRequested(ctx context.Context, tx pgx.Tx, ev *pecv1.MessageRequested) error {
	if !strings.HasPrefix(ev.GetMailbox(), "tenants/"+pg.Tenant(ctx)+"/") {
		return fault.Denied("TENANT_MISMATCH", "the mailbox %s is not of the tenant of the event", ev.GetMailbox())
	}
	return s.jobs.InsertTx(ctx, tx, admitArgs{Mailbox: ev.GetMailbox(), RequestID: ev.GetRequestId(), Request: ev.GetRequest().GetUri()}, nil)
}

// admitRequest sends a requested message, or tells who asked that it cannot be sent as it is.
func (s *Service) admitRequest(ctx context.Context, job *river.Job[admitArgs]) error {
	err := s.admit(ctx, job.Args)
	if err == nil || !fault.Permanent(err) {
		return err
	}
	f := fault.Of(err)
	return s.db.Tx(ctx, pg.Tenant(ctx), func(ctx context.Context, tx pgx.Tx) error {
		return s.bus.Emit(ctx, tx, &pecv1.MessageRequestRefused{Mailbox: job.Args.Mailbox, RequestId: job.Args.RequestID, Code: f.Code, Reason: f.Message})
	})
}

func (s *Service) admit(ctx context.Context, a admitArgs) error {
	ref, err := blob.ParseURI(a.Request)
	if err != nil {
		return err
	}
	if ref.Tenant != pg.Tenant(ctx) {
		return fault.Denied(codeForeign, "the request belongs to another tenant")
	}
	raw, err := s.blobs.Get(ctx, ref)
	if err != nil {
		return err
	}
	req := &pecv1.SendMessageRequest{}
	err = proto.UnmarshalOptions{}.Unmarshal(raw, req)
	if err != nil || req.GetParent() != a.Mailbox || req.GetRequestId() != a.RequestID || strings.Count(req.GetParent(), "/") != 3 {
		return fault.Invalid("REQUEST_UNREADABLE", "the request does not say what its event says: parent %q, request_id %q", req.GetParent(), req.GetRequestId())
	}
	_, err = s.send(ctx, req, true)
	return err
}

// UploadAttachment keeps a file in pieces. Faults: Invalid PARENT_REQUIRED.
func (s *Service) UploadAttachment(stream pecv1.PecDeliveryService_UploadAttachmentServer) error {
	req, err := stream.Recv()
	if err != nil {
		return err
	}
	tenant := strings.TrimPrefix(req.GetParent(), "tenants/")
	if tenant == "" {
		return fault.Invalid("PARENT_REQUIRED", "parent: name the tenant in the first request").WithField("parent", "PARENT_REQUIRED", "is empty")
	}
	ref, err := s.blobs.PutReader(stream.Context(), tenant, &uploadReader{stream: stream, rest: bytes.NewReader(req.GetData())})
	if err != nil {
		return err
	}
	return stream.SendAndClose(&pecv1.UploadAttachmentResponse{Content: &eventv1.Blob{Uri: ref.URI(), Sha256: ref.SHA256[:], Size: ref.Size}})
}

// uploadReader reads the pieces as one stream.
type uploadReader struct {
	stream pecv1.PecDeliveryService_UploadAttachmentServer
	rest   *bytes.Reader
}

func (r *uploadReader) Read(p []byte) (int, error) {
	for r.rest.Len() == 0 {
		req, err := r.stream.Recv()
		if err != nil {
			return 0, err
		}
		r.rest.Reset(req.GetData())
	}
	return r.rest.Read(p)
}
