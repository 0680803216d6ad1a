package pecgateway_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/sandbox/client"
)

// TestE9ReasonsOfAProvider: what errors and notices mean is a table; a provider's own rows, from a file, come before what
// everybody means. A notice that is known to be the second one is told at once, and a delivery after it counts. TESTPLAN E9.
func TestE9ReasonsOfAProvider(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "receipts.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"alfa": {"issuer": "^Gestore Alfa", "reasons": [
		{"type": "preavviso-errore-consegna", "code": "5.4.1", "cause": "unreachable", "second_notice": true},
		{"error": "altro", "text": "casella inattiva", "cause": "no-mailbox"}]},
		"beta": {"issuer": "^Gestore Beta", "reasons": [{"code": "5", "cause": "too-large"}]}}`), 0o600))
	h := open(t, fmt.Sprintf("  receipts_file: %q\n", file))
	h.believe()
	box := h.add(sender)
	sent := map[string]string{}
	forge := func(name, tipo, errore, detail string) {
		require.NoError(t, h.sandbox.ForgePEC(t.Context(), client.PECForge{Mailbox: sender, Tipo: tipo, MsgID: name + "@alfa.test", Recipient: name + "@alfa.test",
			How: "valid", Identificativo: "opec." + name + "@pec.alfa.test", Errore: errore, Detail: detail}))
	}
	for _, c := range []struct{ name, tipo, errore, detail, state, cause string }{
		{"nessuno", "errore-consegna", "no-dest", "", "not-delivered", "no-mailbox"},
		{"dominio", "errore-consegna", "no-dominio", "", "not-delivered", "no-domain"},
		{"indirizzo", "errore-consegna", "altro", "5.1.1 - indirizzo non valido", "not-delivered", "no-mailbox"},
		{"piena", "errore-consegna", "altro", "5.2.2 casella piena", "not-delivered", "mailbox-full"},
		{"passeggero", "errore-consegna", "altro", "4.3.2 riprovare", "not-delivered", "temporary"},
		{"virus", "errore-consegna", "virus", "5.5.1, presenza di un virus nel messaggio", "not-delivered", "virus"},
		{"inattiva", "errore-consegna", "altro", "Casella inattiva dal 2025", "not-delivered", "no-mailbox"},
		{"tempo", "preavviso-errore-consegna", "altro", "5.4.1 tempo massimo", "not-delivered-in-time", ""},
		{"dodici", "preavviso-errore-consegna", "altro", "4.4.7 tempo massimo", "late", ""},
	} {
		name := h.sent(box, c.name+"@alfa.test", c.name+"@alfa.test")
		sent[c.name] = name
		forge(c.name, "accettazione", "", "")
		forge(c.name, c.tipo, c.errore, c.detail)
		h.eventually(c.name+" is "+c.state+" "+c.cause, func() bool {
			r := h.get(name).GetRecipients()[0]
			return r.GetState() == c.state && r.GetCause() == c.cause
		})
	}
	h.eventually("that the time has passed is told", func() bool {
		for _, ev := range heard[*pecv1.DeliveryStalled](h) {
			if ev.GetMessage() == sent["tempo"] && ev.GetCode() == "DELIVERY_OVERDUE" {
				return true
			}
		}
		return false
	})
	forge("tempo", "avvenuta-consegna", "", "")
	h.eventually("delivered all the same", func() bool {
		m := h.get(sent["tempo"])
		return m.GetState() == pecv1.MessageState_MESSAGE_STATE_DELIVERED && m.GetRecipients()[0].GetLate() && len(m.GetContradictions()) == 0
	})
	h.invariants(box)
}
