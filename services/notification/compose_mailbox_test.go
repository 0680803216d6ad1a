package notification

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/notification/internal/db"
)

// TestMailAboutAMailbox: a mail says what is the matter with a mailbox, and not of one that is read that it is not.
func TestMailAboutAMailbox(t *testing.T) {
	mail := func(code, language string) (subject, text string) {
		t.Helper()
		payload := fmt.Sprintf(`{"type":"pec.mailbox_degraded","data":{"code":%q,"description":"%s: the reason","subject":"tenants/acme/mailboxes/m1"}}`, code, code)
		subject, text, err := compose(db.Delivery{EventType: "pec.mailbox_degraded", Invoice: "tenants/acme/mailboxes/m1", Payload: []byte(payload)}, language)
		require.NoError(t, err)
		require.Contains(t, text, code+": the reason")
		require.Contains(t, subject, "(m1)")
		return subject, text
	}
	for _, language := range []string{italian, english} {
		seen := map[string]string{}
		for _, code := range []string{"PASSWORD_EXPIRING", "PASSWORD_EXPIRED", "MAILBOX_EXPIRING", "MAILBOX_EXPIRED", "MAILBOX_QUOTA", "MAILBOX_ROOM_IMPOSSIBLE", "MAILBOX_READ_ONLY",
			"MAILBOX_AUTH_FAILED", "SENDING_LOGIN_REFUSED", "SENDING_SUSPENDED", "SENDING_TLS", "SENDING_SILENT", "MESSAGE_UNFETCHABLE", "ARCHIVE_DAMAGED", "MAILBOX_SERVER_AWAY"} {
			subject, text := mail(code, language)
			require.Empty(t, seen[subject], "%s is told as %s is", code, seen[subject])
			seen[subject] = code
			require.NotContains(t, text, "non può essere presidiata")
			require.NotContains(t, text, "cannot be presided over")
		}
	}
	named := db.Delivery{EventType: "pec.mailbox_degraded", Invoice: "tenants/acme/mailboxes/m1",
		Payload: []byte(`{"type":"pec.mailbox_degraded","data":{"code":"MAILBOX_QUOTA","description":"x","mailbox_address":"fatture@pec.alfa.test"}}`)}
	for language, label := range map[string]string{italian: "Casella", english: "Mailbox"} {
		subject, text, err := compose(named, language)
		require.NoError(t, err)
		require.True(t, strings.HasSuffix(subject, " (fatture@pec.alfa.test)"), subject)
		require.Contains(t, text, "\r\n"+label+": fatture@pec.alfa.test\r\n")
		require.Contains(t, text, "PEC: tenants/acme/mailboxes/m1\r\n", "commands take the name")
	}
	_, text := mail("PASSWORD_EXPIRING", italian)
	require.Contains(t, text, "Fino ad allora la casella è presidiata.")
	subject, _ := mail("SOMETHING_NEW", english)
	require.Equal(t, "Mailbox needs attention (m1)", subject, "a code of a newer neighbour")
}
