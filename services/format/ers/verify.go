package ers

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"ceralacca.dev/services/format/tsp"
)

// Fault names the check that a record failed.
type Fault string

// The checks of a record.
const (
	FaultData      Fault = "data"      // a data object is not the one that was stamped
	FaultGroup     Fault = "group"     // the group has other members than those given
	FaultRoot      Fault = "root"      // the hash tree does not lead to the stamped value
	FaultLink      Fault = "link"      // a renewal does not cover the stamp before it
	FaultAlgorithm Fault = "algorithm" // an algorithm is not listed, changes inside a chain, or differs from the token's
	FaultToken     Fault = "token"     // a time-stamp token does not hold
	FaultOrder     Fault = "order"     // the times of the stamps do not ascend
	FaultLate      Fault = "late"      // a stamp or an algorithm had ended before its renewal
)

// EvidenceError: the record does not prove what it should.
type EvidenceError struct {
	Fault  Fault  `json:"fault"`
	Chain  int    `json:"chain"` // from 1
	Stamp  int    `json:"stamp"` // from 1; 0: the chain as a whole
	Reason string `json:"reason"`
	Err    error  `json:"-"` // of the token, or nil
}

func (e *EvidenceError) Error() string {
	s := fmt.Sprintf("ers: %s: chain %d", e.Fault, e.Chain)
	if e.Stamp > 0 {
		s += fmt.Sprintf(", stamp %d", e.Stamp)
	}
	return s + ": " + e.Reason
}

func (e *EvidenceError) Unwrap() error { return e.Err }

// VerifyOptions says what to judge by.
type VerifyOptions struct {
	Roots         *x509.CertPool // nil: the authorities' chains are not judged
	Intermediates []*x509.Certificate
	// At is when the last stamp must still hold; zero: only that each held when the next was made.
	At time.Time
	// Whole wants the objects given to be the whole group: no other hash beside theirs in the
	// first list. It cannot be had for a single object whose list has its siblings in the tree.
	Whole bool
	// Horizon is until when an algorithm is trusted; one without an entry is always trusted.
	Horizon map[crypto.Hash]time.Time
}

// StampReport is one archive time stamp of the record.
type StampReport struct {
	Chain    int       `json:"chain"`             // from 1
	Stamp    int       `json:"stamp"`             // from 1
	Hash     string    `json:"hash"`              // for example "SHA-256"
	Time     time.Time `json:"time"`              // as the token states it
	NotAfter time.Time `json:"notAfter,omitzero"` // of the authority's certificate; zero: the token has none
	Others   int       `json:"others"`            // hashes in the first list that are not of what this stamp is about
}

// Report is what a record proved, or why it proves nothing.
type Report struct {
	Since  time.Time        `json:"since"`          // the objects existed by then; means nothing when there are faults
	Until  time.Time        `json:"until,omitzero"` // renew before: the end of the last authority's certificate, or of the algorithm
	Stamps []StampReport    `json:"stamps"`
	Faults []*EvidenceError `json:"faults,omitempty"` // in the order of the record; empty: it holds
}

func (r *Report) fault(f Fault, chain, stamp int, err error, format string, args ...any) {
	r.Faults = append(r.Faults, &EvidenceError{f, chain + 1, stamp + 1, fmt.Sprintf(format, args...), err})
}

// Verify checks the record against its data objects: every one must be in it, and every stamp must
// follow from the one before. The error is the first of the report's faults, an *EvidenceError; it
// comes with the whole report. A data object that cannot be read gives its own error, and no report.
// spec: RFC4998 §3.3, §4.3, §5.3
func (r *Record) Verify(objects []Object, o VerifyOptions) (*Report, error) {
	if len(objects) == 0 {
		return nil, errors.New("ers: a record is verified against its data objects: none was given")
	}
	rep := &Report{}
	for i, c := range r.Chains {
		if h := c.Stamps[0].Hash; !slices.Contains(r.Hashes, h) {
			rep.fault(FaultAlgorithm, i, -1, nil, "%v is not among the record's algorithms", h)
		}
		if err := r.verifyChain(i, objects, o, rep); err != nil {
			return nil, err
		}
	}
	rep.Since = rep.Stamps[0].Time
	last := rep.Stamps[len(rep.Stamps)-1]
	rep.Until = last.NotAfter
	if end, ok := o.Horizon[r.last().Hash]; ok && (rep.Until.IsZero() || end.Before(rep.Until)) {
		rep.Until = end
	}
	if len(rep.Faults) > 0 {
		return rep, rep.Faults[0]
	}
	return rep, nil
}

