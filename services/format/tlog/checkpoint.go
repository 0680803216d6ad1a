package tlog

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
)

// maxNote bounds a checkpoint with its signatures; one has some 300 bytes and 130 for each witness.
const maxNote = 64 << 10

// Checkpoint is what a log states: this is my tree. spec: C2SP-checkpoint §Note text
type Checkpoint struct {
	Origin string
	Tree
	Extensions []string // opaque lines; nobody audits them, so write none
}

// Text is the checkpoint as it is signed, up to and with the last line end.
func (c Checkpoint) Text() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\n%d\n%s\n", c.Origin, c.Size, c.Root)
	for _, e := range c.Extensions {
		b.WriteString(e + "\n")
	}
	return b.Bytes()
}

var errEmptyRoot = errors.New("an empty tree has another root")

func checkLine(line string) error {
	if line == "" || !utf8.ValidString(line) || strings.ContainsFunc(line, unicode.IsControl) {
		return errors.New("it is empty or has control characters")
	}
	return nil
}

// ParseText reads the text of a checkpoint, without its signatures.
func ParseText(text []byte) (Checkpoint, error) {
	bad := func(line int, err error) (Checkpoint, error) {
		return Checkpoint{}, fmt.Errorf("tlog: checkpoint, line %d: %w", line, err)
	}
	if len(text) > maxNote {
		return Checkpoint{}, fmt.Errorf("tlog: checkpoint of %d bytes, the limit is %d", len(text), maxNote)
	}
	body, ok := strings.CutSuffix(string(text), "\n")
	lines := strings.Split(body, "\n")
	if !ok || len(lines) < 3 {
		return Checkpoint{}, errors.New("tlog: checkpoint: origin, size and root are expected, a line each")
	}
	c := Checkpoint{Origin: lines[0]}
	if err := checkLine(c.Origin); err != nil {
		return bad(1, err)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return bad(2, fmt.Errorf("size %.30q is not a decimal number without leading zeros", lines[1]))
	}
	c.Size = size
	if c.Root, err = parseHash(lines[2]); err != nil {
		return bad(3, fmt.Errorf("root: %w", err))
	}
	if c.Size == 0 && c.Root != EmptyTree().Root {
		return bad(3, errEmptyRoot)
	}
	for i, e := range lines[3:] {
		if err := checkLine(e); err != nil {
			return bad(4+i, err)
		}
		c.Extensions = append(c.Extensions, e)
	}
	return c, nil
}

// Sign gives the signed checkpoint. The caller sees to it that it never signs two that
// contradict each other: one signer, and Judge against the last before each.
// spec: C2SP-checkpoint §Signatures
func (c Checkpoint) Sign(signers ...*Signer) ([]byte, error) {
	if len(signers) == 0 {
		return nil, errors.New("tlog: checkpoint: no signer")
	}
	text := c.Text()
	if _, err := ParseText(text); err != nil {
		return nil, err
	}
	list := make([]note.Signer, len(signers))
	for i, s := range signers {
		list[i] = s
	}
	raw, err := note.Sign(&note.Note{Text: string(text)}, list...)
	if err != nil {
		return nil, fmt.Errorf("tlog: sign checkpoint: %w", err)
	}
	return raw, nil
}

// Policy is whom to believe about one log.
type Policy struct {
	Origin    string
	LogKeys   []*Verifier // one valid signature is needed; several while keys change
	Witnesses []*Verifier
	Quorum    int       // how many different witnesses must have cosigned
	At        time.Time // cosignatures later than this are refused; zero: their time is not judged
}

func (p *Policy) check() error {
	if p.Origin == "" || len(p.LogKeys) == 0 {
		return errors.New("tlog: policy: an origin and a key of the log are needed")
	}
	if p.Quorum < 0 || p.Quorum > len(p.Witnesses) {
		return fmt.Errorf("tlog: policy: a quorum of %d cannot be had from %d witnesses", p.Quorum, len(p.Witnesses))
	}
	for _, k := range p.LogKeys {
		if k.Cosigner() {
			return fmt.Errorf("tlog: policy: %s is a witness's key, not a log's", k.name)
		}
	}
	for i, k := range p.Witnesses {
		if !k.Cosigner() {
			return fmt.Errorf("tlog: policy: %s is not a witness's key", k.name)
		}
		for _, other := range p.Witnesses[:i] {
			// spec: C2SP-cosignature: the message does not name the cosigner, so one key is one witness
			if k.key.Equal(other.key) {
				return fmt.Errorf("tlog: policy: witnesses %s and %s have one key", other.name, k.name)
			}
		}
	}
	return nil
}

// Cosignature is one witness's statement.
type Cosignature struct {
	Witness string
	Time    time.Time
}

// Signed is a checkpoint whose signatures satisfied a policy.
type Signed struct {
	Checkpoint
	Raw          []byte // the whole note
	Signed       []byte // the text that was signed: what a time stamp covers
	Cosignatures []Cosignature
}

var (
	// ErrNote: the text is not a signed note in canonical form.
	ErrNote = errors.New("tlog: not a signed note")
	// ErrSignature: the log did not sign it, or a signature of a known key is wrong.
	ErrSignature = errors.New("tlog: the checkpoint's signatures do not hold")
	// ErrOrigin: it is the checkpoint of another log.
	ErrOrigin = errors.New("tlog: the checkpoint is of another log")
	// ErrQuorum: too few witnesses cosigned it.
	ErrQuorum = errors.New("tlog: too few witnesses cosigned the checkpoint")
)

