package trustlist

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"ceralacca.dev/services/format/xades"
)

// ErrUnanchored: nothing that the caller trusts says who signs the list.
var ErrUnanchored = errors.New("nobody that is trusted signs this list: give the certificate that signs it, or the list of the lists that names it")

// ExpiredError: a list is past its next update.
type ExpiredError struct {
	Territory string
	Next, At  time.Time
}

func (e *ExpiredError) Error() string {
	return fmt.Sprintf("trustlist: the list of %s was to be replaced by %s, and it is %s: get the new one", e.Territory,
		e.Next.UTC().Format(time.RFC3339), e.At.UTC().Format(time.RFC3339))
}

// Trust is what verified lists say together.
type Trust struct {
	Services []*Service
	Lists    []*List // in the order in which they were given
}

// Load reads and verifies lists. signers are the certificates that the caller trusts to sign the
// list of the lists (those of the Official Journal), or a national list that is used by itself.
// Several LOTLs are pivots: in order of their sequence numbers each is verified by what the one
// before names, the first by signers. Any list that does not verify, or that is expired at the
// time, is an error: there is no trust by halves. Errors: *ExpiredError, ErrUnanchored.
// spec: TS119612 §5.3.13, §5.3.15, §5.7; TS119615 §4.1 to §4.3
func Load(raws [][]byte, signers []*x509.Certificate, at time.Time) (*Trust, error) {
	t := &Trust{}
	var lotls, national []*List
	for i, raw := range raws {
		l, err := Parse(raw)
		if err != nil {
			return nil, fmt.Errorf("list %d of %d: %w", i+1, len(raws), err)
		}
		t.Lists = append(t.Lists, l)
		if l.LOTL {
			lotls = append(lotls, l)
		} else {
			national = append(national, l)
		}
	}
	top, err := follow(lotls, signers, at)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, l := range national {
		if seen[l.Territory] {
			return nil, fmt.Errorf("trustlist: two lists of %s: give one", l.Territory)
		}
		seen[l.Territory] = true
		who := slices.Clone(signers)
		if top != nil {
			who = top.named(l.Territory)
		}
		if err := l.verify(who); err != nil {
			return nil, err
		}
		if err := l.current(at); err != nil {
			return nil, err
		}
		t.Services = append(t.Services, l.Services...)
	}
	return t, nil
}

// Follow verifies a LOTL with its pivots, in any order, and gives the newest. It is for callers that
// take each national list by itself: see Admit. Errors: as of Load.
func Follow(raws [][]byte, signers []*x509.Certificate, at time.Time) (*List, error) {
	var lotls []*List
	for _, raw := range raws {
		l, err := Parse(raw)
		if err != nil {
			return nil, err
		}
		if !l.LOTL {
			return nil, fmt.Errorf("trustlist: the list of %s is no list of the lists", l.Territory)
		}
		lotls = append(lotls, l)
	}
	top, err := follow(lotls, signers, at)
	if err == nil && top == nil {
		err = errors.New("trustlist: no list of the lists was given")
	}
	if err != nil {
		return nil, err
	}
	return top, nil
}

// Admit verifies a national list by what a LOTL that Follow gave says of its territory.
// Errors: as of Load.
func (l *List) Admit(raw []byte, at time.Time) (*List, error) {
	national, err := Parse(raw)
	if err != nil {
		return nil, err
	}
	if national.LOTL {
		return nil, errors.New("trustlist: a list of the lists is no national list")
	}
	return national.admitted(l.named(national.Territory), at)
}

// Single verifies a national list by certificates that the caller trusts to sign it.
// Errors: as of Load.
func Single(raw []byte, signers []*x509.Certificate, at time.Time) (*List, error) {
	l, err := Parse(raw)
	if err != nil {
		return nil, err
	}
	if l.LOTL {
		return nil, errors.New("trustlist: a list of the lists is no national list")
	}
	return l.admitted(signers, at)
}

func (l *List) admitted(signers []*x509.Certificate, at time.Time) (*List, error) {
	if err := l.verify(signers); err != nil {
		return nil, err
	}
	return l, l.current(at)
}

// Current is nil while the list may be relied on. Errors: *ExpiredError.
func (l *List) Current(at time.Time) error { return l.current(at) }

