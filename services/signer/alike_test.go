package signer_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/fault"
)

// judged is what Vault was asked for one attempt.
type judged struct {
	codes int      // passwords of an app
	macs  []string // what it made MACs of, in the order asked, each as the audit log hides it: the same where the same was asked
	calls int
}

// judgedSince reads Vault's audit log from line after on, and says how many lines there are.
func (h *house) judgedSince(t *testing.T, after int) (j judged, lines int) {
	t.Helper()
	raw, err := os.ReadFile(h.audit)
	require.NoError(t, err)
	all := bytes.Split(bytes.TrimSuffix(raw, []byte("\n")), []byte("\n"))
	for _, line := range all[min(after, len(all)):] {
		var entry struct {
			Type    string
			Request struct {
				Path string
				Data struct {
					Batch []struct{ Input string } `json:"batch_input"`
				}
			}
		}
		if json.Unmarshal(line, &entry) != nil || entry.Type != "request" {
			continue
		}
		switch {
		case strings.HasPrefix(entry.Request.Path, "totp/code/"):
			j.codes, j.calls = j.codes+1, j.calls+1
		case strings.HasPrefix(entry.Request.Path, "transit/hmac/"):
			j.calls++
			for _, one := range entry.Request.Data.Batch {
				j.macs = append(j.macs, one.Input)
			}
		}
	}
	return j, len(all)
}

// TestWrongFactorsAreJudgedAlike: a wrong PIN, a wrong password and both cost the same work, so that time tells nothing of
// which it was: the PIN that was given is hashed, the password is looked at, and Vault is asked for the same MACs, whatever is
// wrong. The work is counted, not timed.
func TestWrongFactorsAreJudgedAlike(t *testing.T) {
	t.Parallel()
	const badPIN, other = "27180953", "27180954"
	ownVault(t)
	m := openMessages(t)
	_, hashes := hashesOf(1)
	byApp, bySMS := m.signatory(t, p256), m.person(t, "tenants/acme/users/u-18")
	bySMS.enrolSent(t, sms, phone)
	for _, way := range []struct {
		name, credential string
		auth             signv1.AuthorizationServiceClient
		password         func(ch *signv1.Challenge) string
		codes, macs      int // the PIN's, that of the list of the spent, and, of what was sent, what it was sent for
	}{
		{"app", byApp.name, byApp.auth, func(*signv1.Challenge) string { return byApp.phone.code() }, 1, 2},
		{"message", bySMS.name, bySMS.auth, func(ch *signv1.Challenge) string {
			m.exec(t, `UPDATE otp_message SET sent_at = sent_at - interval '1 hour', sent_today = 0`)
			_, err := bySMS.auth.SendOtp(t.Context(), &signv1.SendOtpRequest{Challenge: ch.GetName()})
			require.NoError(t, err)
			return bySMS.lastPassword(t, phone)
		}, 0, 3},
	} {
		var hashed []string
		for _, c := range []struct {
			pin      string
			password bool
			code     string
		}{{badPIN, true, "AUTHENTICATION_FAILED"}, {goodPIN, false, "AUTHENTICATION_FAILED"}, {badPIN, false, "AUTHENTICATION_FAILED"}, {other, false, "AUTHENTICATION_FAILED"}, {goodPIN, true, "OK"}} {
			ch, err := way.auth.CreateChallenge(t.Context(), &signv1.CreateChallengeRequest{Parent: way.credential, DocumentSha256: hashes})
			require.NoError(t, err)
			otp := map[string]string{"app": "000000", "message": "00000000"}[way.name]
			if c.password {
				otp = way.password(ch)
			}
			_, before := m.judgedSince(t, 0)
			_, err = way.auth.AuthorizeChallenge(t.Context(), &signv1.AuthorizeChallengeRequest{Name: ch.GetName(), Pin: c.pin, Otp: otp})
			if c.code == "OK" {
				require.NoError(t, err)
			} else {
				require.Equal(t, c.code, fault.Of(err).Code, "%v", err)
			}
			got, _ := m.judgedSince(t, before)
			require.Equal(t, way.codes, got.codes, "%s: the password is looked at, once", way.name)
			require.Len(t, got.macs, way.macs, way.name)
			require.Equal(t, way.codes+1, got.calls, "%s: all MACs in one call", way.name)
			hashed = append(hashed, got.macs[0])
		}
		require.Equal(t, hashed[0], hashed[2], "%s: the PIN that was given is hashed, also beside a wrong password", way.name)
		require.Equal(t, hashed[1], hashed[4], way.name)
		require.NotEqual(t, hashed[0], hashed[1], way.name)
		require.NotEqual(t, hashed[2], hashed[3], way.name)
	}
}
