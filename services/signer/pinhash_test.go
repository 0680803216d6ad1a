package signer_test

import (
	"context"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/argon2"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg/pgtest"
)

// TestOlderPINHashes: a PIN that was kept under the parameters of before is right, is kept anew by its first right
// use and by no wrong one, and an attempt that is judged by the older hash meanwhile is not made a wrong one.
func TestOlderPINHashes(t *testing.T) {
	t.Parallel()
	h, ctx := openWith(t, nil, "  authorization: {pin_passes: 4}\n"), context.Background()
	s := h.signatory(t, p256)
	id := uuid.MustParse(last(s.name))
	type kept struct {
		memory, passes, lanes, version int
		salt, mac                      []byte
	}
	read := func() (k kept) {
		require.NoError(t, pgtest.Admin(t, h.DB("signer")).QueryRow(ctx, `SELECT memory_kib, passes, lanes, version, salt, mac FROM credential_pin WHERE credential_id = $1`, id).
			Scan(&k.memory, &k.passes, &k.lanes, &k.version, &k.salt, &k.mac))
		return k
	}
	fresh := read()
	require.GreaterOrEqual(t, fresh.memory, 7*1024, "the least memory that OWASP names")
	require.Equal(t, 4, fresh.passes, "as the configuration says")

	var key string
	require.NoError(t, pgtest.Admin(t, h.DB("signer")).QueryRow(ctx, `SELECT key_name FROM credential WHERE id = $1`, id).Scan(&key))
	salt := []byte("sixteen bytes: ok")[:16]
	input := append([]byte("pin\x00"+id.String()+"\x00"), argon2.IDKey([]byte(goodPIN), salt, 2, 19*1024, 1, 32)...)
	root, err := h.vault.Client()
	require.NoError(t, err)
	answer, err := root.Logical().Write("transit/hmac/"+key, map[string]any{"input": base64.StdEncoding.EncodeToString(input), "key_version": 1, "algorithm": "sha2-256"})
	require.NoError(t, err)
	mac, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(answer.Data["hmac"].(string), "vault:v1:"))
	require.NoError(t, err)
	h.exec(t, `UPDATE credential_pin SET salt = $2, memory_kib = 19456, passes = 2, lanes = 1, mac = $3 WHERE credential_id = $1`, id, salt, mac)
	older := read()
	require.Equal(t, 1, older.lanes)

	_, hashes := hashesOf(1)
	_, err = s.auth.AuthorizeChallenge(ctx, &signv1.AuthorizeChallengeRequest{Name: s.challenge(t, hashes).GetName(), Pin: "40718361", Otp: "000000"})
	code(t, err, fault.KindDenied, "AUTHENTICATION_FAILED")
	require.Equal(t, older, read(), "a wrong PIN changes nothing")
	s.authorize(t, s.challenge(t, hashes))
	anew := read()
	require.Equal(t, []int{fresh.memory, fresh.passes, fresh.lanes, older.version}, []int{anew.memory, anew.passes, anew.lanes, anew.version})
	require.NotEqual(t, older.salt, anew.salt)
	require.NotEqual(t, older.mac, anew.mac)
	s.authorize(t, s.challenge(t, hashes))
	require.Equal(t, anew, read(), "and stays")
}
