package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"io"
	"math/big"
	"strings"
)

// An API key is prefix + secret + checksum:
//
//	cl_test_ | cl_live_   which environment the key belongs to
//	43 characters         256 random bits in base62
//	6 characters          CRC-32 (IEEE) of everything before it, in base62
//
// The prefix lets secret scanners find leaked keys and the checksum lets us
// refuse typing errors without asking the database.
const (
	prefixTest = "cl_test_"
	prefixLive = "cl_live_"
	prefixLen  = len(prefixTest)
	secretLen  = 43
	crcLen     = 6
	keyLen     = prefixLen + secretLen + crcLen

	// visibleLen is how much of a key may be shown again: the prefix and the
	// first characters of the secret, enough to tell two keys apart.
	visibleLen = prefixLen + 6

	base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// NewKey makes an API key with 256 random bits. The key is shown once to its
// owner; only HashKey of it is stored.
func NewKey(live bool) (string, error) {
	return newKey(rand.Reader, live)
}

func newKey(random io.Reader, live bool) (string, error) {
	var raw [32]byte
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		return "", fmt.Errorf("auth: read randomness for a key: %w", err)
	}
	prefix := prefixTest
	if live {
		prefix = prefixLive
	}
	body := prefix + encode62(new(big.Int).SetBytes(raw[:]), secretLen)
	return body + checksum(body), nil
}

// HashKey is the SHA-256 of the secret part of a key (the 43 characters between
// prefix and checksum), 32 bytes: the form in which it is stored and looked up.
// Keys hold 256 random bits, so a slow password hash would add cost to every
// call and no strength. For a string that is not a key (CheckKey) it is the
// hash of the whole string, which no stored key has.
func HashKey(key string) []byte {
	if _, err := CheckKey(key); err == nil {
		key = key[prefixLen : prefixLen+secretLen]
	}
	sum := sha256.Sum256([]byte(key))
	return sum[:]
}

// IsKey reports whether the bearer credential claims to be an API key.
func IsKey(bearer string) bool {
	return strings.HasPrefix(bearer, prefixTest) || strings.HasPrefix(bearer, prefixLive)
}

// CheckKey verifies form and checksum of a key without any look-up and says
// whether it is a live key. The fault is Unauthenticated API_KEY_MALFORMED.
func CheckKey(key string) (live bool, err error) {
	if !IsKey(key) {
		return false, Unauthenticated("API_KEY_MALFORMED",
			"an API key begins with %s or %s", prefixTest, prefixLive)
	}
	if len(key) != keyLen {
		return false, Unauthenticated("API_KEY_MALFORMED",
			"the API key has %d characters instead of %d: copy it again in full", len(key), keyLen)
	}
	body, sum := key[:keyLen-crcLen], key[keyLen-crcLen:]
	if checksum(body) != sum {
		return false, Unauthenticated("API_KEY_MALFORMED",
			"the checksum of the API key does not match: one of its characters is wrong")
	}
	return strings.HasPrefix(key, prefixLive), nil
}

// Visible is the part of a key that may be stored and shown in clear so that
// its owner can recognise it, for example "cl_test_7fQ2xw".
func Visible(key string) string {
	if len(key) < visibleLen {
		return ""
	}
	return key[:visibleLen]
}

func checksum(body string) string {
	sum := crc32.ChecksumIEEE([]byte(body))
	return encode62(new(big.Int).SetUint64(uint64(sum)), crcLen)
}

// encode62 writes n in base62, left-padded with zeros to width characters.
func encode62(n *big.Int, width int) string {
	out := make([]byte, width)
	rest, digit, radix := new(big.Int).Set(n), new(big.Int), big.NewInt(62)
	for i := width - 1; i >= 0; i-- {
		rest.DivMod(rest, radix, digit)
		out[i] = base62[digit.Int64()]
	}
	return string(out)
}
