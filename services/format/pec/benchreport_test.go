package pec

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func figure(name string, value float64, unit, target string) {
	fmt.Printf("%-76s %12.2f %-10s (target %s)\n", name, value, unit, target)
}

// BenchmarkReport is the part of `make bench-pec` that the library answers for alone. Times are of the processor, so
// other work on the machine counts little.
func BenchmarkReport(b *testing.B) {
	w := newWorld(b)
	for _, p := range []Profile{ProfilePlain, ProfileAruba, ProfileLegalmail} {
		reportReceipts(b, w, p)
	}
	reportLarge(b, w)
	for _, n := range []int{500, 1000, 2000} {
		reportState(b, n)
	}
}

// reportReceipts reads, classifies and verifies for two seconds of processor time.
func reportReceipts(b *testing.B, w *world, p Profile) {
	raw, chains := receiptOf(b, w, p, 14_000), &ChainCache{}
	begin, n := cpu(b), 0
	for cpu(b)-begin < 2*time.Second {
		r, err := ReadBytes(raw)
		require.NoError(b, err)
		rep, err := r.Verify(Verification{Trust: w.trust, At: at, Now: at, Chains: chains})
		require.NoError(b, err)
		require.True(b, r.Proven(rep))
		n++
	}
	figure(fmt.Sprintf("pec: verify and classify a receipt of %d bytes, as %s writes it", len(raw), p.Name), float64(n)/(cpu(b)-begin).Seconds(), "1/s core", "> 3000")
}

// reportLarge reads and verifies an envelope around 30 MB from a file.
func reportLarge(b *testing.B, w *world) {
	d := draft()
	d.Attachments = []File{BytesFile("grande.bin", "", bytes.Repeat([]byte("0123456789abcdef"), 22<<16))}
	var sent bytes.Buffer
	_, err := Compose(&sent, d)
	require.NoError(b, err)
	m, err := ParseBytes(sent.Bytes())
	require.NoError(b, err)
	file, err := os.CreateTemp(b.TempDir(), "m")
	require.NoError(b, err)
	defer file.Close()
	_, err = w.alfa.Write(b.Context(), file, NewTransito(m, envelopeOf(d), "1@pec.alfa.test", nil).Busta(at))
	require.NoError(b, err)
	info, err := file.Stat()
	require.NoError(b, err)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	begin := time.Now()
	r, err := Read(file, info.Size(), Limits{})
	require.NoError(b, err)
	rep, err := r.Verify(Verification{Trust: w.trust, At: at})
	require.NoError(b, err)
	took := time.Since(begin)
	runtime.ReadMemStats(&after)
	require.True(b, r.Proven(rep))
	figure(fmt.Sprintf("pec: all memory ever asked for while a message of %.1f MB is verified", float64(info.Size())/1e6),
		float64(after.TotalAlloc-before.TotalAlloc)/1e6, "MB", "< 16")
	figure("pec: the same, time", float64(took.Milliseconds()), "ms", "-")
}

// reportState derives the state of a message from its facts, four for each recipient.
func reportState(b *testing.B, n int) {
	var who []string
	facts := []Fact{{Kind: FactAccepted, At: at, Identificativo: "1"}}
	for i := range n {
		a := fmt.Sprintf("r%d@beta.test", i)
		who = append(who, a)
		for _, k := range []FactKind{FactNotice, FactFailed, FactDelivered} {
			facts = append(facts, Fact{Kind: k, At: at.Add(time.Duration(k) * time.Hour), Recipient: a, Identificativo: "1"})
		}
	}
	begin, times := cpu(b), 0
	for cpu(b)-begin < time.Second {
		require.Len(b, Derive(who, facts, at.Add(time.Hour)).Recipients, n)
		times++
	}
	figure(fmt.Sprintf("pec: state of a message to %d recipients from %d facts", n, len(facts)), (cpu(b)-begin).Seconds()*1000/float64(times), "ms", "< 5 at 1000, linear")
}
