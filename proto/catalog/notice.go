package catalog

import (
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
)

// Notice is what a customer is told of an event: by webhook and by e-mail, and of invoices in the tenant's log, the
// same in all three. Types and fields of Data are public and only ever added to.
type Notice struct {
	// Type is the public name of the fact, for example invoice.delivered.
	Type string
	// Invoice is the resource name of what it is about: an invoice, issued or inbound, for the types pec.*
	// a message or a mailbox of certified mail, for credential.* a credential, for signature_request.* a signature request, for
	// preservation.log_stated the log as the tenant sees it (tenants/{tenant}/log).
	Invoice string
	// Data is what the type adds: JSON values by field name. Never document content.
	Data map[string]any
}

// noticeTypes lists the public types in the order of an invoice's life.
var noticeTypes = []string{
	"invoice.accepted", "invoice.imported", "invoice.signed", "invoice.signing_failed", "invoice.transmitted", "invoice.transmission_failed",
	"invoice.delivered", "invoice.available", "invoice.delivery_pending", "invoice.rejected",
	"invoice.pa_accepted", "invoice.pa_refused", "invoice.pa_term_expired", "invoice.attested",
	"invoice.receipt_overdue", "invoice.resend_due", "invoice.resend_expired", "invoice.pa_silent",
	"preservation.taken_in_charge", "preservation.sealed", "preservation.log_stated",
	"inbound.received", "inbound.outcome_taken", "inbound.outcome_refused", "inbound.term_expired",
	"inbound.taken_in_charge", "inbound.preserved", "inbound.answer_due", "inbound.answer_overdue",
	"pec.message_received", "pec.receipt_verified", "pec.delivery_state_changed", "pec.mailbox_degraded",
	"pec.decision_needed", "pec.delivery_stalled", "pec.delivered_content_differs", "pec.delivery_doubted", "pec.claim_not_proven",
	"credential.push_requested", "credential.used", "credential.device_changed", "credential.expiring", "credential.state_changed",
	"signature_request.created", "signature_request.viewed", "signature_request.approved", "signature_request.signed", "signature_request.refused",
	"signature_request.withdrawn", "signature_request.expired", "signature_request.delegated", "signature_request.reassigned",
	"signature_request.reminded", "signature_request.sealed",
}

// NoticeTypes returns every type that NoticeOf can give.
func NoticeTypes() []string { return append([]string(nil), noticeTypes...) }

// IsPublicBody reports whether an invoice of this format (FPA12, FPR12, FSM10) goes to a public body.
func IsPublicBody(format string) bool { return strings.HasPrefix(format, "FPA") }

// NoticeOf turns an event into what customers see of it; false for events that are the platform's own
// or that are about something else than an invoice.
func NoticeOf(ev proto.Message) (Notice, bool) {
	n := Notice{}
	switch e := ev.(type) {
	case *invoicev1.InvoiceAccepted:
		n = Notice{"invoice.accepted", e.GetInvoice(), map[string]any{
			"format": e.GetFormat(), "recipient_code": e.GetRecipientCode(), "sign": e.GetSign(), "document": blobData(e.GetOriginal())}}
		if e.GetCorrects() != "" {
			n.Data["corrects"] = e.GetCorrects()
		}
	case *invoicev1.InvoiceImported:
		n = Notice{"invoice.imported", e.GetInvoice(), map[string]any{
			"format": e.GetFormat(), "received": e.GetReceived(), "document": blobData(e.GetOriginal())}}
	case *signv1.DocumentSigned:
		n = Notice{"invoice.signed", e.GetSubject(), map[string]any{
			"signature": e.GetSignature(), "signing_time": timeData(e.GetSigningTime()), "document": blobData(e.GetSigned())}}
	case *signv1.SignatureRequestChanged:
		n = requestNotice(e)
	case *signv1.SigningFailed:
		n = Notice{"invoice.signing_failed", e.GetSubject(), map[string]any{"code": e.GetCode(), "message": e.GetMessage()}}
	case *conservationv1.UnitTakenInCharge:
		n = Notice{kept(e.GetSubject(), "preservation.taken_in_charge", "inbound.taken_in_charge"), e.GetSubject(), map[string]any{
			"unit": e.GetUnit(), "time": timeData(e.GetTime())}}
	case *conservationv1.UnitPreserved:
		n = Notice{kept(e.GetSubject(), "preservation.sealed", "inbound.preserved"), e.GetSubject(), map[string]any{
			"unit": e.GetUnit(), "package": e.GetPackage(), "stamp_time": timeData(e.GetStampTime())}}
	case *conservationv1.LogStated:
		return Notice{"preservation.log_stated", e.GetTenant() + "/log", map[string]any{
			"origin": e.GetOrigin(), "size": e.GetSize(), "checkpoint": e.GetNote(), "stamp_time": timeData(e.GetStampTime()),
			"tenant_sequence": e.GetTenantSequence(), "witnesses": listData(e.GetWitnesses())}}, true
	default:
		n = exchangeNotice(ev)
		if n.Type == "" {
			n = mailNotice(ev)
		}
		if n.Type == "" {
			n = credentialNotice(ev)
		}
	}
	if strings.HasPrefix(n.Type, "credential.") {
		return n, strings.Contains(n.Invoice, "/credentials/")
	}
	switch {
	case strings.HasPrefix(n.Type, "pec."):
		return n, strings.Contains(n.Invoice, "/mailboxes/")
	case strings.HasPrefix(n.Type, requestTypes):
		return n, strings.Contains(n.Invoice, "/signatureRequests/")
	}
	return n, n.Type != "" && (strings.Contains(n.Invoice, "/invoices/") || strings.Contains(n.Invoice, inboundSegment))
}