// Pivots are the addresses of the pivots that lead from the certificates of the Official Journal
// to this list. spec: TS119615 §4.2; TS119612 §5.3.7
func (l *List) Pivots() []string {
	var out []string
	for _, uri := range l.Information {
		if strings.Contains(uri, "eur-lex.europa.eu") {
			break
		}
		if strings.HasSuffix(strings.ToLower(uri), ".xml") {
			out = append(out, uri)
		}
	}
	return out
}

// follow walks the pivots to the newest LOTL; only that one has to be current.
func follow(lotls []*List, signers []*x509.Certificate, at time.Time) (*List, error) {
	slices.SortStableFunc(lotls, func(a, b *List) int { return a.Sequence - b.Sequence })
	var top *List
	for _, l := range lotls {
		if top != nil && top.Sequence == l.Sequence {
			return nil, fmt.Errorf("trustlist: two lists of the lists have the sequence number %d: give one", l.Sequence)
		}
		if err := l.verify(signers); err != nil {
			return nil, err
		}
		top, signers = l, l.namedLOTL()
	}
	if top == nil {
		return nil, nil
	}
	return top, top.current(at)
}

func (l *List) named(territory string) []*x509.Certificate {
	var out []*x509.Certificate
	for _, p := range l.Pointers {
		if !p.LOTL && p.Territory == territory {
			out = append(out, p.Signers...)
		}
	}
	return out
}

func (l *List) namedLOTL() []*x509.Certificate {
	var out []*x509.Certificate
	for _, p := range l.Pointers {
		if p.LOTL {
			out = append(out, p.Signers...)
		}
	}
	return out
}

func (l *List) current(at time.Time) error {
	if l.Next.IsZero() || at.After(l.Next) {
		return &ExpiredError{l.Territory, l.Next, at}
	}
	return nil
}

// verify wants exactly one signature, over the whole list, by one of the certificates.
// spec: TS119612 §5.7.1, annex B
func (l *List) verify(by []*x509.Certificate) error {
	if len(by) == 0 {
		return fmt.Errorf("trustlist: list of %s: %w", l.Territory, ErrUnanchored)
	}
	report, err := xades.Verify(l.raw, xades.VerifyOptions{Intermediates: by})
	if err != nil {
		return fmt.Errorf("trustlist: list of %s: %w", l.Territory, err)
	}
	if len(report.Signatures) != 1 {
		return fmt.Errorf("trustlist: the list of %s has %d signatures, exactly 1 is expected", l.Territory, len(report.Signatures))
	}
	s := &report.Signatures[0]
	for _, c := range []xades.Check{s.Signature, s.References, s.Document} {
		if c.Verdict != xades.Passed {
			return fmt.Errorf("trustlist: the signature of the list of %s does not hold: %s", l.Territory, c.Reason)
		}
	}
	if s.Signer.Verdict == xades.Failed {
		return fmt.Errorf("trustlist: the signature of the list of %s does not hold: %s", l.Territory, s.Signer.Reason)
	}
	if !holds(by, s.Certificate) {
		return fmt.Errorf("trustlist: list of %s, signed by %s: %w", l.Territory, s.Certificate.Subject, ErrUnanchored)
	}
	l.signer = s.Certificate
	return nil
}

func holds(list []*x509.Certificate, cert *x509.Certificate) bool {
	return slices.ContainsFunc(list, func(c *x509.Certificate) bool { return bytes.Equal(c.Raw, cert.Raw) })
}

// Names says whether a LOTL names who signed a national list, which was verified: by an older LOTL
// perhaps, that named others.
func (l *List) Names(national *List) bool {
	return national.signer != nil && holds(l.named(national.Territory), national.signer)
}

// Find gives the services of a type that a certificate speaks for.
func (t *Trust) Find(cert *x509.Certificate, kind string) []*Service {
	if t == nil {
		return nil
	}
	var out []*Service
	for _, s := range t.Services {
		if s.Speaks(cert) && slices.ContainsFunc(s.History, func(st Status) bool { return st.Type == kind }) {
			out = append(out, s)
		}
	}
	return out
}

// Anchors gives the certificates of the services of a type whose status is granted at a time.
func (t *Trust) Anchors(kind string, at time.Time) []*x509.Certificate {
	if t == nil {
		return nil
	}
	var out []*x509.Certificate
	for _, s := range t.Services {
		if st, ok := s.At(at); ok && st.Type == kind && st.Granted() {
			out = append(out, s.Certificates...)
		}
	}
	return out
}
