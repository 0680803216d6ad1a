package dossier

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// Version of the form of audit.json.
const Version = 1

// Trail is audit.json.
type Trail struct {
	Version      int           `json:"version"`
	Request      Request       `json:"request"`
	Documents    []Document    `json:"documents"`
	Participants []Participant `json:"participants"`
	Events       []Line        `json:"events"`
	// Head is the hash of the last line, hexadecimal.
	Head string `json:"head"`
}

// Request is what the trail is about. Times are RFC 3339, UTC.
type Request struct {
	Name      string `json:"name"`
	Title     string `json:"title"`
	Requester string `json:"requester"`
	State     string `json:"state"` // COMPLETED, REFUSED, WITHDRAWN, EXPIRED
	Reason    string `json:"reason,omitempty"`
	Created   string `json:"created"`
	Deadline  string `json:"deadline"`
	Closed    string `json:"closed"`
}

// Document is one of the documents, by the paths of its files in the ZIP.
type Document struct {
	Position int    `json:"position"`
	Name     string `json:"name"`
	Form     string `json:"form"` // CADES_ATTACHED, CADES_PARALLEL, XADES_ENVELOPED, PADES
	Original File   `json:"original"`
	Signed   *File  `json:"signed,omitempty"`
}

// File is a member of the ZIP.
type File struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"` // hexadecimal
	Size   int64  `json:"size"`
}

// Participant is somebody who was asked.
type Participant struct {
	Name     string `json:"name"`
	Role     string `json:"role"`
	Step     int    `json:"step"` // from 1
	Standing string `json:"standing"`
	Holder   string `json:"holder,omitempty"`
	Email    string `json:"email,omitempty"`
}

// Line is one line of the trail: its body as canonical JSON, and the hash of exactly that.
type Line struct {
	Body   json.RawMessage `json:"body"`
	SHA256 string          `json:"sha256"`
}

// Event is the body of a line.
type Event struct {
	Request  string `json:"request"`
	Sequence int64  `json:"sequence"` // from 1, without gaps
	Time     string `json:"time"`
	Action   string `json:"action"`
	// Actor is the caller, as the audit record has it.
	Actor       string `json:"actor"`
	Participant string `json:"participant,omitempty"`
	// State of the request after it.
	State  string            `json:"state"`
	Detail map[string]string `json:"detail,omitempty"`
	// Documents are what was seen, and what became of it.
	Documents []Digest `json:"documents,omitempty"`
	// Previous is the hash of the line before; 64 zeroes of the first.
	Previous string `json:"previous"`
}

// Digest is a document in an event, hexadecimal.
type Digest struct {
	Position int    `json:"position"`
	Seen     string `json:"seen"`             // SHA-256 of what was before the participant
	Signed   string `json:"signed,omitempty"` // SHA-256 of the signed file
}

// Beginning is what the first line names as the one before.
var Beginning = make([]byte, sha256.Size)

// Encode gives the line of an event after the one with the hash previous, and its hash.
func (e Event) Encode(previous []byte) (body, hash []byte, err error) {
	e.Previous = hex.EncodeToString(previous)
	body, err = Canonical(e)
	if err != nil {
		return nil, nil, err
	}
	sum := sha256.Sum256(body)
	return body, sum[:], nil
}

// ParseEvent reads the body of a line. Fields that it does not know are refused.
func ParseEvent(body []byte) (Event, error) {
	var e Event
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return e, fmt.Errorf("dossier: event: %w", err)
	}
	return e, nil
}

// BrokenError says where a trail is not whole.
type BrokenError struct {
	Sequence int64
	Reason   string
}

func (e *BrokenError) Error() string {
	return fmt.Sprintf("dossier: the audit trail is broken at line %d: %s", e.Sequence, e.Reason)
}

// Check reads the lines of a trail: numbered without gaps from 1, in canonical form, each with its own hash
// and that of the one before, all about one request, up to the line with the hash head (hexadecimal). The error
// is a *BrokenError.
func Check(name string, lines []Line, head string) ([]Event, error) {
	previous := hex.EncodeToString(Beginning)
	events := make([]Event, 0, len(lines))
	for i, line := range lines {
		at := int64(i + 1)
		broken := func(format string, a ...any) ([]Event, error) {
			return nil, &BrokenError{at, fmt.Sprintf(format, a...)}
		}
		same, err := canonicalOf(line.Body)
		if err != nil || !bytes.Equal(same, line.Body) {
			return broken("it is not canonical JSON")
		}
		if sum := sha256.Sum256(line.Body); hex.EncodeToString(sum[:]) != line.SHA256 {
			return broken("its hash is not that of its body")
		}
		e, err := ParseEvent(line.Body)
		if err != nil {
			return broken("it cannot be read: %v", err)
		}
		switch {
		case e.Sequence != at:
			return broken("it has the number %d: a line is missing or was put in", e.Sequence)
		case e.Previous != previous:
			return broken("it follows another line than the one before it")
		case e.Request != name:
			return broken("it is about %s", e.Request)
		}
		previous = line.SHA256
		events = append(events, e)
	}
	if previous != head {
		return nil, &BrokenError{int64(len(lines) + 1), "the trail does not end with the line that is named as the last"}
	}
	return events, nil
}
