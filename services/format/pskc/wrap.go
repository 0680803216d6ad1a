package pskc

import (
	"crypto/aes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// wrapFloor is the least that Vault takes for a key of type hmac. HMAC pads keys with zeroes to its block by
// itself, so a seed that is padded makes the same codes. spec: RFC2104 §2
const wrapFloor = 32

// WrapSeed encrypts a seed for the import into Vault's transit engine: an AES-256 key under RSA-OAEP with
// SHA-256, then the seed under that key with padding. spec: RFC5649 §4.1
func WrapSeed(to *rsa.PublicKey, seed []byte) ([]byte, error) {
	if len(seed) < MinSeed || len(seed) > maxSeed {
		return nil, fmt.Errorf("pskc: a seed has between %d and %d bytes, not %d", MinSeed, maxSeed, len(seed))
	}
	padded := make([]byte, max(len(seed), wrapFloor))
	copy(padded, seed)
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	first, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, to, key, nil)
	if err != nil {
		return nil, fmt.Errorf("pskc: wrap: %w", err)
	}
	second, err := wrapKey(key, padded)
	clear(key)
	clear(padded)
	if err != nil {
		return nil, err
	}
	return append(first, second...), nil
}

// wrapKey is AES key wrap with padding. spec: RFC5649 §4.1, RFC3394 §2.2.1
func wrapKey(kek, plain []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, fmt.Errorf("pskc: wrap: %w", err)
	}
	n := (len(plain) + 7) / 8
	out := make([]byte, 8*(n+1))
	copy(out, []byte{0xA6, 0x59, 0x59, 0xA6})
	binary.BigEndian.PutUint32(out[4:], uint32(len(plain))) //nolint:gosec // at most maxSeed
	copy(out[8:], plain)
	if n == 1 { // one block is encrypted as it is
		block.Encrypt(out, out)
		return out, nil
	}
	var a, b [aes.BlockSize]byte
	copy(a[:8], out[:8])
	for j := range 6 {
		for i := 1; i <= n; i++ {
			copy(a[8:], out[8*i:8*i+8])
			block.Encrypt(b[:], a[:])
			binary.BigEndian.PutUint64(a[:8], binary.BigEndian.Uint64(b[:8])^uint64(n*j+i)) //nolint:gosec // small
			copy(out[8*i:], b[8:])
		}
	}
	copy(out[:8], a[:8])
	return out, nil
}
