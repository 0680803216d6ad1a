package ers

import (
	"bytes"
	"crypto"
	_ "crypto/sha256" // SHA-224 and SHA-256
	_ "crypto/sha512"
	"encoding/asn1"
	"errors"
	"fmt"

	"ceralacca.dev/services/format/tsp"
)

// Record is an evidence record that was read. spec: RFC4998 §3.1
type Record struct {
	Raw    []byte
	Hashes []crypto.Hash // digestAlgorithms: every algorithm of the record's life
	Chains []Chain       // in the order of time; all but the first begin with a hash-tree renewal
	// Encrypted says that the record has encryptionInfo: its data objects are to be given as they
	// were when they were hashed.
	Encrypted bool

	algorithms []byte // contents of digestAlgorithms as they stand
	infos      []byte // cryptoInfos and encryptionInfo as they stand
}

// Chain is a run of archive time stamps with one hash algorithm. spec: RFC4998 §5.1
type Chain struct {
	Raw    []byte // DER
	Stamps []Stamp
}

// Stamp is one archive time stamp. spec: RFC4998 §4.1
type Stamp struct {
	Raw      []byte      // DER
	Hash     crypto.Hash // of the tree, and of the token's imprint
	Tree     [][][]byte  // reduced hash tree, the list with the data first; empty: the token stamps the datum alone
	TokenRaw []byte      // the time-stamp token as it stands: what a renewal hashes
	Token    *tsp.Token
}

const (
	maxSize   = 16 << 20 // every chain hashes all before it, so size times chains bounds the work
	maxChains = 64
	maxStamps = 1024 // in a chain
	maxLists  = 512  // in a tree
	maxHashes = 1 << 16
)

// SyntaxError says what is wrong with a record and where in it.
type SyntaxError struct {
	Where  string // for example "chain 1, stamp 2"
	Reason string
}

func (e *SyntaxError) Error() string {
	if e.Where == "" {
		return "ers: record: " + e.Reason
	}
	return "ers: record: " + e.Where + ": " + e.Reason
}

func bad(where, format string, args ...any) error {
	return &SyntaxError{where, fmt.Sprintf(format, args...)}
}

var (
	oidSHA224 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 4}
	oidSHA256 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidSHA384 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}
	oidSHA512 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}
)

func hashOf(oid asn1.ObjectIdentifier) crypto.Hash {
	switch {
	case oid.Equal(oidSHA224):
		return crypto.SHA224
	case oid.Equal(oidSHA256):
		return crypto.SHA256
	case oid.Equal(oidSHA384):
		return crypto.SHA384
	case oid.Equal(oidSHA512):
		return crypto.SHA512
	}
	return 0
}

func oidOf(h crypto.Hash) asn1.ObjectIdentifier {
	switch h {
	case crypto.SHA256:
		return oidSHA256
	case crypto.SHA384:
		return oidSHA384
	case crypto.SHA512:
		return oidSHA512
	}
	return nil
}

// Identifier and length octets of what a record is made of.
const (
	tagInteger  = 0x02
	tagOctets   = 0x04
	tagOID      = 0x06
	tagSequence = 0x30
	tagSet      = 0x31
	tagContext0 = 0xA0
	tagContext1 = 0xA1
	tagContext2 = 0xA2
)

// element is one DER element: its identifier octet, contents, and the whole.
type element struct {
	id         byte
	body, full []byte
}

// next reads one element with a short tag. Only DER lengths are taken. spec: X690 §10.1
func next(data []byte) (e element, rest []byte, err error) {
	var raw asn1.RawValue
	rest, err = asn1.Unmarshal(data, &raw)
	if err != nil {
		return element{}, nil, err
	}
	return element{id: raw.FullBytes[0], body: raw.Bytes, full: raw.FullBytes}, rest, nil
}

// list reads the elements of one constructed value, no more than limit: the count is bounded
// before memory is taken for it.
func list(where, what string, data []byte, limit int) ([]element, error) {
	var out []element
	for len(data) > 0 {
		if len(out) == limit {
			return nil, bad(where, "more than %d elements of %s", limit, what)
		}
		e, rest, err := next(data)
		if err != nil {
			return nil, bad(where, "%s: %v", what, err)
		}
		out, data = append(out, e), rest
	}
	return out, nil
}

