package catalog_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"ceralacca.dev/proto/catalog"
	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
)

const (
	anInvoice   = "tenants/t/companies/c/invoices/i"
	anInbound   = "tenants/t/companies/c/inboundInvoices/i"
	aMailbox    = "tenants/t/mailboxes/m"
	aMessage    = aMailbox + "/messages/x"
	aCredential = "tenants/t/companies/c/credentials/k"
	aRequest    = "tenants/t/signatureRequests/r"
)

func TestNotices(t *testing.T) {
	blob := &eventv1.Blob{Uri: "blob:tenants/t/00?size=3", Sha256: make([]byte, 32), Size: 3, MediaType: "application/xml"}
	receipt := &sdiv1.Receipt{Type: "RC", FileName: "IT01_1_RC_001.xml", Content: blob}
	events := map[string]proto.Message{
		"invoice.accepted":              &invoicev1.InvoiceAccepted{Invoice: anInvoice, Original: blob},
		"invoice.imported":              &invoicev1.InvoiceImported{Invoice: anInvoice, Original: blob},
		"invoice.signed":                &signv1.DocumentSigned{Subject: anInvoice, Signed: blob},
		"invoice.signing_failed":        &signv1.SigningFailed{Subject: anInvoice, Code: "NO_ACTIVE_CREDENTIAL"},
		"invoice.transmitted":           &sdiv1.InvoiceTransmitted{Invoice: anInvoice, SdiId: "7"},
		"invoice.transmission_failed":   &sdiv1.TransmissionFailed{Invoice: anInvoice, Code: "EI03"},
		"invoice.delivered":             &sdiv1.InvoiceDelivered{Invoice: anInvoice, Receipt: receipt},
		"invoice.available":             &sdiv1.InvoiceNotDelivered{Invoice: anInvoice, Receipt: receipt, Format: "FPR12"},
		"invoice.delivery_pending":      &sdiv1.InvoiceNotDelivered{Invoice: anInvoice, Receipt: receipt, Format: "FPA12"},
		"invoice.rejected":              &sdiv1.InvoiceDiscarded{Invoice: anInvoice, Errors: []*sdiv1.RejectionError{{Code: "00423"}}},
		"invoice.pa_accepted":           &sdiv1.InvoiceOutcomeReceived{Invoice: anInvoice, Outcome: "EC01"},
		"invoice.pa_refused":            &sdiv1.InvoiceOutcomeReceived{Invoice: anInvoice, Outcome: "EC02"},
		"invoice.pa_term_expired":       &sdiv1.InvoiceTermExpired{Invoice: anInvoice},
		"invoice.attested":              &sdiv1.InvoiceAttested{Invoice: anInvoice},
		"invoice.receipt_overdue":       &sdiv1.DeadlineReached{Invoice: anInvoice, Kind: sdiv1.DeadlineKind_DEADLINE_KIND_RECEIPT, Passed: true},
		"invoice.resend_due":            &sdiv1.DeadlineReached{Invoice: anInvoice, Kind: sdiv1.DeadlineKind_DEADLINE_KIND_RESEND},
		"invoice.resend_expired":        &sdiv1.DeadlineReached{Invoice: anInvoice, Kind: sdiv1.DeadlineKind_DEADLINE_KIND_RESEND, Passed: true},
		"invoice.pa_silent":             &sdiv1.DeadlineReached{Invoice: anInvoice, Kind: sdiv1.DeadlineKind_DEADLINE_KIND_OUTCOME, Passed: true},
		"preservation.taken_in_charge":  &conservationv1.UnitTakenInCharge{Subject: anInvoice, Unit: "tenants/t/units/u"},
		"preservation.log_stated":       &conservationv1.LogStated{Tenant: "tenants/t", Origin: "log", Size: 7, Note: "log\n7\n", TenantSequence: 3, Witnesses: []string{"w"}},
		"preservation.sealed":           &conservationv1.UnitPreserved{Subject: anInvoice, Package: "tenants/t/packages/p"},
		"inbound.received":              &sdiv1.InboundInvoiceReceived{InboundInvoice: anInbound, Original: blob, Documents: []*sdiv1.InboundDocument{{Position: 1, Number: "7"}}},
		"inbound.outcome_taken":         &sdiv1.InboundOutcomeSettled{InboundInvoice: anInbound, Outcome: "EC01", Taken: true},
		"inbound.outcome_refused":       &sdiv1.InboundOutcomeSettled{InboundInvoice: anInbound, Outcome: "EC02", Code: "EN01"},
		"inbound.term_expired":          &sdiv1.InboundTermExpired{InboundInvoice: anInbound, Content: blob},
		"inbound.answer_due":            &sdiv1.InboundDeadlineReached{InboundInvoice: anInbound},
		"inbound.answer_overdue":        &sdiv1.InboundDeadlineReached{InboundInvoice: anInbound, Passed: true},
		"inbound.taken_in_charge":       &conservationv1.UnitTakenInCharge{Subject: anInbound},
		"inbound.preserved":             &conservationv1.UnitPreserved{Subject: anInbound},
		"pec.message_received":          &pecv1.MessageReceived{Message: aMessage, Kind: "MESSAGE_KIND_ENVELOPE", Content: blob},
		"pec.receipt_verified":          &pecv1.ReceiptVerified{Message: aMessage, Content: blob},
		"pec.delivery_state_changed":    &pecv1.DeliveryStateChanged{Message: aMessage, State: "MESSAGE_STATE_DELIVERED"},
		"pec.mailbox_degraded":          &pecv1.MailboxDegraded{Mailbox: aMailbox, Code: "MAILBOX_AUTH_FAILED"},
		"pec.decision_needed":           &pecv1.DeliveryDecisionNeeded{Message: aMessage, Advice: "wait"},
		"pec.delivery_stalled":          &pecv1.DeliveryStalled{Message: aMessage, Code: "ACCEPTANCE_MISSING", Recipients: 1},
		"pec.delivered_content_differs": &pecv1.DeliveredContentDiffers{Message: aMessage, Receipt: aMessage, Differences: 2},
		"pec.delivery_doubted":          &pecv1.DeliveryDoubted{Message: aMessage, Receipt: aMessage, Reason: "withdrawn"},
		"pec.claim_not_proven":          &pecv1.ClaimNotProven{Message: aMessage, Code: "FALSE_CLAIM", Claim: "avvenuta-consegna", Reason: "no S/MIME signature"},
		"credential.push_requested":     &signv1.PushRequested{Credential: aCredential, PushRequest: aCredential + "/pushRequests/p"},
		"credential.used":               &signv1.CredentialUsed{Credential: aCredential, SignatureCount: 2},
		"credential.device_changed":     &signv1.OtpDeviceChanged{Credential: aCredential, Change: "otp_device.confirm"},
		"credential.expiring":           &signv1.CredentialExpiring{Credential: aCredential, Days: 30},
		"credential.state_changed":      &signv1.CredentialStateChanged{Credential: aCredential, State: "SUSPENDED"},
	}
	for _, action := range []string{"CREATED", "VIEWED", "APPROVED", "SIGNED", "REFUSED", "WITHDRAWN", "EXPIRED", "DELEGATED", "REASSIGNED", "REMINDED", "SEALED"} {
		events["signature_request."+strings.ToLower(action)] = &signv1.SignatureRequestChanged{SignatureRequest: aRequest, Action: action, State: "OPEN", Sequence: 2}
	}
	for want, ev := range events {
		n, ok := catalog.NoticeOf(ev)
		about := map[string]string{"pec.mailbox_degraded": aMailbox, "pec.message_received": aMessage, "pec.receipt_verified": aMessage,
			"pec.delivery_state_changed": aMessage, "pec.decision_needed": aMessage, "pec.delivery_stalled": aMessage,
			"pec.delivered_content_differs": aMessage, "pec.delivery_doubted": aMessage, "pec.claim_not_proven": aMessage, "preservation.log_stated": "tenants/t/log"}[want]
		if strings.HasPrefix(want, "credential.") {
			about = aCredential
		}
		if strings.HasPrefix(want, "signature_request.") {
			about = aRequest
		}
		if about == "" {
			about = anInvoice
		}
		if !ok || n.Type != want || n.Invoice != about && n.Invoice != anInbound {
			t.Errorf("%T: %v %+v, want %s", ev, ok, n, want)
		}
		if !slices.Contains(catalog.NoticeTypes(), want) {
			t.Errorf("%s is missing in NoticeTypes", want)
		}
		raw, err := json.Marshal(n.Data)
		if err != nil {
			t.Errorf("%s: data is no JSON: %v", want, err)
		}
		if err := new(structpb.Struct).UnmarshalJSON(raw); err != nil {
			t.Errorf("%s: data is no Struct: %v", want, err)
		}
	}
	if len(events) != len(catalog.NoticeTypes()) {
		t.Errorf("%d types, %d tested", len(catalog.NoticeTypes()), len(events))
	}
}