// requestTypes begins the types of signature requests.
const requestTypes = "signature_request."

// requestNotice is NoticeOf for signature requests: the type is the act. What else stands in the audit trail
// (codes that were sent) is nobody's news.
func requestNotice(e *signv1.SignatureRequestChanged) Notice {
	kind := requestTypes + strings.ToLower(e.GetAction())
	if !slices.Contains(noticeTypes, kind) {
		return Notice{}
	}
	data := map[string]any{"sequence": e.GetSequence(), "state": e.GetState(), "time": timeData(e.GetTime())}
	if e.GetParticipant() != "" {
		data["participant"] = e.GetParticipant()
	}
	return Notice{kind, e.GetSignatureRequest(), data}
}

// inboundSegment is in the names of the files that a company received.
const inboundSegment = "/inboundInvoices/"

// kept is the type of a fact of preservation: of an invoice that was issued, or of one that was received.
func kept(subject, issued, received string) string {
	if strings.Contains(subject, inboundSegment) {
		return received
	}
	return issued
}

// inboundNotice is NoticeOf for what a company received.
func inboundNotice(ev proto.Message) Notice {
	switch e := ev.(type) {
	case *sdiv1.InboundInvoiceReceived:
		documents := make([]any, 0, len(e.GetDocuments()))
		for _, d := range e.GetDocuments() {
			documents = append(documents, map[string]any{
				"position": d.GetPosition(), "document_type": d.GetDocumentType(), "number": d.GetNumber(), "date": d.GetDate()})
		}
		data := map[string]any{"sdi_id": e.GetSdiId(), "file_name": e.GetFileName(), "format": e.GetFormat(), "recipient_code": e.GetRecipientCode(),
			"routed_by": e.GetRoutedBy(), "documents": documents, "receive_time": timeData(e.GetReceiveTime()), "document": blobData(e.GetOriginal())}
		if e.GetAnswerBy() != nil {
			data["answer_by"] = timeData(e.GetAnswerBy())
		}
		return Notice{"inbound.received", e.GetInboundInvoice(), data}
	case *sdiv1.InboundOutcomeSettled:
		data := map[string]any{"sdi_id": e.GetSdiId(), "position": e.GetPosition(), "outcome": e.GetOutcome()}
		if e.GetTaken() {
			return Notice{"inbound.outcome_taken", e.GetInboundInvoice(), data}
		}
		data["code"], data["message"] = e.GetCode(), e.GetMessage()
		return Notice{"inbound.outcome_refused", e.GetInboundInvoice(), data}
	case *sdiv1.InboundDeadlineReached:
		data := map[string]any{"sdi_id": e.GetSdiId(), "due_time": timeData(e.GetDueTime())}
		if e.GetPassed() {
			return Notice{"inbound.answer_overdue", e.GetInboundInvoice(), data}
		}
		return Notice{"inbound.answer_due", e.GetInboundInvoice(), data}
	case *sdiv1.InboundTermExpired:
		return Notice{"inbound.term_expired", e.GetInboundInvoice(), map[string]any{"sdi_id": e.GetSdiId(), "receipt": map[string]any{
			"type": "DT", "file_name": e.GetFileName(), "receive_time": timeData(e.GetReceiveTime()), "document": blobData(e.GetContent())}}}
	}
	return Notice{}
}

