package pec

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// REMMessage is a message of European registered mail as its header and evidence tell it. Reading
// only: PEC is in full use, and no date was found on which REM replaces it.
// spec: EN319532-3 §6, §7; REM-Policy-IT-1.2
type REMMessage struct {
	Dispatch      bool   // brings a message; else it is a receipt about one
	Event         string // last part of the event's URI, e.g. ContentConsignment
	Reason        string // last part of the reason's URI
	EvidenceID    string
	UAMessageID   string // the sender's identifier: what X-Riferimento-Message-ID is for PEC
	InReplyTo     string
	Policies      []string
	Metadata      string // version of the headers
	Evidence      []REMEvidence
	Original      *Part  // part rem_message/original
	Digest        []byte // SHA-256 of the original as the header says
	DigestMatches string // how the original was hashed to match: "exact", "final-crlf"; "" when it does not
	Findings      Findings
}

// REMEvidence is one evidence. It has an XAdES signature of its own, which format/xades checks
// over XML; here it is only read.
type REMEvidence struct {
	Part      *Part
	XML       []byte
	ID        string
	Event     string
	Reasons   []string // codes of the Italian policy such as RD01, or last parts of URIs
	Time      time.Time
	MessageID string
}

// Codes of findings about REM.
const (
	CodeREMEvidence = "REM_EVIDENCE"        // evidence missing or unreadable
	CodeREMMismatch = "REM_MISMATCH"        // header and evidence disagree
	CodeREMDigest   = "REM_DIGEST_MISMATCH" // the original is not the one of the digest
)

// maxEvidence bounds one evidence.
const maxEvidence = 1 << 20

// ReadREM reads a message of European registered mail; nil when it is none. It is never PEC: no
// receipt of PEC follows from it.
func (r *Reading) ReadREM() (*REMMessage, error) {
	h := r.Root.Header
	if r.Claim.Tipo != TipoREM {
		return nil, nil
	}
	m := &REMMessage{
		Dispatch: strings.HasSuffix(strings.ToLower(h.Get("REM-MessageType")), "/dispatch"),
		Event:    lastPart(h.Get("REM-EventIdentifier")), Reason: lastPart(h.Get("REM-ReasonIdentifier")),
		EvidenceID: h.MessageID("REM-Evidence-ID"), UAMessageID: h.MessageID("REM-UAMessageIdentifier"),
		InReplyTo: h.MessageID("In-Reply-To"), Policies: h.Values("REM-ApplicablePolicy"), Metadata: h.Get("REM-MetadataVersion"),
	}
	if strings.HasSuffix(h.Get("REM-DigestAlgorithm"), "#sha256") {
		m.Digest = lenientBase64([]byte(h.Get("REM-DigestValue")))
	}
	box := r.Signed
	if box == nil {
		box = r.Root
	}
	for _, p := range box.Parts {
		if strings.EqualFold(p.Header.Get("REM-Section-Type"), "rem_message/xml_evidence") {
			if err := m.evidence(p); err != nil {
				return nil, err
			}
		}
	}
	m.Original = r.Original
	m.judge()
	if m.Original == nil || len(m.Digest) == 0 {
		return m, nil
	}
	return m, m.compare()
}

// sectionOriginal is the part with the original, nil when there is none.
func sectionOriginal(box *Part) *Part {
	for _, p := range box.Parts {
		if strings.EqualFold(p.Header.Get("REM-Section-Type"), "rem_message/original") {
			return p
		}
	}
	return nil
}

func lastPart(uri string) string {
	return uri[strings.LastIndexAny(uri, "/#")+1:]
}

func (m *REMMessage) evidence(p *Part) error {
	raw, err := p.Bytes(maxEvidence)
	if err != nil {
		if isLimit(err) {
			m.Findings.add(CodeREMEvidence, Doubt, p.Start, "%v", err)
			return nil
		}
		return err
	}
	e, err := parseEvidence(raw)
	if err != nil {
		m.Findings.add(CodeREMEvidence, Doubt, p.Start, "%v", err)
		return nil
	}
	e.Part = p
	m.Evidence = append(m.Evidence, e)
	return nil
}

