package tlog

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Request asks a witness to cosign. spec: C2SP-witness §add-checkpoint
type Request struct {
	Old        int64  // size that the witness is believed to have seen last
	Proof      []Hash // consistency from Old to the checkpoint
	Checkpoint []byte // the signed note
}

// Marshal gives the body of the request.
func (r *Request) Marshal() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "old %d\n", r.Old)
	for _, h := range r.Proof {
		fmt.Fprintln(&b, h)
	}
	b.WriteByte('\n')
	b.Write(r.Checkpoint)
	return b.Bytes()
}

// ParseRequest reads the body of a request; the checkpoint in it is not judged.
func ParseRequest(raw []byte) (*Request, error) {
	if len(raw) > maxNote+maxProof*64 {
		return nil, fmt.Errorf("tlog: request of %d bytes is too long", len(raw))
	}
	head, checkpoint, ok := bytes.Cut(raw, []byte("\n\n"))
	if !ok {
		return nil, errors.New("tlog: request: an empty line before the checkpoint is expected")
	}
	lines := strings.Split(string(head), "\n")
	old, ok := strings.CutPrefix(lines[0], "old ")
	if !ok {
		return nil, errors.New("tlog: request, line 1: old and a size are expected")
	}
	r := &Request{Checkpoint: checkpoint}
	var err error
	if r.Old, err = parseSize(old); err != nil {
		return nil, fmt.Errorf("tlog: request, line 1: %w", err)
	}
	if r.Proof, err = parseProof(lines[1:]); err != nil {
		return nil, fmt.Errorf("tlog: request: %w", err)
	}
	if _, _, err := sigLines(checkpoint); err != nil {
		return nil, err
	}
	return r, nil
}

func parseSize(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != s {
		return 0, fmt.Errorf("%.30q is not a decimal number without leading zeros", s)
	}
	return n, nil
}

func parseProof(lines []string) ([]Hash, error) {
	if len(lines) > maxProof {
		return nil, fmt.Errorf("the proof has %d hashes, %d at most are admitted", len(lines), maxProof)
	}
	var proof []Hash
	for i, l := range lines {
		h, err := parseHash(l)
		if err != nil {
			return nil, fmt.Errorf("hash %d of the proof: %w", i+1, err)
		}
		proof = append(proof, h)
	}
	return proof, nil
}

// WitnessError is a refusal to cosign with the HTTP status of the witness protocol.
type WitnessError struct {
	Status int
	Size   int64 // with 409: the size that the witness has
	Reason string
}

func (e *WitnessError) Error() string {
	return fmt.Sprintf("tlog: witness: %d: %s", e.Status, e.Reason)
}

// Witness cosigns the checkpoints of one log that follow from what it saw. It keeps no state:
// the caller stores the tree that Judge gives before it sends the line, under a lock, so that
// two requests at once cannot make it cosign two histories.
type Witness struct {
	Origin  string
	LogKeys []*Verifier
	Key     *Signer
}

// Judge answers one request. last is the tree that the witness cosigned last, EmptyTree at first.
// It gives the signature line and the tree to remember. Errors: *WitnessError.
// spec: C2SP-witness §add-checkpoint
func (w *Witness) Judge(last Tree, raw []byte) (line []byte, next Tree, err error) {
	refuse := func(status int, format string, args ...any) ([]byte, Tree, error) {
		return nil, last, &WitnessError{Status: status, Size: last.Size, Reason: fmt.Sprintf(format, args...)}
	}
	r, err := ParseRequest(raw)
	if err != nil {
		return refuse(400, "%v", err)
	}
	// Whether the log is known comes before whether it signed.
	if origin, _, _ := strings.Cut(string(r.Checkpoint), "\n"); origin != w.Origin {
		return refuse(404, "log %.80q is not known here", origin)
	}
	s, err := OpenCheckpoint(r.Checkpoint, Policy{Origin: w.Origin, LogKeys: w.LogKeys})
	switch {
	case errors.Is(err, ErrSignature):
		return refuse(403, "%v", err)
	case errors.Is(err, errEmptyRoot):
		return refuse(422, "%v", err)
	case err != nil:
		return refuse(400, "%v", err)
	case r.Old > s.Size:
		return refuse(400, "old size %d is beyond the checkpoint's, %d", r.Old, s.Size)
	case r.Old != last.Size:
		return refuse(409, "old size is %d, the last one cosigned is %d", r.Old, last.Size)
	case r.Old == s.Size && last.Root != s.Root:
		return refuse(422, "a tree of %d entries with another root was cosigned: the log is forked", s.Size)
	}
	if err := CheckConsistency(r.Proof, last, s.Tree); err != nil {
		return refuse(422, "%v", err)
	}
	line, err = Cosign(s, w.Key)
	if err != nil {
		return refuse(500, "%v", err)
	}
	return line, s.Tree, nil
}

// Cosigned says whether a checkpoint of this origin has a cosignature of the key that verifies. Whether the
// log signed it is not looked at.
func Cosigned(raw []byte, origin string, key *Verifier) bool {
	if _, _, err := sigLines(raw); err != nil || !key.Cosigner() {
		return false
	}
	n, err := note.Open(raw, note.VerifierList(key))
	if err != nil {
		return false
	}
	c, err := ParseText([]byte(n.Text))
	return err == nil && c.Origin == origin
}
