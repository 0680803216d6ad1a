package notification

import (
	"bytes"
	"net/mail"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	notificationv1 "ceralacca.dev/proto/gen/ceralacca/notification/v1"
	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
)

const (
	requestName     = "tenants/acme/signatureRequests/0198c0de-0000-7000-8000-000000000002"
	participantName = requestName + "/participants/0198c0de-0000-7000-8000-000000000003"
)

// TestParticipantsAreTold: by a mail to the address of the event, in their language; nobody subscribed, and
// nothing is kept for the others.
func TestParticipantsAreTold(t *testing.T) {
	w := start(t, "")
	for _, reminder := range []bool{false, true} {
		w.state("acme", &signv1.RequestParticipantCalled{SignatureRequest: requestName, Participant: participantName, Email: "maria@example.com", Language: "en",
			Role: "SIGNER", Reminder: reminder, Deadline: timestamppb.New(time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC))})
	}
	w.state("acme", &signv1.SignatureRequestChanged{SignatureRequest: requestName, Action: "SIGNED", State: "OPEN"})
	w.eventually(func() bool { return len(w.mail.got()) == 2 }, "both mails are there")
	subjects := map[string]bool{}
	for _, l := range w.mail.got() {
		require.Equal(t, "maria@example.com", l.to)
		m, err := mail.ReadMessage(bytes.NewReader(l.raw))
		require.NoError(t, err)
		subject, _, _ := strings.Cut(m.Header.Get("Subject"), " (")
		subjects[subject] = true
		require.Contains(t, string(l.raw), "Deadline: 2027-01-31T12:00:00Z")
	}
	require.Equal(t, map[string]bool{"Documents to sign": true, "Reminder: documents to sign": true}, subjects)
	list, err := w.api.ListDeliveries(t.Context(), &notificationv1.ListDeliveriesRequest{Parent: "tenants/acme", Invoice: requestName})
	require.NoError(t, err)
	require.Len(t, list.GetDeliveries(), 2)
	require.Equal(t, participantName, list.GetDeliveries()[0].GetTarget())
}

func TestCallsHaveTheirWords(t *testing.T) {
	for _, typ := range []string{calledSigner, calledApprover, remindedSigner, remindedApprover} {
		for _, language := range []string{italian, english} {
			require.NotEmpty(t, phrases[typ][language].subject, "%s %s", typ, language)
		}
	}
}