// sigLines splits a note and demands canonical signature lines, since sumdb/note reads base64
// with stray bits, in which a change would go unseen.
func sigLines(raw []byte) (text []byte, lines []string, err error) {
	if len(raw) > maxNote {
		return nil, nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrNote, len(raw), maxNote)
	}
	at := bytes.LastIndex(raw, []byte("\n\n"))
	if at < 0 || raw[len(raw)-1] != '\n' || at+2 == len(raw) {
		return nil, nil, fmt.Errorf("%w: text, an empty line and signatures are expected", ErrNote)
	}
	lines = strings.Split(string(raw[at+2:len(raw)-1]), "\n")
	for i, l := range lines {
		if _, err := parseSig(l); err != nil {
			return nil, nil, fmt.Errorf("%w: signature %d: %w", ErrNote, i+1, err)
		}
	}
	return raw[:at+1], lines, nil
}

// sigLine is one line of signature. spec: C2SP-note §Format
type sigLine struct {
	name string
	id   uint32
	sig  []byte
}

func parseSig(line string) (sigLine, error) {
	rest, ok := strings.CutPrefix(line, "— ")
	name, b64, ok2 := strings.Cut(rest, " ")
	if !ok || !ok2 {
		return sigLine{}, errors.New("it is not — name base64")
	}
	if err := checkName(name); err != nil {
		return sigLine{}, err
	}
	b, err := decode64(b64, -1)
	if err != nil {
		return sigLine{}, err
	}
	if len(b) < 5 {
		return sigLine{}, errors.New("it is too short")
	}
	return sigLine{name, binary.BigEndian.Uint32(b), b[4:]}, nil
}

// OpenCheckpoint reads a signed checkpoint and judges it by the policy.
// Errors: ErrNote, ErrSignature, ErrOrigin, ErrQuorum, wrapped; a policy that makes no sense.
func OpenCheckpoint(raw []byte, p Policy) (*Signed, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	if _, _, err := sigLines(raw); err != nil {
		return nil, err
	}
	var known []note.Verifier
	for _, list := range [][]*Verifier{p.LogKeys, p.Witnesses} {
		for _, v := range list {
			known = append(known, v)
		}
	}
	n, err := note.Open(raw, note.VerifierList(known...))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	c, err := ParseText([]byte(n.Text))
	if err != nil {
		return nil, err
	}
	if c.Origin != p.Origin {
		return nil, fmt.Errorf("%w: its origin is %.80q, %q is expected", ErrOrigin, c.Origin, p.Origin)
	}
	s := &Signed{Checkpoint: c, Raw: bytes.Clone(raw), Signed: []byte(n.Text)}
	if err := s.count(n.Sigs, p); err != nil {
		return nil, err
	}
	return s, nil
}

// count sorts the verified signatures into the log's and the witnesses'.
func (s *Signed) count(sigs []note.Signature, p Policy) error {
	logs := 0
	for _, sig := range sigs {
		isLog := false
		for _, k := range p.LogKeys {
			isLog = isLog || k.name == sig.Name && k.id == sig.Hash
		}
		if isLog {
			logs++
			continue
		}
		b, err := decode64(sig.Base64, -1)
		if err != nil || len(b) < 12 {
			return fmt.Errorf("%w: cosignature of %s is malformed", ErrSignature, sig.Name)
		}
		at := time.Unix(int64(binary.BigEndian.Uint64(b[4:])), 0).UTC()
		if !p.At.IsZero() && at.After(p.At) {
			return fmt.Errorf("%w: the cosignature of %s is of %s, which is to come", ErrSignature, sig.Name, at.Format(time.RFC3339))
		}
		s.Cosignatures = append(s.Cosignatures, Cosignature{sig.Name, at})
	}
	if logs == 0 {
		return fmt.Errorf("%w: no known key of the log signed it", ErrSignature)
	}
	if len(s.Cosignatures) < p.Quorum {
		return fmt.Errorf("%w: %d of the %d that are asked for", ErrQuorum, len(s.Cosignatures), p.Quorum)
	}
	return nil
}

// Cosign gives the signature line of a witness, to be sent back. It does not look at history:
// Witness.Judge does.
func Cosign(s *Signed, witness *Signer) ([]byte, error) {
	if !witness.Cosigner() {
		return nil, fmt.Errorf("tlog: %s is not a witness's key", witness.name)
	}
	sig, err := witness.Sign(s.Signed)
	if err != nil {
		return nil, err
	}
	b := append(binary.BigEndian.AppendUint32(nil, witness.id), sig...)
	return []byte("— " + witness.name + " " + base64.StdEncoding.EncodeToString(b) + "\n"), nil
}

// AddSignatures adds lines to a signed checkpoint. A line of a key that is there already takes
// the place of the old one. Nothing is verified here: OpenCheckpoint does.
func AddSignatures(raw []byte, added ...[]byte) ([]byte, error) {
	text, lines, err := sigLines(raw)
	if err != nil {
		return nil, err
	}
	for _, a := range added {
		line, ok := strings.CutSuffix(string(a), "\n")
		sig, err := parseSig(line)
		if err != nil || !ok {
			return nil, fmt.Errorf("%w: added signature: %w", ErrNote, err)
		}
		same := func(l string) bool {
			old, err := parseSig(l)
			return err == nil && old.name == sig.name && old.id == sig.id
		}
		kept := lines[:0:0]
		for _, l := range lines {
			if !same(l) {
				kept = append(kept, l)
			}
		}
		lines = append(kept, line)
	}
	out := []byte(string(text) + "\n" + strings.Join(lines, "\n") + "\n")
	if len(out) > maxNote {
		return nil, fmt.Errorf("%w: %d bytes with the added signatures, the limit is %d", ErrNote, len(out), maxNote)
	}
	return out, nil
}
