// Package pecdiff holds the reader of certified mail to other readers of MIME: to enmime, to Python's email package and to Go's own.
package pecdiff

import (
	"bytes"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/pec"
)

// Where messages lie: those that our libraries have to write as they did before, and public ones where they are at hand.
var (
	goldenMail = filepath.Join("..", "..", "services", "format", "pec", "testdata", "golden")
	publicMail = filepath.Join("..", "..", "..", "shared", "reference", "pec", "samples")
)

// sample is a message before it is damaged.
type sample struct {
	raw    []byte
	issued bool   // by a provider whom the trust list names
	signed string // its daticert.xml, which the signature is over, without the carriage returns
}

// TestC19AgainstOtherParsers: every message at hand and damaged copies of them through our splitter, enmime, Python's email and
// Go's own packages. Where they do not read the same daticert.xml the message is refused, or what we read is byte by byte what
// its provider signed; what is proven no other reads otherwise. TESTPLAN C19.
func TestC19AgainstOtherParsers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := &differential{t: t, w: w, python: startPython(t)}
	samples := d.samples()
	rng := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same damage each time
	for done := 0; done < mutants; {
		var batch [][]byte
		var from []sample
		for len(batch) < min(2_500, mutants-done) {
			s := samples[rng.IntN(len(samples))]
			batch, from = append(batch, damage(rng, s.raw)), append(from, s)
		}
		d.compare(batch, from)
		done += len(batch)
	}
	t.Logf("%d messages, %d damaged copies: %d read alike by all four; of %d proven enmime read %d alike and nothing in %d, Go's own %d and nothing in %d; %d read in several ways were refused",
		len(samples), mutants, d.alike, d.proven, d.enmime, d.proven-d.enmime, d.golang, d.proven-d.golang, d.refused)
	require.Greater(t, d.proven, mutants/100)
	require.Greater(t, d.refused, mutants/100, "hardly any damage divides the readers: it shows nothing")
}

type differential struct {
	t                                      *testing.T
	w                                      *world
	python                                 *python
	alike, proven, enmime, golang, refused int
}

// samples are all messages at hand, with what all readers find in those that our providers issued.
func (d *differential) samples() []sample {
	d.t.Helper()
	issued := d.w.issued(d.t)
	golden, public := kept(d.t, goldenMail), kept(d.t, publicMail)
	require.NotEmpty(d.t, golden)
	d.t.Logf("%d messages of our providers, %d golden ones, %d public ones", len(issued), len(golden), len(public))
	all := append(append(issued, golden...), public...)
	python := d.python.read(d.t, all)
	out := make([]sample, len(all))
	for i, raw := range all {
		out[i] = sample{raw: raw, issued: i < len(issued)}
		if !out[i].issued {
			continue
		}
		r, err := pec.ReadBytes(raw)
		require.NoError(d.t, err)
		out[i].signed = lines(r)
		require.Equal(d.t, pec.StatusValid, d.w.verified(d.t, r).Status)
		require.Equal(d.t, r.Tipo() != pec.BustaAnomalia, python[i] != "", "an anomaly has no daticert.xml, all others have one")
		golang, legible := inGo(raw)
		require.True(d.t, legible)
		require.Equal(d.t, []string{python[i], python[i], python[i]}, []string{ours(r), inEnmime(raw), golang}, "an undamaged message of %s", r.Tipo())
	}
	d.compare(all, out)
	return out
}

// ours is what our reader finds.
func ours(r *pec.Reading) string {
	if r.DaticertXML == nil {
		return ""
	}
	return sum(r.DaticertXML)
}

// lines is what our reader finds whatever its lines end in: a copy may have lost carriage returns on its way, which are put back
// for the signature and not in what is read.
func lines(r *pec.Reading) string {
	return sum(bytes.ReplaceAll(r.DaticertXML, []byte("\r\n"), []byte("\n")))
}