// Parse reads an evidence record. Errors: *SyntaxError. Nothing is verified here.
func Parse(raw []byte) (*Record, error) {
	if len(raw) > maxSize {
		return nil, bad("", "%d bytes, the limit is %d", len(raw), maxSize)
	}
	raw = bytes.Clone(raw)
	whole, rest, err := next(raw)
	switch {
	case bytes.HasPrefix(bytes.TrimSpace(bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf"))), []byte("<")):
		return nil, bad("", "it is XML: a record of RFC 6283, and those of RFC 4998 are read here")
	case err != nil:
		return nil, bad("", "%v", err)
	case whole.id != tagSequence:
		return nil, bad("", "a SEQUENCE is expected, the identifier is %#02x", whole.id)
	case len(rest) > 0:
		return nil, bad("", "%d bytes after its end", len(rest))
	}
	parts, err := list("", "the record", whole.body, 5)
	if err != nil {
		return nil, err
	}
	if len(parts) < 3 || parts[0].id != tagInteger || parts[1].id != tagSequence || parts[len(parts)-1].id != tagSequence {
		return nil, bad("", "version, digest algorithms and time-stamp sequence are expected")
	}
	if !bytes.Equal(parts[0].body, []byte{1}) {
		return nil, bad("", "version %x, 1 is expected", parts[0].body)
	}
	r := &Record{Raw: raw, algorithms: parts[1].body}
	last := byte(0)
	for _, p := range parts[2 : len(parts)-1] {
		if (p.id != tagContext0 && p.id != tagContext1) || p.id <= last {
			return nil, bad("", "an element with identifier %#02x is out of place", p.id)
		}
		last = p.id
		r.infos = append(r.infos, p.full...)
		if p.id == tagContext0 {
			err = attributes("cryptoInfos", p.body)
		} else {
			r.Encrypted, err = true, encryptionInfo(p.body)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := r.readHashes(); err != nil {
		return nil, err
	}
	if err := r.readChains(parts[len(parts)-1].body); err != nil {
		return nil, err
	}
	return r, nil
}

// attributes looks at the form alone, so that nothing else passes for them.
// spec: RFC4998 §3.1 (CryptoInfos), §4.1 (Attributes): one at least
func attributes(where string, body []byte) error {
	all, err := list(where, "the attributes", body, 256)
	if err != nil {
		return err
	}
	for _, a := range all {
		if a.id != tagSequence {
			return bad(where, "an attribute is not an identifier with a set of values")
		}
		parts, err := list(where, "an attribute", a.body, 2)
		if err != nil {
			return err
		}
		if len(parts) != 2 || parts[0].id != tagOID || parts[1].id != tagSet {
			return bad(where, "an attribute is not an identifier with a set of values")
		}
	}
	if len(all) == 0 {
		return bad(where, "the attributes are empty")
	}
	return nil
}

// encryptionInfo: an identifier and any value. spec: RFC4998 §3.1
func encryptionInfo(body []byte) error {
	parts, err := list("encryptionInfo", "it", body, 2)
	if err != nil {
		return err
	}
	if len(parts) != 2 || parts[0].id != tagOID {
		return bad("encryptionInfo", "an identifier and a value are expected")
	}
	return nil
}

func (r *Record) readHashes() error {
	algs, err := list("digest algorithms", "the list", r.algorithms, 32)
	if err != nil {
		return err
	}
	for _, a := range algs {
		if a.id != tagSequence {
			return bad("digest algorithms", "identifier %#02x", a.id)
		}
		h, err := algorithm("digest algorithms", a.body)
		if err != nil {
			return err
		}
		r.Hashes = append(r.Hashes, h)
	}
	if len(r.Hashes) == 0 {
		return bad("digest algorithms", "there is none")
	}
	return nil
}

// algorithm reads the contents of an AlgorithmIdentifier with absent or NULL parameters.
func algorithm(where string, body []byte) (crypto.Hash, error) {
	var oid asn1.ObjectIdentifier
	rest, err := asn1.Unmarshal(body, &oid)
	if err != nil {
		return 0, bad(where, "algorithm: %v", err)
	}
	if len(rest) > 0 && !bytes.Equal(rest, asn1.NullBytes) {
		return 0, bad(where, "algorithm %v has parameters", oid)
	}
	h := hashOf(oid)
	if h == 0 {
		return 0, bad(where, "hash algorithm %v is not one of SHA-224, SHA-256, SHA-384 and SHA-512", oid)
	}
	return h, nil
}

func (r *Record) readChains(body []byte) error {
	chains, err := list("time-stamp sequence", "the sequence", body, maxChains)
	if err != nil {
		return err
	}
	if len(chains) == 0 {
		return bad("time-stamp sequence", "it is empty")
	}
	for i, c := range chains {
		where := fmt.Sprintf("chain %d", i+1)
		if c.id != tagSequence {
			return bad(where, "a SEQUENCE is expected, the identifier is %#02x", c.id)
		}
		stamps, err := list(where, "the chain", c.body, maxStamps)
		if err != nil {
			return err
		}
		if len(stamps) == 0 {
			return bad(where, "it is empty")
		}
		chain := Chain{Raw: c.full}
		for j, s := range stamps {
			stamp, err := readStamp(fmt.Sprintf("%s, stamp %d", where, j+1), s)
			if err != nil {
				return err
			}
			chain.Stamps = append(chain.Stamps, *stamp)
		}
		r.Chains = append(r.Chains, chain)
	}
	return nil
}

// readStamp: spec: RFC4998 §4.1
func readStamp(where string, e element) (*Stamp, error) {
	if e.id != tagSequence {
		return nil, bad(where, "a SEQUENCE is expected, the identifier is %#02x", e.id)
	}
	parts, err := list(where, "the stamp", e.body, 4)
	if err != nil {
		return nil, err
	}
	if len(parts) == 0 || parts[len(parts)-1].id != tagSequence {
		return nil, bad(where, "the time-stamp token is missing")
	}
	s := &Stamp{Raw: e.full, TokenRaw: parts[len(parts)-1].full}
	if s.Token, err = tsp.ParseToken(s.TokenRaw); err != nil {
		return nil, bad(where, "%v", err)
	}
	if !bytes.Equal(s.Token.Raw, s.TokenRaw) {
		return nil, bad(where, "a whole response stands where the token belongs")
	}
	s.Hash = s.Token.Info.Hash
	last := byte(0)
	for _, p := range parts[:len(parts)-1] {
		if p.id < tagContext0 || p.id > tagContext2 || p.id <= last {
			return nil, bad(where, "an element with identifier %#02x is out of place", p.id)
		}
		last = p.id
		switch p.id {
		case tagContext0:
			if s.Hash, err = algorithm(where, p.body); err != nil {
				return nil, err
			}
		case tagContext1: // they say more about the stamp and have no part in verifying it
			if err := attributes(where, p.body); err != nil {
				return nil, err
			}
		case tagContext2:
			if s.Tree, err = readTree(where, p.body, s.Hash.Size()); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// readTree: spec: RFC4998 §4.1 (reducedHashtree)
func readTree(where string, body []byte, size int) ([][][]byte, error) {
	lists, err := list(where, "the hash tree", body, maxLists)
	if err != nil {
		return nil, err
	}
	if len(lists) == 0 {
		return nil, bad(where, "the hash tree is empty")
	}
	var tree [][][]byte
	left := maxHashes
	for _, l := range lists {
		if l.id != tagSequence {
			return nil, bad(where, "hash tree: a SEQUENCE is expected, the identifier is %#02x", l.id)
		}
		hashes, err := list(where, "a list of hashes", l.body, left)
		if err != nil {
			return nil, err
		}
		left -= len(hashes)
		var values [][]byte
		for _, h := range hashes {
			if h.id != tagOctets || len(h.body) != size {
				return nil, bad(where, "hash tree: an element is not an octet string of %d bytes", size)
			}
			values = append(values, h.body)
		}
		if len(values) == 0 {
			return nil, bad(where, "hash tree: a list is empty")
		}
		tree = append(tree, values)
	}
	return tree, nil
}

// tlv encodes the parts, one after the other, under one tag. spec: X690 §10.1
func tlv(tag byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	out := append(make([]byte, 0, n+6), tag)
	switch {
	case n < 0x80:
		out = append(out, byte(n))
	case n < 1<<8:
		out = append(out, 0x81, byte(n))
	case n < 1<<16:
		out = append(out, 0x82, byte(n>>8), byte(n))
	case n < 1<<24:
		out = append(out, 0x83, byte(n>>16), byte(n>>8), byte(n))
	default:
		out = append(out, 0x84, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// algorithmDER is an AlgorithmIdentifier without parameters. spec: RFC5754 §2
func algorithmDER(tag byte, h crypto.Hash) ([]byte, error) {
	oid := oidOf(h)
	if oid == nil {
		return nil, errors.New("ers: evidence is built with SHA-256, SHA-384 or SHA-512")
	}
	der, err := asn1.Marshal(oid)
	if err != nil {
		return nil, fmt.Errorf("ers: encode %v: %w", oid, err)
	}
	return tlv(tag, der), nil
}
