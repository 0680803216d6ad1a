package pec

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"
)

// OriginalCheck is the comparison of the original in a complete receipt, or in an envelope, with
// the message that was sent.
type OriginalCheck struct {
	Body    bool     // the bodies are the same bytes
	Variant string   // "exact", "final-line-end", "line-ends": what had to be overlooked
	Changed []string // names of fields that are missing, or have another value
}

// Same says whether it is the message that was sent: the same body and the same fields, but for
// those that providers have to change.
func (c *OriginalCheck) Same() bool { return c.Body && len(c.Changed) == 0 }

// CheckOriginal compares. Providers replace Message-ID, add X-Riferimento-Message-ID and trace
// fields; everything else has to be as it was. Bodies are compared by their bytes, then without
// line ends at the end, then whatever their line ends. An error is a source's.
// spec: RFC6109 §2.2.1, §3.3.2.1
func CheckOriginal(receipt, sent *Part) (*OriginalCheck, error) {
	c := &OriginalCheck{}
	c.compareHeaders(receipt.Header, sent.Header)
	theirs, err := bodySums(receipt)
	if err != nil {
		return nil, err
	}
	ours, err := bodySums(sent)
	if err != nil {
		return nil, err
	}
	for i, variant := range []string{"exact", "final-line-end", "line-ends"} {
		if theirs[i] == ours[i] {
			c.Body, c.Variant = true, variant
			break
		}
	}
	return c, nil
}

// compareHeaders looks for every field that was sent.
func (c *OriginalCheck) compareHeaders(got, sent Header) {
	used := make([]bool, len(got))
	for _, f := range sent {
		if strings.EqualFold(f.Name, "Message-ID") || strings.EqualFold(f.Name, HeaderRiferimento) {
			continue
		}
		found := false
		for i, g := range got {
			if !used[i] && strings.EqualFold(f.Name, g.Name) && sameValue(f.Value, g.Value) {
				used[i], found = true, true
				break
			}
		}
		if !found && !slices.Contains(c.Changed, f.Name) {
			c.Changed = append(c.Changed, f.Name)
		}
	}
}

// sameValue overlooks how a field is folded.
func sameValue(a, b string) bool {
	return a == b || strings.Join(strings.Fields(a), " ") == strings.Join(strings.Fields(b), " ")
}

// bodySums hashes a body in three forms: as it stands, without line ends at its end, and with LF
// for every line end besides.
func bodySums(p *Part) ([3][sha256.Size]byte, error) {
	exact := sha256.New()
	trimmed := &endTrimmer{h: sha256.New()}
	unix := &endTrimmer{h: sha256.New(), lf: true}
	var sums [3][sha256.Size]byte
	if _, err := io.Copy(io.MultiWriter(exact, trimmed, unix), p.Body()); err != nil {
		return sums, fmt.Errorf("pec: read body: %w", err)
	}
	exact.Sum(sums[0][:0])
	trimmed.h.Sum(sums[1][:0])
	unix.h.Sum(sums[2][:0])
	return sums, nil
}

// endTrimmer hashes everything but line ends at the end.
type endTrimmer struct {
	h       hash.Hash
	lf      bool // CR counts for nothing
	pending []byte
}

// maxPending bounds the line ends kept back; a longer run of them is content.
const maxPending = 1 << 16

func (e *endTrimmer) Write(b []byte) (int, error) {
	n := len(b)
	if e.lf {
		b = bytes.ReplaceAll(b, []byte{'\r'}, nil)
	}
	kept := bytes.TrimRight(b, "\r\n")
	if len(kept) > 0 {
		e.h.Write(e.pending)
		e.h.Write(kept)
		e.pending = e.pending[:0]
	}
	e.pending = append(e.pending, b[len(kept):]...)
	if len(e.pending) > maxPending {
		e.h.Write(e.pending)
		e.pending = e.pending[:0]
	}
	return n, nil
}