// TestNoticeNamesTheMailbox: a customer knows a mailbox by its address; an event of before has none to give.
func TestNoticeNamesTheMailbox(t *testing.T) {
	n, _ := catalog.NoticeOf(&pecv1.MailboxDegraded{Mailbox: aMailbox, Code: "MAILBOX_QUOTA", MailboxAddress: "fatture@pec.alfa.test"})
	if got := n.Data["mailbox_address"]; got != "fatture@pec.alfa.test" {
		t.Errorf("the mailbox is named %v", got)
	}
	n, _ = catalog.NoticeOf(&pecv1.MailboxDegraded{Mailbox: aMailbox, Code: "MAILBOX_QUOTA"})
	if got, ok := n.Data["mailbox_address"]; ok {
		t.Errorf("an event without an address gives %q", got)
	}
}

func TestEventsThatNobodyIsToldOf(t *testing.T) {
	for _, ev := range []proto.Message{
		&invoicev1.InvoiceSettled{Invoice: anInvoice},
		&signv1.DocumentSigned{Subject: "tenants/t/packages/p"},
		&conservationv1.PackageSealed{Package: "tenants/t/packages/p"},
		&conservationv1.WitnessQuorumLost{Reason: "away"},
		&sdiv1.DeadlineReached{Invoice: anInvoice, Kind: sdiv1.DeadlineKind_DEADLINE_KIND_ATTESTATION, Passed: true},
		&pecv1.MessageReceived{Message: aMessage, Initial: true},
		&signv1.SignatureRequestChanged{SignatureRequest: aRequest, Action: "LINK_SENT", State: "OPEN"},
		&signv1.RequestParticipantCalled{SignatureRequest: aRequest},
	} {
		if n, ok := catalog.NoticeOf(ev); ok {
			t.Errorf("%T gives %+v", ev, n)
		}
	}
}
