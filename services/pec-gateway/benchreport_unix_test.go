//go:build unix

package pecgateway_test

import (
	"context"
	"encoding/hex"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/devenv/dovecot"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/run/runtest"
	pecgateway "ceralacca.dev/services/pec-gateway"
	"ceralacca.dev/services/sandbox/client"
)

var (
	firstMessages = flag.Int("messages", 100_000, "messages of the first reading")
	mailboxes     = flag.Int("mailboxes", 500, "mailboxes presided over at a time")
	newMessages   = flag.Int("new-messages", 600, "messages that come to them, one every 50 ms")
)

func figure(name string, value float64, unit, target string) {
	fmt.Printf("%-76s %12.2f %-10s (target %s)\n", name, value, unit, target)
}

// durable has the gateway on a server that loses nothing at a power cut.
func durable(b *testing.B) func(*runtest.Options) {
	b.Helper()
	_, db := pgtest.Durable(b, "pec-gateway", filepath.Join(b.TempDir(), "pg"), 16)
	return func(o *runtest.Options) { o.DB, o.LogLevel = map[string]*pg.DB{"pec-gateway": db}, "warn" }
}

// slowly has mailboxes looked at as in production, so that announcements are what counts.
func slowly(o *runtest.Options) {
	o.Config = strings.NewReplacer("poll_every: 100ms", "poll_every: 1m", "lease: 2s", "lease: 30s", "timeout: 5s", "timeout: 1m").Replace(o.Config)
}

// liveHeap is what is reachable in this process after a collection: the gateway, its embedded NATS, the sandbox and
// this test.
func liveHeap() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / 1e6
}

// resident is how much memory the system counts as this process's; where it does not say, what Go has from it.
func resident() float64 {
	raw, err := os.ReadFile("/proc/self/statm")
	var total, pages float64
	if _, scan := fmt.Sscan(string(raw), &total, &pages); err == nil && scan == nil {
		return pages * float64(os.Getpagesize()) / 1e6
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.Sys-m.HeapReleased) / 1e6
}