func (r *Record) verifyChain(i int, objects []Object, o VerifyOptions, rep *Report) error {
	c := r.Chains[i]
	h := c.Stamps[0].Hash
	wanted, err := digests(h, objects, evidence(h, r.Chains[:i]))
	if err != nil {
		return err
	}
	for j := range c.Stamps {
		s := &c.Stamps[j]
		missing, why := FaultData, "a data object is not among those that it is about"
		if i > 0 {
			why = "the data objects with the evidence before are not what it is about"
		}
		if j > 0 {
			wanted = [][]byte{sum(h, c.Stamps[j-1].TokenRaw)}
			missing, why = FaultLink, "it does not cover the stamp before it"
		}
		root, others, ok := s.cover(wanted)
		switch {
		case s.Hash != h:
			rep.fault(FaultAlgorithm, i, j, nil, "it uses %v in a chain of %v", s.Hash, h)
		case s.Token.Info.Hash != h:
			rep.fault(FaultAlgorithm, i, j, nil, "its tree uses %v, its token %v", h, s.Token.Info.Hash)
		case !ok:
			rep.fault(missing, i, j, nil, "%s", why)
		case o.Whole && j == 0 && others > 0:
			rep.fault(FaultGroup, i, j, nil, "%d hashes beside those of the objects given", others)
		case !bytes.Equal(root, s.Token.Info.Digest):
			rep.fault(FaultRoot, i, j, nil, "the hash tree leads to %x, the token stamps %x", root, s.Token.Info.Digest)
		}
		r.verifyToken(i, j, o, rep)
		rep.Stamps = append(rep.Stamps, StampReport{i + 1, j + 1, h.String(), s.Token.Info.Time.UTC(), s.notAfter(o), others})
	}
	return nil
}

// cover looks for the values in the first list and gives the root over the tree. Without a tree
// the one value is the root.
func (s *Stamp) cover(wanted [][]byte) (root []byte, others int, ok bool) {
	if len(s.Tree) == 0 {
		if len(wanted) != 1 || !bytes.Equal(wanted[0], s.Token.Info.Digest) {
			return nil, 0, false
		}
		return wanted[0], 0, true
	}
	left := make(map[string]int, len(s.Tree[0]))
	for _, v := range s.Tree[0] {
		left[string(v)]++
	}
	for _, w := range wanted {
		if left[string(w)] == 0 {
			return nil, 0, false
		}
		left[string(w)]--
	}
	return fold(s.Hash, s.Tree), len(s.Tree[0]) - len(wanted), true
}

func (s *Stamp) notAfter(o VerifyOptions) time.Time {
	if len(s.Token.Signed.Signers) == 1 {
		if c := s.Token.Signed.Signers[0].Certificate(s.Token.Signed.Certificates, o.Intermediates); c != nil {
			return c.NotAfter
		}
	}
	return time.Time{}
}

// last is the stamp that a renewal is about.
func (r *Record) last() *Stamp {
	stamps := r.Chains[len(r.Chains)-1].Stamps
	return &stamps[len(stamps)-1]
}

// successor is the stamp that renewed this one, nil for the last.
func (r *Record) successor(i, j int) *Stamp {
	switch {
	case j+1 < len(r.Chains[i].Stamps):
		return &r.Chains[i].Stamps[j+1]
	case i+1 < len(r.Chains):
		return &r.Chains[i+1].Stamps[0]
	}
	return nil
}

// verifyToken: the token itself holds, and held when it was renewed. spec: RFC4998 §5.3
func (r *Record) verifyToken(i, j int, o VerifyOptions, rep *Report) {
	s := &r.Chains[i].Stamps[j]
	at := o.At
	next := r.successor(i, j)
	if next != nil {
		at = next.Token.Info.Time
		if at.Before(s.Token.Info.Time) {
			rep.fault(FaultOrder, i, j, nil, "it is of %s, and the stamp after it of %s", stamp(s.Token.Info.Time), stamp(at))
		}
	}
	if at.IsZero() {
		at = s.Token.Info.Time
	}
	if next == nil && at.Before(s.Token.Info.Time) {
		rep.fault(FaultOrder, i, j, nil, "it is of %s, which is after the time of judgement, %s", stamp(s.Token.Info.Time), stamp(at))
	}
	if end := s.notAfter(o); !end.IsZero() && at.After(end) {
		rep.fault(FaultLate, i, j, nil, "its certificate ended on %s, before %s", stamp(end), stamp(at))
	}
	// A chain's algorithm must have lasted until the tree was made anew with another.
	if j == len(r.Chains[i].Stamps)-1 {
		if end, ok := o.Horizon[s.Hash]; ok && at.After(end) {
			rep.fault(FaultLate, i, j, nil, "%v was trusted until %s, before %s", s.Hash, stamp(end), stamp(at))
		}
	}
	// Whether it stamps the right value was looked at above: here, whether it is a stamp at all.
	err := s.Token.Verify(tsp.VerifyOptions{Digest: s.Token.Info.Digest, Roots: o.Roots, At: at, Intermediates: o.Intermediates})
	if err != nil {
		rep.fault(FaultToken, i, j, err, "the token does not hold: %v", err)
	}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
