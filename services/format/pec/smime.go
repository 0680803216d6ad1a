package pec

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"strings"

	"ceralacca.dev/services/format/cms"
)

// SMIME is the signature that a person put on a message, as opposed to the provider's: usually
// on the original inside an envelope. It is judged apart and has no part in what is proven.
type SMIME struct {
	Opaque   bool // application/pkcs7-mime: the content is inside the signature
	Content  *Part
	Report   *cms.Report
	LineEnds string // "crlf-restored" when the copy had LF only
}

// ErrSMIME: the part claims to be signed and cannot be read so.
var ErrSMIME = errors.New("pec: the S/MIME signature cannot be read")

// VerifySMIME judges the S/MIME signature of a message or part: multipart/signed over the exact
// bytes, or application/pkcs7-mime with the content inside. nil when it is not signed; encrypted
// messages are not. o is as in package cms, Content apart. Errors: ErrSMIME, *LimitError, or the
// source's. spec: RFC8551 §3.5.2, §3.5.3
func (p *Part) VerifySMIME(o cms.VerifyOptions) (*SMIME, error) {
	switch p.MediaType {
	case "multipart/signed":
		var fs Findings
		signed, p7s := signedParts(p, &fs)
		if signed == nil {
			return nil, fmt.Errorf("%w: %s", ErrSMIME, codesOf(fs))
		}
		return signed.verifyDetached(p7s, o)
	case "application/pkcs7-mime", "application/x-pkcs7-mime":
		if t := strings.ToLower(p.Params["smime-type"]); t != "" && t != "signed-data" {
			return nil, nil
		}
		return p.verifyOpaque(o)
	}
	return nil, nil
}

func codesOf(fs Findings) string {
	var out []string
	for _, f := range fs {
		out = append(out, f.Message)
	}
	return strings.Join(out, "; ")
}

func (p *Part) verifyDetached(p7s *Part, o cms.VerifyOptions) (*SMIME, error) {
	raw, err := p7s.Bytes(1 << 20) // people's certificates come with long chains
	if err != nil {
		return nil, err
	}
	sd, err := cms.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSMIME, err)
	}
	if !sd.Detached {
		return nil, fmt.Errorf("%w: it brings its own content besides the message's", ErrSMIME)
	}
	s := &SMIME{Content: p}
	src := &countingReader{in: p.Raw()}
	o.Content = src
	if s.Report = sd.Verify(o); src.err != nil {
		return nil, fmt.Errorf("pec: read signed part: %w", src.err)
	}
	if intact(s.Report) || !(p.m.Findings.Has(CodeBareLF) || p.m.Findings.Has(CodeMixedEnds)) {
		return s, nil
	}
	src = &countingReader{in: p.Raw()}
	o.Content = &crlfReader{in: bufio.NewReaderSize(src, 32<<10)}
	again := sd.Verify(o)
	if src.err != nil {
		return nil, fmt.Errorf("pec: read signed part: %w", src.err)
	}
	if intact(again) {
		s.Report, s.LineEnds = again, "crlf-restored"
	}
	return s, nil
}

func intact(r *cms.Report) bool {
	for i := range r.Signers {
		if r.Signers[i].Digest.Verdict != cms.Passed {
			return false
		}
	}
	return len(r.Signers) > 0
}

// verifyOpaque takes the content out of the signature; it is a MIME entity of its own.
func (p *Part) verifyOpaque(o cms.VerifyOptions) (*SMIME, error) {
	raw, err := p.Bytes(0)
	if err != nil {
		return nil, err
	}
	sd, err := cms.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSMIME, err)
	}
	if sd.Detached {
		return nil, fmt.Errorf("%w: there is no content inside", ErrSMIME)
	}
	s := &SMIME{Opaque: true, Report: sd.Verify(o)}
	m, err := Parse(bytes.NewReader(sd.Content()), int64(len(sd.Content())), p.m.lim)
	if err != nil {
		if errors.Is(err, ErrEmpty) {
			return nil, fmt.Errorf("%w: %w", ErrSMIME, err)
		}
		return nil, err
	}
	s.Content = m.Root
	return s, nil
}
