package notification

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/google/uuid"
)

const (
	secretPrefix = "whsec_"
	secretLen    = 32 // bytes; spec: Standard Webhooks: between 24 and 64
	keyLen       = 32
	keyIDLen     = 4
)

// newSecret makes the secret of an endpoint.
func newSecret() ([]byte, error) {
	secret := make([]byte, secretLen)
	if _, err := rand.Read(secret); err != nil {
		return nil, fmt.Errorf("notification: randomness for a secret: %w", err)
	}
	return secret, nil
}

// showSecret writes a secret as its owner sees it.
func showSecret(secret []byte) string {
	return secretPrefix + base64.StdEncoding.EncodeToString(secret)
}

// secretLabel binds a sealed secret to its endpoint: moved to another row it does not open.
func secretLabel(tenant string, id uuid.UUID) []byte {
	return []byte("webhook secret of " + targetName(tenant, byWebhook, id))
}

// sealer encrypts secrets with AES-256-GCM. What it makes is key id (4 bytes of the SHA-256 of the
// key), nonce and ciphertext.
type sealer struct{ keys []sealKey }

type sealKey struct {
	id   [keyIDLen]byte
	aead cipher.AEAD
}

// readSealer reads the keys: one per line, base64 or hexadecimal, the first in use.
func readSealer(path string) (*sealer, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("keys of webhook secrets: %w", err)
	}
	s := &sealer{}
	for i, line := range strings.Split(string(raw), "\n") {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		key, err := decodeKey(line)
		if err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", path, i+1, err)
		}
		k, err := newSealKey(key)
		if err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", path, i+1, err)
		}
		s.keys = append(s.keys, k)
	}
	if len(s.keys) == 0 {
		return nil, fmt.Errorf("%s holds no key: write one with `openssl rand -base64 32`", path)
	}
	return s, nil
}

func decodeKey(line string) ([]byte, error) {
	if key, err := hex.DecodeString(line); err == nil && len(key) == keyLen {
		return key, nil
	}
	if key, err := base64.StdEncoding.DecodeString(line); err == nil && len(key) == keyLen {
		return key, nil
	}
	return nil, errors.New("want 32 bytes in base64 or hexadecimal")
}

func newSealKey(key []byte) (sealKey, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return sealKey{}, fmt.Errorf("notification: cipher: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return sealKey{}, fmt.Errorf("notification: cipher mode: %w", err)
	}
	sum := sha256.Sum256(key)
	return sealKey{id: [keyIDLen]byte(sum[:keyIDLen]), aead: aead}, nil
}

func (s *sealer) seal(plain, label []byte) ([]byte, error) {
	k := s.keys[0]
	nonce := make([]byte, k.aead.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return nil, fmt.Errorf("notification: randomness for a nonce: %w", err)
	}
	return k.aead.Seal(append(append([]byte(nil), k.id[:]...), nonce...), nonce, plain, label), nil
}

func (s *sealer) open(sealed, label []byte) ([]byte, error) {
	for _, k := range s.keys {
		if len(sealed) < keyIDLen+k.aead.NonceSize() || [keyIDLen]byte(sealed[:keyIDLen]) != k.id {
			continue
		}
		rest := sealed[keyIDLen:]
		plain, err := k.aead.Open(nil, rest[:k.aead.NonceSize()], rest[k.aead.NonceSize():], label)
		if err != nil {
			return nil, fmt.Errorf("notification: a stored secret does not open: %w", err)
		}
		return plain, nil
	}
	return nil, errors.New("notification: no key in secret_key_file opens a stored secret: put the earlier key back on a later line")
}