// processor is the time that this process has had of the processors.
func processor(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// numbered makes one receipt many: the line in front is not of the signed part.
func numbered(receipt string, n int) []byte {
	return fmt.Appendf(nil, "X-Numero: %d\r\n%s", n, receipt)
}

// BenchmarkReport is the part of `make bench-pec` that needs the service: everything runs on this machine, Dovecot and
// PostgreSQL, which syncs each commit, included.
func BenchmarkReport(b *testing.B) {
	b.Run("large", reportLarge)
	b.Run("firstreading", reportFirstReading)
	b.Run("mailboxes", reportMailboxes)
	b.Run("recipients", reportRecipients)
	b.Run("log", pecgateway.ReportLog)
}

// reportLarge receives one message of 30 MB: fetched, archived, judged.
func reportLarge(b *testing.B) {
	h := openDovecot(b, "", dovecot.Options{}, durable(b))
	h.believe()
	box := h.keep(recipient)
	h.lookedAgain(box)
	peak := peakOf(h, box, 30<<20)
	figure("pec: most heap while a message of 30 MB is fetched, archived and judged", peak, "MB", "< 16")
}

// unheard leaves the test's own listener out, which keeps every event that it hears.
func unheard(o *runtest.Options) { o.Targets = o.Targets[:1] }

// reportFirstReading reads a mailbox of receipts for the first time. The gateway ends in the middle and goes on.
func reportFirstReading(b *testing.B) {
	h := openDovecot(b, "", dovecot.Options{}, durable(b), slowly, unheard)
	h.believe()
	h.account(sender)
	var receipts []string
	for i := range 20 {
		receipts = append(receipts, h.receiptBytes(client.PECForge{Tipo: "avvenuta-consegna", MsgID: fmt.Sprintf("m%d@alfa.test", i), Recipient: recipient, How: "valid"}))
	}
	for i := range *firstMessages {
		require.NoError(b, h.dovecot.Deliver(sender, numbered(receipts[i%len(receipts)], i), dovecot.Delivery{}))
	}
	h.stranger(sender).say("SELECT INBOX") // Dovecot numbers them before the clock runs
	var thirds [3]float64                  // most memory in each
	began, used := time.Now(), processor(b)
	box := h.keep(sender)
	at := func(share float64) {
		for {
			n := h.query(`SELECT sync_fetched FROM mailbox`)
			third := min(n*3 / *firstMessages, 2)
			thirds[third] = max(thirds[third], resident())
			if n >= int(share*float64(*firstMessages)) {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	heaps := map[float64]float64{}
	watch := func(shares ...float64) {
		for _, share := range shares {
			at(share)
			heaps[share] = liveHeap()
		}
	}
	watch(0.1, 0.2, 0.3, 0.4)
	at(0.5)
	done := h.query(`SELECT sync_fetched FROM mailbox`)
	half, busy := time.Since(began), processor(b)-used
	h.Stop()
	h.start()
	resumed := time.Now()
	watch(0.6, 0.7, 0.8, 0.9)
	at(1)
	for !h.box(box).GetSync().GetDone() {
		time.Sleep(50 * time.Millisecond)
	}
	rest := time.Since(resumed)
	require.Equal(b, *firstMessages, h.query(`SELECT count(*) FROM message WHERE proven`), "%v", h.receipts(box)[0].GetDoubts())
	require.Equal(b, *firstMessages, h.query(`SELECT count(*) FROM location`), "nothing twice, nothing missed")
	figure(fmt.Sprintf("pec: first reading of %d receipts of %d bytes from Dovecot", *firstMessages, len(receipts[0])),
		float64(done)/half.Seconds(), "messages/s", "> 500")
	figure("pec: the same after the gateway was ended in the middle, its start included", float64(*firstMessages-done)/rest.Seconds(), "messages/s", "> 500")
	figure("pec: the same, time of the processors in the gateway's process, broker and test included", float64(busy.Microseconds())/float64(done), "us/message", "-")
	for _, share := range slices.Sorted(maps.Keys(heaps)) {
		figure(fmt.Sprintf("pec: live heap at %.0f %% of it, broker and sandbox included", 100*share), heaps[share], "MB", "flat")
	}
	for i, most := range thirds {
		figure(fmt.Sprintf("pec: most resident memory of this process in third %d of it", i+1), most, "MB", "flat")
	}
}

// heardAt is when each message, by the hash of its bytes, was told.
type heardAt struct {
	mu sync.Mutex
	at map[string]time.Time
}

// reportMailboxes presides over many mailboxes, one of them at a server that hangs and one that floods.
func reportMailboxes(b *testing.B) {
	told := &heardAt{at: map[string]time.Time{}}
	listen := func(o *runtest.Options) {
		o.Targets = slices.Clone(o.Targets)
		o.Targets[1] = listener(told)
	}
	h := openDovecot(b, "  mailboxes: 1000\n", dovecot.Options{Connections: 1000}, durable(b), slowly, listen)
	h.believe()
	w := h.wireTo(h.dovecot.IMAPS())
	w.when(func(line string, _ net.Conn) bool { return strings.Contains(line, "STATUS") }) // swallowed: it waits for ever
	address := func(i int) string { return fmt.Sprintf("casella%d@alfa.test", i) }
	users := map[string]string{}
	for i := range *mailboxes {
		users[address(i)] = "Pw-" + address(i)
		h.secrets[address(i)] = users[address(i)]
	}
	require.NoError(b, h.dovecot.SetPasswords(users))
	const flood = 1
	for i := range 20_000 {
		require.NoError(b, h.dovecot.Deliver(address(flood), []byte(plain(fmt.Sprintf("onda%d", i))), dovecot.Delivery{}))
	}
	for i := range *mailboxes {
		if i == 0 {
			h.keep(address(i), through(w))
		} else {
			h.keep(address(i))
		}
	}
	for h.query(`SELECT count(*) FROM mailbox WHERE sync_end_time IS NOT NULL`) < *mailboxes-2 {
		time.Sleep(100 * time.Millisecond)
	}
	sent := map[string]time.Time{}
	waves := 20_000
	for i := range *newMessages {
		to := address(2 + rand.IntN(*mailboxes-2))
		raw := []byte(strings.ReplaceAll(plain(fmt.Sprintf("nuovo%d", i)), "\n", "\r\n"))
		sent[hexSum(raw)] = time.Now()
		require.NoError(b, h.dovecot.Deliver(to, raw, dovecot.Delivery{}))
		for range 10 { // the flood does not end
			waves++
			require.NoError(b, h.dovecot.Deliver(address(flood), []byte(plain(fmt.Sprintf("onda%d", waves))), dovecot.Delivery{}))
		}
		time.Sleep(50 * time.Millisecond)
	}
	var took []float64
	deadline := time.Now().Add(time.Minute)
	for len(took) < len(sent) && time.Now().Before(deadline) {
		time.Sleep(100 * time.Millisecond)
		took = took[:0]
		told.mu.Lock()
		for sum, at := range sent {
			if heard, ok := told.at[sum]; ok {
				took = append(took, heard.Sub(at).Seconds())
			}
		}
		told.mu.Unlock()
	}
	require.Len(b, took, len(sent), "every message is told")
	slices.Sort(took)
	name := fmt.Sprintf("pec: new message told as an event, %d mailboxes, one hangs, one floods", *mailboxes)
	figure(name+", p50", took[len(took)/2], "s", "-")
	figure(name+", p99", took[len(took)*99/100], "s", "< 5")
	figure("pec: messages of the flood received meanwhile", float64(h.query(`SELECT sync_fetched FROM mailbox WHERE address = $1`, address(flood))), "messages", "-")
}

// listener hears when messages are told.
func listener(told *heardAt) (t run.Target) {
	t.Name = "probe"
	t.Start = func(_ context.Context, host *run.Host) error {
		bus.On(host.Bus, "received", func(_ context.Context, _ pgx.Tx, ev *pecv1.MessageReceived) error {
			told.mu.Lock()
			defer told.mu.Unlock()
			told.at[hex.EncodeToString(ev.GetContent().GetSha256())] = time.Now()
			return nil
		})
		return nil
	}
	return t
}

// reportRecipients receives the receipts of messages with 500 and with 1,000 recipients: the whole way of each, from
// the fetch to the committed state.
func reportRecipients(b *testing.B) {
	h := openDovecot(b, "", dovecot.Options{}, durable(b), slowly)
	h.believe()
	perReceipt := map[int]float64{}
	for _, n := range []int{500, 1000} {
		address := fmt.Sprintf("molti%d@alfa.test", n)
		h.account(address)
		var to []string
		for i := range n {
			to = append(to, fmt.Sprintf("d%d@beta.test", i))
		}
		msgid := fmt.Sprintf("molti%d@alfa.test", n)
		box := h.keep(address)
		for h.box(box).GetLastPollTime() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		name := h.sent(box, msgid, to...)
		for _, who := range to {
			raw := h.receiptBytes(client.PECForge{Tipo: "avvenuta-consegna", MsgID: msgid, Identificativo: msgid, Recipient: who, How: "valid"})
			h.deliver(address, raw, dovecot.Delivery{Folder: "Attesa"})
		}
		began := time.Now()
		_, err := h.api.SuspendMailbox(b.Context(), &pecv1.SuspendMailboxRequest{Name: box.GetName()})
		require.NoError(b, err)
		_, err = h.api.ResumeMailbox(b.Context(), &pecv1.ResumeMailboxRequest{Name: box.GetName()})
		require.NoError(b, err)
		for h.get(name).GetState() != pecv1.MessageState_MESSAGE_STATE_DELIVERED &&
			h.query(`SELECT count(*) FROM fact f JOIN message m ON m.id = f.message_id WHERE m.message_id = $1`, msgid) < n {
			time.Sleep(20 * time.Millisecond)
		}
		perReceipt[n] = float64(time.Since(began).Milliseconds()) / float64(n)
	}
	figure("pec: receipt of a message to 500 recipients, from the fetch to the state", perReceipt[500], "ms", "-")
	figure("pec: receipt of a message to 1000 recipients, from the fetch to the state", perReceipt[1000], "ms", "< 5")
}
