package tlog

import (
	"encoding/base64"
	"errors"
	"fmt"

	merkle "golang.org/x/mod/sumdb/tlog"
)

// HashSize is the length of a hash in bytes: SHA-256. spec: C2SP-tiles §APIs
const HashSize = merkle.HashSize

// Hash is a node of the tree, by RFC 6962 §2.1: leaves are SHA-256(0x00 || entry), inner nodes
// SHA-256(0x01 || left || right).
type Hash = merkle.Hash

// Tree is a size in leaves and the root over them. The zero size has the hash of the empty string.
type Tree struct {
	Size int64
	Root Hash
}

// LeafHash is the hash of an entry as it stands in the log. spec: RFC6962 §2.1
func LeafHash(entry []byte) Hash { return merkle.RecordHash(entry) }

// EmptyTree is the tree before the first entry. spec: RFC6962 §2.1
func EmptyTree() Tree {
	root, err := merkle.TreeHash(0, nil)
	if err != nil {
		panic("tlog: the empty tree has a hash: " + err.Error())
	}
	return Tree{Root: root}
}

// strict64 refuses line ends and stray bits after the last byte: one hash has one text, so that
// no change of a text goes unseen.
var strict64 = base64.StdEncoding.Strict()

// decode64 reads canonical base64 of exactly n bytes (n < 0: of any length).
func decode64(s string, n int) ([]byte, error) {
	b, err := strict64.DecodeString(s)
	if err != nil || strict64.EncodeToString(b) != s {
		return nil, errors.New("it is not canonical base64")
	}
	if n >= 0 && len(b) != n {
		return nil, fmt.Errorf("it has %d bytes, %d are expected", len(b), n)
	}
	return b, nil
}

func parseHash(s string) (h Hash, err error) {
	b, err := decode64(s, HashSize)
	if err != nil {
		return Hash{}, err
	}
	return Hash(b), nil
}
