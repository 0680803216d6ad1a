package pec

import (
	"bytes"
	"fmt"
	"io"
	"syscall"
	"testing"
	"time"
)

// cpu is the processor time of this process: what counts on a machine that others use too.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// perCPU reports how many operations a second of processor time was good for.
func perCPU(b *testing.B, start time.Duration, unit string) {
	b.Helper()
	b.ReportMetric(float64(b.N)/(cpu(b)-start).Seconds(), unit+"/cpu-s")
}

// receiptOf makes a complete delivery receipt of about size bytes.
func receiptOf(b *testing.B, w *world, p Profile, size int) []byte {
	b.Helper()
	d := draft()
	d.Attachments = []File{BytesFile("a.bin", "", bytes.Repeat([]byte("0123456789abcdef"), max(size*7/10/16, 1)))}
	g := *w.beta
	g.Profile = p
	act, err := arrived(b, w, d).Consegna(at, "protocollo@beta.test")
	if err != nil {
		b.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := g.Write(b.Context(), &out, act); err != nil {
		b.Fatal(err)
	}
	return out.Bytes()
}

// BenchmarkReceipt reads, classifies, parses and verifies a receipt. Asked for: more than 3,000
// of 20 kB per second and core.
func BenchmarkReceipt(b *testing.B) {
	w := newWorld(b)
	for _, p := range []Profile{ProfilePlain, ProfileAruba, ProfileLegalmail} {
		b.Run(p.Name+"/20kB", func(b *testing.B) {
			raw := receiptOf(b, w, p, 14_000)
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			chains := &ChainCache{}
			start := cpu(b)
			for b.Loop() {
				r, err := ReadBytes(raw)
				if err != nil {
					b.Fatal(err)
				}
				rep, err := r.Verify(Verification{Trust: w.trust, At: at, Now: at, Chains: chains})
				if err != nil || !r.Proven(rep) {
					b.Fatal(err, rep.Status, rep.Reason)
				}
			}
			perCPU(b, start, "messages")
		})
	}
}

// BenchmarkParse is the structure alone.
func BenchmarkParse(b *testing.B) {
	w := newWorld(b)
	for _, size := range []int{14_000, 30 << 20} {
		b.Run(fmt.Sprintf("%dkB", size>>10), func(b *testing.B) {
			raw := receiptOf(b, w, ProfilePlain, size)
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			start := cpu(b)
			for b.Loop() {
				if _, err := ParseBytes(raw); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*float64(len(raw))/1e6/(cpu(b)-start).Seconds(), "MB/cpu-s")
		})
	}
}

// BenchmarkWrite issues an acceptance: one RSA signature and little else.
func BenchmarkWrite(b *testing.B) {
	w := newWorld(b)
	act := transit(b, draft()).Accettazione(at)
	start := cpu(b)
	for b.Loop() {
		if _, err := w.alfa.Write(b.Context(), io.Discard, act); err != nil {
			b.Fatal(err)
		}
	}
	perCPU(b, start, "messages")
}

// BenchmarkDerive is the state of a message with 1,000 recipients and 3,001 facts. Asked for:
// under 5 ms.
func BenchmarkDerive(b *testing.B) {
	var who []string
	facts := []Fact{{Kind: FactAccepted, At: at, Identificativo: "1"}}
	for i := range 1000 {
		a := fmt.Sprintf("r%d@beta.test", i)
		who = append(who, a)
		for k, h := range map[FactKind]int{FactNotice: 12, FactFailed: 24, FactDelivered: 30} {
			facts = append(facts, Fact{Kind: k, At: at.Add(time.Duration(h) * time.Hour), Recipient: a, Identificativo: "1"})
		}
	}
	start := cpu(b)
	for b.Loop() {
		if s := Derive(who, facts, at.Add(time.Hour)); s.State != SendDelivered {
			b.Fatal(s.State)
		}
	}
	perCPU(b, start, "states")
}