// parseEvidence reads what is needed by the names of elements, their namespaces apart (samples
// write half of them without). A DOCTYPE is refused, and so are a second document behind the first and an identifier, event
// or time that stands there twice: which of them is signed would be a matter of the reader. spec: EN319522-3 §5
func parseEvidence(raw []byte) (REMEvidence, error) {
	e := REMEvidence{XML: raw}
	dec := xml.NewDecoder(bytes.NewReader(raw))
	var path []string
	var text strings.Builder
	seen := map[string]bool{}
	for {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return e, fmt.Errorf("pec: evidence: %w", err)
		}
		switch t := tok.(type) {
		case xml.Directive:
			return e, errors.New("pec: evidence: a declaration that may not be here")
		case xml.StartElement:
			if len(path) == 0 && t.Name.Local != "Evidence" || len(path) > 32 {
				return e, fmt.Errorf("pec: evidence: unexpected element %q", t.Name.Local)
			}
			path = append(path, t.Name.Local)
			at := strings.Join(path, "/")
			if seen[at] && unrepeated[at] {
				return e, fmt.Errorf("pec: evidence: %s is there twice", at)
			}
			seen[at] = true
			text.Reset()
		case xml.CharData:
			text.Write(t)
		case xml.EndElement:
			e.set(strings.Join(path, "/"), strings.TrimSpace(text.String()))
			path = path[:len(path)-1]
			text.Reset()
		}
	}
	if e.ID == "" || e.Event == "" {
		return e, errors.New("pec: evidence: without identifier or event")
	}
	return e, nil
}

// unrepeated are the elements of evidence of which there is one.
var unrepeated = map[string]bool{"Evidence": true, "Evidence/EvidenceIdentifier": true, "Evidence/ERDSEventId": true, "Evidence/EventTime": true}

func (e *REMEvidence) set(path, v string) {
	switch path {
	case "Evidence/EvidenceIdentifier":
		e.ID = TrimID(v)
	case "Evidence/ERDSEventId":
		e.Event = lastPart(v)
	case "Evidence/EventTime":
		if t, err := time.Parse(time.RFC3339, v); err == nil {
			e.Time = t
		}
	case "Evidence/EventReasons/EventReason/Details":
		if remCode(v) {
			e.Reasons = append(e.Reasons, v)
		}
	case "Evidence/SubmissionInfo/MessageIdentifier", "Evidence/UserContentInfo/MessageIdentifier", "Evidence/MessageIdentifier":
		e.MessageID = TrimID(v)
	}
}

// remCode says whether v is a code of the Italian policy: RA01, RD21, ...
func remCode(v string) bool {
	return len(v) == 4 && v[0] == 'R' && strings.IndexByte("ABCDEF", v[1]) >= 0 && v[2] >= '0' && v[2] <= '9' && v[3] >= '0' && v[3] <= '9'
}

func (m *REMMessage) judge() {
	if len(m.Evidence) == 0 {
		m.Findings.add(CodeREMEvidence, Doubt, -1, "no evidence that can be read")
		return
	}
	for _, e := range m.Evidence {
		if e.ID == m.EvidenceID && e.Event == m.Event {
			return
		}
	}
	m.Findings.add(CodeREMMismatch, Doubt, -1, "no evidence has the identifier %q and the event %q of the header", m.EvidenceID, m.Event)
}

// compare hashes the original: the second CRLF at its end belongs to the delimiter, and samples
// differ in whether the first one is counted. spec: REM-Policy-IT-1.2 §2.7
func (m *REMMessage) compare() error {
	h := sha256.New()
	if _, err := io.Copy(h, m.Original.Body()); err != nil {
		return fmt.Errorf("pec: hash original: %w", err)
	}
	switch {
	case bytes.Equal(h.Sum(nil), m.Digest):
		m.DigestMatches = "exact"
	default:
		h.Write([]byte("\r\n"))
		if bytes.Equal(h.Sum(nil), m.Digest) {
			m.DigestMatches = "final-crlf"
			return nil
		}
		m.Findings.add(CodeREMDigest, Doubt, m.Original.Start, "the original does not hash to %s", base64.StdEncoding.EncodeToString(m.Digest))
	}
	return nil
}
