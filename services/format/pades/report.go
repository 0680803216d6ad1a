package pades

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms"
)

// Kind tells what a signature field holds.
type Kind string

// The kinds.
const (
	KindSignature Kind = "signature"
	KindTimestamp Kind = "document-time-stamp"
)

// Level is how far a signature goes. LT and LTA are recognised by their parts; the revocation
// data in them is not judged.
type Level string

// The levels. spec: EN319142-1 §6.3
const (
	LevelCMS Level = "PDF-CMS" // no signing-certificate attribute or another SubFilter: not PAdES
	LevelBB  Level = "PAdES-B-B"
	LevelBT  Level = "PAdES-B-T"
	LevelLT  Level = "PAdES-B-LT"
	LevelLTA Level = "PAdES-B-LTA"
)

// Modification is the heaviest kind of change that came after a signature.
type Modification int

// The kinds of change, the lighter first.
const (
	Unchanged   Modification = iota
	LongTerm                 // validation data, time-stamps, metadata
	Signing                  // further signatures
	FormFilling              // values of form fields
	Annotations              // comments, and empty signature fields
	Content                  // anything else: what was signed may look different now
)

func (m Modification) String() string {
	return [...]string{"none", "long-term-material", "signing", "form-filling", "annotations", "content"}[m]
}

// MarshalText gives the name.
func (m Modification) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// Change is one difference between the signed revision and the file.
type Change struct {
	Kind   Modification `json:"kind"`
	Object uint32       `json:"object"` // number of the object it is in, 0 for the trailer
	What   string       `json:"what"`
}

// SignatureReport is what is true of one signature or document time-stamp.
type SignatureReport struct {
	Field     string `json:"field"`
	Kind      Kind   `json:"kind"`
	SubFilter string `json:"subFilter"`
	Level     Level  `json:"level,omitempty"` // of signatures

	// Stated by the signer, proved by nothing; Claimed is zero when it cannot be read.
	Name     string    `json:"name,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	Location string    `json:"location,omitempty"`
	Claimed  time.Time `json:"claimed"`

	ByteRange     [4]int64      `json:"byteRange"`
	WholeFile     bool          `json:"wholeFile"`     // nothing came after it
	Later         int           `json:"later"`         // cross-reference sections written after it
	Certification Certification `json:"certification"` // when this is the author's signature
	Modification  Modification  `json:"modification"`
	Changes       []Change      `json:"changes,omitempty"` // the first of them

	// Range: the byte range leaves out the signature value and nothing else.
	Range cms.Check `json:"range"`
	// Structure: the signed bytes are a whole document that holds this signature.
	Structure cms.Check `json:"structure"`
	// Later changes are of a kind that the signatures of the file allow.
	ChangesAllowed cms.Check `json:"changesAllowed"`
	// Signature is the CMS with its stamps; nil for a document time-stamp, or when it cannot be read.
	Signature *cades.SignerReport `json:"signature,omitempty"`
	// Stamp of a document time-stamp.
	Stamp *cades.StampReport `json:"stamp,omitempty"`
	// CMS is the signature or token as it stands in the file, without the padding; nil when it
	// cannot be read.
	CMS []byte `json:"-"`
	// Format: the CMS can be read, and is what the SubFilter promises.
	Format   cms.Check `json:"format"`
	Warnings []string  `json:"warnings,omitempty"`
}

// Revision is how many bytes of the file the signer had before him: the file cut there is the
// document that was signed, with this signature in it.
func (r *SignatureReport) Revision() int64 { return r.ByteRange[2] + r.ByteRange[3] }

// Time is that of the first stamp that holds, and whether there is one.
func (r *SignatureReport) Time() (time.Time, bool) {
	if r.Stamp != nil {
		return r.Stamp.Time, r.Stamp.Check.Verdict == cms.Passed
	}
	if r.Signature != nil {
		for _, s := range r.Signature.Stamps {
			if s.Check.Verdict == cms.Passed {
				return s.Time, true
			}
		}
	}
	return time.Time{}, false
}

// Err joins the failed checks, nil when the signature holds.
func (r *SignatureReport) Err() error {
	var bad []string
	for _, c := range []cms.NamedCheck{
		{Name: "byte range", Check: r.Range}, {Name: "structure", Check: r.Structure},
		{Name: "later changes", Check: r.ChangesAllowed}, {Name: "format", Check: r.Format},
	} {
		if c.Verdict == cms.Failed {
			bad = append(bad, c.Name+": "+c.Reason)
		}
	}
	switch {
	case r.Signature != nil:
		if err := r.Signature.SignerReport.Err(); err != nil {
			bad = append(bad, err.Error())
		}
		for _, s := range r.Signature.Stamps {
			if s.Check.Verdict == cms.Failed {
				bad = append(bad, "time-stamp: "+s.Check.Reason)
			}
		}
	case r.Stamp != nil:
		if r.Stamp.Check.Verdict != cms.Passed {
			bad = append(bad, "time-stamp: "+r.Stamp.Check.Reason)
		}
	case len(bad) == 0:
		bad = append(bad, "the signature could not be judged")
	}
	if len(bad) == 0 {
		return nil
	}
	return fmt.Errorf("pades: %s", strings.Join(bad, "; "))
}

// DSS is the document security store, counted and not judged. spec: EN319142-1 §5.4.2
type DSS struct {
	Certificates int `json:"certificates"`
	CRLs         int `json:"crls"`
	OCSPs        int `json:"ocsps"`
	VRI          int `json:"vri"` // signatures with a list of their own
}

// Report is what is true of a PDF.
type Report struct {
	Signatures []SignatureReport `json:"signatures"` // in the order of the signed ranges
	Revisions  int               `json:"revisions"`  // cross-reference sections; 0 when the table was rebuilt
	Certified  Certification     `json:"certified"`
	DSS        *DSS              `json:"dss,omitempty"`
	Warnings   []string          `json:"warnings,omitempty"`
}

// ErrUnsigned: there is no signature in the file.
var ErrUnsigned = errors.New("pades: the file holds no signature")

// Err is nil when there is at least one signature and all of them hold.
func (r *Report) Err() error {
	if len(r.Signatures) == 0 {
		if len(r.Warnings) > 0 {
			return fmt.Errorf("%w: %s", ErrUnsigned, strings.Join(r.Warnings, "; "))
		}
		return ErrUnsigned
	}
	for i := range r.Signatures {
		s := &r.Signatures[i]
		if err := s.Err(); err != nil {
			return fmt.Errorf("%s %q (%d of %d): %w", s.Kind, s.Field, i+1, len(r.Signatures), err)
		}
	}
	return nil
}

func pass(format string, args ...any) cms.Check {
	return cms.Check{Verdict: cms.Passed, Reason: fmt.Sprintf(format, args...)}
}

func fail(format string, args ...any) cms.Check {
	return cms.Check{Verdict: cms.Failed, Reason: fmt.Sprintf(format, args...)}
}

func unjudged(format string, args ...any) cms.Check {
	return cms.Check{Verdict: cms.NotJudged, Reason: fmt.Sprintf(format, args...)}
}
