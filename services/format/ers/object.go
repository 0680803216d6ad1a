package ers

import (
	"bytes"
	"crypto"
	"fmt"
	"io"
	"slices"
)

// Object is one data object: it gives its digest by the algorithm that is asked for. A record
// that was renewed over a new hash tree asks for more than one.
type Object func(h crypto.Hash) ([]byte, error)

// Bytes is an object in memory.
func Bytes(b []byte) Object {
	return func(h crypto.Hash) ([]byte, error) { return sum(h, b), nil }
}

// Reader is an object that is read anew for each algorithm, in bounded memory.
func Reader(open func() (io.ReadCloser, error)) Object {
	return func(h crypto.Hash) ([]byte, error) {
		r, err := open()
		if err != nil {
			return nil, fmt.Errorf("ers: open the data object: %w", err)
		}
		defer r.Close()
		state := h.New()
		if _, err := io.Copy(state, r); err != nil {
			return nil, fmt.Errorf("ers: read the data object: %w", err)
		}
		return state.Sum(nil), nil
	}
}

// Digests is an object of which only digests are at hand.
func Digests(known map[crypto.Hash][]byte) Object {
	return func(h crypto.Hash) ([]byte, error) {
		d, ok := known[h]
		if !ok || len(d) != h.Size() {
			return nil, fmt.Errorf("ers: the %v digest of the data object is not at hand", h)
		}
		return d, nil
	}
}

// sum is the digest of the parts, one after the other.
func sum(h crypto.Hash, parts ...[]byte) []byte {
	state := h.New()
	for _, p := range parts {
		state.Write(p)
	}
	return state.Sum(nil)
}

// node is the hash over a list: the values in binary ascending order, concatenated. A list with
// one value stands for that value; that is how groups of one are written, by RFC 6283 §3.2.1 in
// so many words, and by what writes records of RFC 4998. spec: RFC4998 §4.2, §4.3
func node(h crypto.Hash, values [][]byte) []byte {
	if len(values) == 1 {
		return values[0]
	}
	sorted := slices.Clone(values)
	slices.SortFunc(sorted, bytes.Compare)
	return sum(h, sorted...)
}

// fold is the root over a reduced hash tree. spec: RFC4998 §4.3
func fold(h crypto.Hash, tree [][][]byte) []byte {
	at := node(h, tree[0])
	for _, l := range tree[1:] {
		at = node(h, append(slices.Clone(l), at))
	}
	return at
}

// digests asks every object, and ties each to the evidence so far when there is any: H(H(d) || ha),
// in this order and never sorted. spec: RFC4998 §5.2 (hash-tree renewal, step 4)
func digests(h crypto.Hash, objects []Object, evidence []byte) ([][]byte, error) {
	var out [][]byte
	for i, o := range objects {
		d, err := o(h)
		if err != nil {
			return nil, fmt.Errorf("data object %d: %w", i+1, err)
		}
		if len(d) != h.Size() {
			return nil, fmt.Errorf("ers: data object %d: the %v digest has %d bytes", i+1, h, len(d))
		}
		if evidence != nil {
			d = sum(h, d, evidence)
		}
		out = append(out, d)
	}
	return out, nil
}

// evidence is the hash of all chains before, as an ArchiveTimeStampSequence. spec: RFC4998 §5.2
func evidence(h crypto.Hash, before []Chain) []byte {
	if len(before) == 0 {
		return nil
	}
	var all [][]byte
	for _, c := range before {
		all = append(all, c.Raw)
	}
	return sum(h, tlv(tagSequence, all...))
}