// mailNotice is NoticeOf for certified mail. What was found in a mailbox when it was read for the first
// time is no news.
func mailNotice(ev proto.Message) Notice {
	switch e := ev.(type) {
	case *pecv1.MessageReceived:
		if e.GetInitial() {
			return Notice{}
		}
		return Notice{"pec.message_received", e.GetMessage(), map[string]any{
			"kind": e.GetKind(), "receive_time": timeData(e.GetReceiveTime()), "document": blobData(e.GetContent())}}
	case *pecv1.ReceiptVerified:
		return Notice{"pec.receipt_verified", e.GetMessage(), map[string]any{
			"kind": e.GetKind(), "receipt": e.GetReceipt(), "document": blobData(e.GetContent())}}
	case *pecv1.DeliveryStateChanged:
		return Notice{"pec.delivery_state_changed", e.GetMessage(), map[string]any{"state": e.GetState()}}
	case *pecv1.MailboxDegraded:
		data := map[string]any{"code": e.GetCode(), "description": e.GetReason()}
		if e.GetMailboxAddress() != "" {
			data["mailbox_address"] = e.GetMailboxAddress()
		}
		return Notice{"pec.mailbox_degraded", e.GetMailbox(), data}
	case *pecv1.DeliveryDecisionNeeded:
		return Notice{"pec.decision_needed", e.GetMessage(), map[string]any{
			"unknown_time": timeData(e.GetUnknownTime()), "description": e.GetAdvice()}}
	case *pecv1.DeliveryStalled:
		return Notice{"pec.delivery_stalled", e.GetMessage(), map[string]any{
			"code": e.GetCode(), "since": timeData(e.GetSince()), "recipients": e.GetRecipients(), "description": e.GetAdvice()}}
	case *pecv1.DeliveredContentDiffers:
		return Notice{"pec.delivered_content_differs", e.GetMessage(), map[string]any{
			"receipt": e.GetReceipt(), "differences": e.GetDifferences()}}
	case *pecv1.DeliveryDoubted:
		return Notice{"pec.delivery_doubted", e.GetMessage(), map[string]any{"receipt": e.GetReceipt(), "description": e.GetReason()}}
	case *pecv1.ClaimNotProven:
		return Notice{"pec.claim_not_proven", e.GetMessage(), map[string]any{
			"code": e.GetCode(), "claim": e.GetClaim(), "about": e.GetAbout(), "description": e.GetReason()}}
	}
	return Notice{}
}

// credentialNotice is NoticeOf for credentials and the devices of their holders. No secret is in it.
func credentialNotice(ev proto.Message) Notice {
	switch e := ev.(type) {
	case *signv1.PushRequested:
		return Notice{"credential.push_requested", e.GetCredential(), map[string]any{
			"otp_device": e.GetOtpDevice(), "push_request": e.GetPushRequest(), "expire_time": timeData(e.GetExpireTime())}}
	case *signv1.CredentialUsed:
		return Notice{"credential.used", e.GetCredential(), map[string]any{
			"challenge": e.GetChallenge(), "otp_device": e.GetOtpDevice(), "signature_count": e.GetSignatureCount(),
			"documents_sha256": hex.EncodeToString(e.GetDocumentsSha256()), "time": timeData(e.GetTime())}}
	case *signv1.OtpDeviceChanged:
		return Notice{"credential.device_changed", e.GetCredential(), map[string]any{
			"otp_device": e.GetOtpDevice(), "change": e.GetChange(), "time": timeData(e.GetTime())}}
	case *signv1.CredentialExpiring:
		return Notice{"credential.expiring", e.GetCredential(), map[string]any{"days": e.GetDays(), "expire_time": timeData(e.GetExpireTime())}}
	case *signv1.CredentialStateChanged:
		return Notice{"credential.state_changed", e.GetCredential(), map[string]any{
			"state": e.GetState(), "description": e.GetReason(), "time": timeData(e.GetTime())}}
	}
	return Notice{}
}

