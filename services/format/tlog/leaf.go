package tlog

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"
)

// Leaf is one fact of one tenant in the common log. It holds no personal data: the tenant is a
// keyed hash, objects are digests, type and note are words without digits, so that no VAT number,
// tax code or date of birth can stand there.
type Leaf struct {
	Type    string            // what happened, for example "pda" or "rdv"
	Time    time.Time         // UTC, whole seconds
	Tenant  [sha256.Size]byte // TenantTag
	Seq     uint64            // 1 for the tenant's first leaf, then without gaps
	Prev    Hash              // LeafHash of the tenant's leaf before; zero for the first
	Objects []Hash            // SHA-256 of what the fact is about; salted where it could be guessed
	Note    string            // may be empty
}

// TenantTag hides a tenant: HMAC-SHA-256 with the tenant's own key, so that leaves of two tenants
// cannot be told apart without it, and destroying the key makes them nobody's.
func TenantTag(key []byte, tenant string) [sha256.Size]byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(tenant))
	return [sha256.Size]byte(m.Sum(nil))
}

var (
	leafType = regexp.MustCompile(`^[a-z]+([._-][a-z]+)*$`)
	leafNote = regexp.MustCompile(`^([a-z]+([ ._-][a-z]+)*)?$`)
)

const (
	leafVersion = 1
	maxWord     = 64
	maxObjects  = 256
)

// leafJSON fixes the order of the fields. Its encoding is the entry's bytes.
type leafJSON struct {
	V      int      `json:"v"`
	Type   string   `json:"type"`
	Time   string   `json:"time"`
	Tenant string   `json:"tenant"`
	Seq    uint64   `json:"tseq"`
	Prev   string   `json:"tprev"`
	Obj    []string `json:"obj"`
	Note   string   `json:"note,omitempty"`
}

// Marshal gives the one encoding of the leaf: JSON without spaces, fields in fixed order, hashes
// in lower-case hexadecimal. Errors: a field outside its form, by name.
func (l *Leaf) Marshal() ([]byte, error) {
	bad := func(field, why string) ([]byte, error) { return nil, fmt.Errorf("tlog: leaf: %s: %s", field, why) }
	switch {
	case len(l.Type) > maxWord || !leafType.MatchString(l.Type):
		return bad("type", "1 to 64 lower-case letters, words joined by . _ or -, no digits")
	case len(l.Note) > maxWord || !leafNote.MatchString(l.Note):
		return bad("note", "at most 64 lower-case letters, words joined by space . _ or -, no digits: what belongs to a person belongs elsewhere")
	case l.Time.Nanosecond() != 0 || l.Time.Year() < 2000 || l.Time.Year() > 9999:
		return bad("time", "whole seconds between the years 2000 and 9999")
	case l.Seq == 0 || l.Seq > 1<<53:
		return bad("tseq", "it begins at 1")
	case (l.Seq == 1) != (l.Prev == Hash{}):
		return bad("tprev", "the first leaf of a tenant has none, every other has one")
	case len(l.Objects) == 0 || len(l.Objects) > maxObjects:
		return bad("obj", fmt.Sprintf("1 to %d digests", maxObjects))
	}
	j := leafJSON{
		V: leafVersion, Type: l.Type, Time: l.Time.UTC().Format(time.RFC3339), Tenant: hex.EncodeToString(l.Tenant[:]),
		Seq: l.Seq, Prev: hex.EncodeToString(l.Prev[:]), Note: l.Note,
	}
	for _, o := range l.Objects {
		j.Obj = append(j.Obj, hex.EncodeToString(o[:]))
	}
	return json.Marshal(j)
}

// ParseLeaf reads an entry. Only the one encoding that Marshal gives is taken.
func ParseLeaf(entry []byte) (*Leaf, error) {
	var j leafJSON
	if len(entry) > MaxEntry {
		return nil, fmt.Errorf("tlog: leaf of %d bytes, the limit is %d", len(entry), MaxEntry)
	}
	if err := json.Unmarshal(entry, &j); err != nil {
		return nil, fmt.Errorf("tlog: leaf: %w", err)
	}
	if j.V != leafVersion {
		return nil, fmt.Errorf("tlog: leaf: version %d, %d is expected", j.V, leafVersion)
	}
	l := &Leaf{Type: j.Type, Seq: j.Seq, Note: j.Note}
	var err error
	if l.Time, err = time.Parse(time.RFC3339, j.Time); err != nil {
		return nil, fmt.Errorf("tlog: leaf: time: %w", err)
	}
	l.Time = l.Time.UTC()
	for _, f := range []struct {
		name, text string
		to         *[sha256.Size]byte
	}{{"tenant", j.Tenant, &l.Tenant}, {"tprev", j.Prev, (*[sha256.Size]byte)(&l.Prev)}} {
		if *f.to, err = parseHex(f.text); err != nil {
			return nil, fmt.Errorf("tlog: leaf: %s: %w", f.name, err)
		}
	}
	for i, o := range j.Obj {
		h, err := parseHex(o)
		if err != nil {
			return nil, fmt.Errorf("tlog: leaf: obj %d: %w", i, err)
		}
		l.Objects = append(l.Objects, h)
	}
	again, err := l.Marshal()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, entry) {
		return nil, errors.New("tlog: leaf: it is not in its one encoding")
	}
	return l, nil
}

func parseHex(s string) (out [sha256.Size]byte, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(out) {
		return out, fmt.Errorf("%d bytes in hexadecimal are expected", len(out))
	}
	return [sha256.Size]byte(b), nil
}
