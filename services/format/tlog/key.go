package tlog

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Signature types of signed notes. spec: C2SP-note §Signature types
const (
	typeEd25519     = 0x01
	typeCosignature = 0x04 // spec: C2SP-cosignature §Format
	typeMLDSA       = 0x06
)

// Verifier is a public key with its name and its job: to sign checkpoints or to cosign them.
type Verifier struct {
	name string
	id   uint32
	kind byte
	key  ed25519.PublicKey
}

// keyID is what stands before a signature. spec: C2SP-note §Signatures
func keyID(name string, kind byte, key ed25519.PublicKey) uint32 {
	h := sha256.New()
	h.Write([]byte(name))
	h.Write([]byte{'\n', kind})
	h.Write(key)
	return binary.BigEndian.Uint32(h.Sum(nil))
}

func checkName(name string) error {
	if name == "" || len(name) > 255 || !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || r == '+'
	}) {
		return fmt.Errorf("tlog: key name %.80q: it must have 1 to 255 bytes without spaces and without +", name)
	}
	return nil
}

func newVerifier(name string, kind byte, key ed25519.PublicKey) (*Verifier, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("tlog: key %s: %d bytes, Ed25519 keys have %d", name, len(key), ed25519.PublicKeySize)
	}
	return &Verifier{name: name, id: keyID(name, kind, key), kind: kind, key: key}, nil
}

// ParseVerifier reads a verifier key, name+id+base64(type || key): type 1 for a log, type 4 for
// a witness. spec: C2SP-note §Verifier keys, C2SP-cosignature §Format
func ParseVerifier(vkey string) (*Verifier, error) {
	bad := func(why string) (*Verifier, error) { return nil, fmt.Errorf("tlog: verifier key %.80q: %s", vkey, why) }
	parts := strings.Split(vkey, "+")
	if len(parts) < 3 { // the base64 may have a + of its own
		return bad("it is not name+id+key")
	}
	id, err := strconv.ParseUint(parts[1], 16, 32)
	if err != nil || len(parts[1]) != 8 || strings.ToLower(parts[1]) != parts[1] {
		return bad("the key ID is not eight lower-case hexadecimal digits")
	}
	key, err := decode64(strings.Join(parts[2:], "+"), -1)
	if err != nil || len(key) == 0 {
		return bad("the key is not base64")
	}
	switch key[0] {
	case typeEd25519, typeCosignature:
	case typeMLDSA:
		return bad("ML-DSA-44 keys are not supported; ask the witness for its Ed25519 key (type 4)")
	default:
		return bad(fmt.Sprintf("signature type %d is unknown", key[0]))
	}
	v, err := newVerifier(parts[0], key[0], ed25519.PublicKey(key[1:]))
	if err != nil {
		return nil, err
	}
	if v.id != uint32(id) {
		return bad(fmt.Sprintf("the key ID does not fit the key, which has %08x", v.id))
	}
	return v, nil
}

// Name is the key's name, for a log the origin by habit.
func (v *Verifier) Name() string { return v.name }

// KeyHash is the key ID, as sumdb/note calls it.
func (v *Verifier) KeyHash() uint32 { return v.id }

// Cosigner says that the key is a witness's.
func (v *Verifier) Cosigner() bool { return v.kind == typeCosignature }

// String is the verifier key in text, as ParseVerifier reads it.
func (v *Verifier) String() string {
	return fmt.Sprintf("%s+%08x+%s", v.name, v.id, base64.StdEncoding.EncodeToString(append([]byte{v.kind}, v.key...)))
}

// Verify implements note.Verifier: text is what the note says, sig what follows the key ID.
func (v *Verifier) Verify(text, sig []byte) bool {
	if v.kind == typeEd25519 {
		return len(sig) == ed25519.SignatureSize && ed25519.Verify(v.key, text, sig)
	}
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	at := binary.BigEndian.Uint64(sig)
	return at < 1<<63 && ed25519.Verify(v.key, cosigned(at, text), sig[8:])
}

// cosigned is what a witness signs. spec: C2SP-cosignature §Ed25519 signed message
func cosigned(at uint64, text []byte) []byte {
	return append([]byte("cosignature/v1\ntime "+strconv.FormatUint(at, 10)+"\n"), text...)
}

// Signer signs checkpoints with an Ed25519 key that may live elsewhere.
type Signer struct {
	Verifier
	signer crypto.Signer
	now    func() time.Time // of a witness
}

// NewSigner is the key of a log. Errors: a name that notes do not admit, a key that is not Ed25519.
func NewSigner(name string, key crypto.Signer) (*Signer, error) {
	return newSigner(name, typeEd25519, key, nil)
}

// NewCosigner is the key of a witness; now gives the time that its cosignatures state. The key
// must have no other use. spec: C2SP-cosignature §Ed25519 signed message
func NewCosigner(name string, key crypto.Signer, now func() time.Time) (*Signer, error) {
	if now == nil {
		return nil, errors.New("tlog: cosigner: a clock is needed")
	}
	return newSigner(name, typeCosignature, key, now)
}

func newSigner(name string, kind byte, key crypto.Signer, now func() time.Time) (*Signer, error) {
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("tlog: key %s is a %T, checkpoints are signed with Ed25519", name, key.Public())
	}
	v, err := newVerifier(name, kind, pub)
	if err != nil {
		return nil, err
	}
	return &Signer{Verifier: *v, signer: key, now: now}, nil
}

// Sign implements note.Signer: the signature over text, without the key ID.
func (s *Signer) Sign(text []byte) ([]byte, error) {
	var sig []byte
	msg := text
	if s.kind == typeCosignature {
		at := s.now().Unix()
		if at <= 0 { // zero means that no time is stated. spec: C2SP-cosignature §Format
			return nil, fmt.Errorf("tlog: cosigner %s: the clock is not after 1970", s.name)
		}
		sig = binary.BigEndian.AppendUint64(nil, uint64(at))
		msg = cosigned(uint64(at), text)
	}
	raw, err := s.signer.Sign(nil, msg, crypto.Hash(0))
	if err != nil {
		return nil, fmt.Errorf("tlog: key %s: %w", s.name, err)
	}
	if sig = append(sig, raw...); !s.Verify(text, sig) {
		return nil, fmt.Errorf("tlog: key %s: the signature that came back does not verify", s.name)
	}
	return sig, nil
}
