package pecgateway_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/sandbox/client"
)

// BenchmarkFirstSync reads mailboxes of a thousand receipts for the first time: fetched over IMAP, archived,
// verified, recorded. Figures are of the whole, the simulated provider on the same machine included.
func BenchmarkFirstSync(b *testing.B) {
	const n = 1000
	h := open(b, "")
	h.believe()
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		address := fmt.Sprintf("bench%d@alfa.test", i)
		h.password(address)
		for k := range n {
			require.NoError(b, h.sandbox.ForgePEC(b.Context(), client.PECForge{Mailbox: address, Tipo: "accettazione",
				MsgID: fmt.Sprintf("%d.%d@alfa.test", i, k), Recipient: recipient, How: "valid"}))
		}
		b.StartTimer()
		begin := time.Now()
		box := h.add(address)
		for !h.box(box).GetSync().GetDone() {
			time.Sleep(tick)
		}
		b.ReportMetric(n/time.Since(begin).Seconds(), "messages/s")
		require.Equal(b, n, h.query(`SELECT count(*) FROM message WHERE proven AND mailbox_id = (SELECT id FROM mailbox WHERE address = $1)`, address))
	}
}