// compare holds our reading of each message, made of the sample beside it, to those of the others.
func (d *differential) compare(messages [][]byte, from []sample) {
	d.t.Helper()
	python := d.python.read(d.t, messages)
	for i, m := range messages {
		r, err := pec.ReadBytes(m)
		if err != nil {
			continue
		}
		us, enmime := ours(r), inEnmime(m)
		golang, legible := inGo(m)
		alike := us == python[i] && us == enmime && us == golang
		valid := d.w.verified(d.t, r).Status == pec.StatusValid
		switch {
		case alike:
			d.alike++
		case !valid:
			d.refused++
		}
		if !valid || us == "" {
			continue // nothing is read: it is an anomaly, or does not say any more that it is certified mail
		}
		require.True(d.t, from[i].issued, "nobody whom the trust list names signed this\n%s", m)
		d.proven++
		require.Equal(d.t, from[i].signed, lines(r), "what is proven is not what was signed\n%s", m)
		require.Equal(d.t, us, python[i], "Python reads a proven message otherwise\n%s", m)
		if enmime == us {
			d.enmime++
		} else {
			require.Empty(d.t, enmime, "enmime reads a proven message otherwise\n%s", m)
		}
		if golang == us {
			d.golang++
		} else if legible { // it loses its way at a delimiter that ends in LF alone
			require.Empty(d.t, golang, "Go reads a proven message otherwise\n%s", m)
		}
	}
}

// forged is a part that an attacker would like to be read.
const forged = "Content-Type: application/xml; name=\"daticert.xml\"\r\n\r\n<?xml version=\"1.0\"?><postacert tipo=\"avvenuta-consegna\" errore=\"nessuno\"/>\r\n"

// damage changes a message as transports and attackers do: lines lost, doubled, moved, bytes changed, boundaries altered, parts
// put in, headers written so that readers differ.
func damage(rng *rand.Rand, raw []byte) []byte {
	lines := strings.SplitAfter(string(raw), "\r\n")
	for range 1 + rng.IntN(3) {
		i, j := rng.IntN(len(lines)), rng.IntN(len(lines))
		switch rng.IntN(9) {
		case 0:
			lines[i] = ""
		case 1:
			lines[i] += lines[j]
		case 2:
			lines[i], lines[j] = lines[j], lines[i]
		case 3:
			if b := []byte(lines[i]); len(b) > 2 {
				b[rng.IntN(len(b)-2)] = byte(rng.IntN(256))
				lines[i] = string(b)
			}
		case 4:
			lines[i] = strings.TrimSuffix(lines[i], "\r\n") + " \r\n"
		case 5:
			onLine(rng, lines, delimiter, func(l string) string {
				return strings.TrimSuffix(l, "\r\n") + []string{"x", "--", " ", "\t"}[rng.IntN(4)] + "\r\n"
			})
		case 6:
			lines[i] = strings.TrimSuffix(lines[i], "\r\n") + "\n"
		case 7:
			onLine(rng, lines, delimiter, func(l string) string {
				open := strings.TrimSuffix(strings.TrimRight(l, "\r\n"), "--") + "\r\n"
				return []string{open + forged + l, l + forged + open, forged + l, l + forged}[rng.IntN(4)]
			})
		case 8:
			onLine(rng, lines, func(l string) bool { return strings.Contains(l, "boundary=") }, func(l string) string {
				return strings.Replace(l, "boundary=", []string{
					"boundary=x; boundary=", "boundary*0=", "boundary*=", "BOUNDARY=", "boundary =", "(boundary=x) boundary=", "x=\"\\\"; boundary=",
				}[rng.IntN(7)], 1)
			})
		}
	}
	return []byte(strings.Join(lines, ""))
}

func delimiter(line string) bool { return strings.HasPrefix(line, "--") }

// onLine changes one of the lines that fit, if there are any.
func onLine(rng *rand.Rand, lines []string, fits func(string) bool, change func(string) string) {
	var at []int
	for k, l := range lines {
		if fits(l) {
			at = append(at, k)
		}
	}
	if len(at) > 0 {
		k := at[rng.IntN(len(at))]
		lines[k] = change(lines[k])
	}
}