// exchangeNotice is NoticeOf for what SdI says.
func exchangeNotice(ev proto.Message) Notice {
	switch e := ev.(type) {
	case *sdiv1.InvoiceTransmitted:
		return Notice{"invoice.transmitted", e.GetInvoice(), map[string]any{
			"transmission": e.GetTransmission(), "file_name": e.GetFileName(), "sdi_id": e.GetSdiId(), "send_time": timeData(e.GetSendTime())}}
	case *sdiv1.TransmissionFailed:
		return Notice{"invoice.transmission_failed", e.GetInvoice(), map[string]any{
			"transmission": e.GetTransmission(), "code": e.GetCode(), "message": e.GetMessage()}}
	case *sdiv1.InvoiceDelivered:
		return Notice{"invoice.delivered", e.GetInvoice(), receiptData(e.GetSdiId(), e.GetReceipt())}
	case *sdiv1.InvoiceNotDelivered:
		// MC is no failure: a private invoice is issued, and for a public body SdI goes on trying.
		// spec: sdi MC, private and public flow
		kind := "invoice.available"
		if IsPublicBody(e.GetFormat()) {
			kind = "invoice.delivery_pending"
		}
		return Notice{kind, e.GetInvoice(), receiptData(e.GetSdiId(), e.GetReceipt())}
	case *sdiv1.InvoiceDiscarded:
		data := receiptData(e.GetSdiId(), e.GetReceipt())
		errs := make([]any, 0, len(e.GetErrors()))
		for _, x := range e.GetErrors() {
			errs = append(errs, map[string]any{"code": x.GetCode(), "message": x.GetMessage(), "hint": x.GetHint()})
		}
		data["errors"] = errs
		if e.GetResendByTime() != nil {
			data["resend_by_time"] = timeData(e.GetResendByTime())
		}
		return Notice{"invoice.rejected", e.GetInvoice(), data}
	case *sdiv1.InvoiceOutcomeReceived:
		kind := "invoice.pa_accepted"
		if e.GetOutcome() == "EC02" {
			kind = "invoice.pa_refused"
		}
		data := receiptData(e.GetSdiId(), e.GetReceipt())
		data["outcome"], data["description"] = e.GetOutcome(), e.GetDescription()
		return Notice{kind, e.GetInvoice(), data}
	case *sdiv1.InvoiceTermExpired:
		return Notice{"invoice.pa_term_expired", e.GetInvoice(), receiptData(e.GetSdiId(), e.GetReceipt())}
	case *sdiv1.InvoiceAttested:
		return Notice{"invoice.attested", e.GetInvoice(), receiptData(e.GetSdiId(), e.GetReceipt())}
	case *sdiv1.DeadlineReached:
		return Notice{deadlineType(e), e.GetInvoice(), map[string]any{
			"transmission": e.GetTransmission(), "sdi_id": e.GetSdiId(), "due_time": timeData(e.GetDueTime())}}
	}
	return inboundNotice(ev)
}

// deadlineType names the terms about which a customer can do something; empty for the others.
func deadlineType(e *sdiv1.DeadlineReached) string {
	switch kind, passed := e.GetKind(), e.GetPassed(); {
	case kind == sdiv1.DeadlineKind_DEADLINE_KIND_RECEIPT && passed:
		return "invoice.receipt_overdue"
	case kind == sdiv1.DeadlineKind_DEADLINE_KIND_RESEND && passed:
		return "invoice.resend_expired"
	case kind == sdiv1.DeadlineKind_DEADLINE_KIND_RESEND:
		return "invoice.resend_due"
	case kind == sdiv1.DeadlineKind_DEADLINE_KIND_OUTCOME && passed:
		return "invoice.pa_silent"
	}
	return ""
}

func receiptData(sdiID string, r *sdiv1.Receipt) map[string]any {
	return map[string]any{"sdi_id": sdiID, "receipt": map[string]any{
		"type": r.GetType(), "file_name": r.GetFileName(), "receive_time": timeData(r.GetReceiveTime()), "document": blobData(r.GetContent())}}
}

// blobData tells a document apart without saying where it is kept: its bytes come from GetDocument.
func blobData(b *eventv1.Blob) any {
	if b == nil {
		return nil
	}
	return map[string]any{"sha256": hex.EncodeToString(b.GetSha256()), "size": b.GetSize(), "media_type": b.GetMediaType()}
}

// listData is a list as JSON has it.
func listData(names []string) []any {
	list := make([]any, len(names))
	for i, name := range names {
		list[i] = name
	}
	return list
}

func timeData(t *timestamppb.Timestamp) any {
	if t == nil {
		return nil
	}
	return t.AsTime().UTC().Format(time.RFC3339Nano)
}
