package signer

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/hashicorp/vault/api"

	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/vault"
)

// What a TOTP device shows: 6 digits, a new one every 30 seconds, HMAC-SHA-1, which every app knows.
// One step before and after is taken, for clocks that differ. spec: RFC6238 §4, §5.2
const (
	otpDigits = 6
	otpPeriod = 30
	otpSkew   = 1
)

// otpKeyName is a device's key in Vault's totp engine. Like transit keys it tells nothing of customers.
func otpKeyName(device uuid.UUID) string { return keyPrefix + "otp-" + device.String() }

// enrolled is the secret of a new device, to be shown once.
type enrolled struct {
	uri string
	png []byte
}

// createOTP makes the secret of a device in Vault. Vault paths: <totp>/keys/<device> (create).
func (t *transit) createOTP(ctx context.Context, device uuid.UUID, issuer, account string) (enrolled, error) {
	secret, err := t.call(ctx, "making a one-time password device", func(ctx context.Context) (*api.Secret, error) {
		return t.client.Logical().WriteWithContext(ctx, t.cfg.TOTP+"/keys/"+otpKeyName(device), map[string]any{
			"generate": true, "exported": true, "issuer": issuer, "account_name": account, "key_size": 20, "qr_size": 240,
			"algorithm": "SHA1", "digits": otpDigits, "period": otpPeriod, "skew": otpSkew,
		})
	})
	if err != nil {
		return enrolled{}, err
	}
	if secret == nil {
		return enrolled{}, fault.Internal(vault.CodeFailed, "Vault answered an enrolment with nothing")
	}
	uri, _ := secret.Data["url"].(string)
	text, _ := secret.Data["barcode"].(string)
	png, err := base64.StdEncoding.DecodeString(text)
	if err != nil || uri == "" || len(png) == 0 {
		return enrolled{}, fault.Internal(vault.CodeFailed, "Vault's answer to an enrolment has no address or no picture")
	}
	return enrolled{uri: uri, png: png}, nil
}

// deleteOTP deletes a device's secret. Vault paths: <totp>/keys/<device> (delete).
func (t *transit) deleteOTP(ctx context.Context, device uuid.UUID) error {
	_, err := t.call(ctx, "deleting a one-time password device", func(ctx context.Context) (*api.Secret, error) {
		return t.client.Logical().DeleteWithContext(ctx, t.cfg.TOTP+"/keys/"+otpKeyName(device))
	})
	return err
}

// checkOTP asks Vault whether a password is right at this moment. It says false for one that Vault
// remembers; it does not remember across a restart, so a true is worth nothing before the password is
// spent in our own table. Vault paths: <totp>/code/<device> (update).
func (t *transit) checkOTP(ctx context.Context, device uuid.UUID, password string) (bool, error) {
	if !digits(password, otpDigits) {
		return false, nil
	}
	secret, err := t.call(ctx, "checking a one-time password", func(ctx context.Context) (*api.Secret, error) {
		secret, err := t.client.Logical().WriteWithContext(ctx, t.cfg.TOTP+"/code/"+otpKeyName(device), map[string]any{"code": password})
		if seenBefore(err) {
			return nil, nil //nolint:nilnil // wrong or used, which is an answer and no failure of Vault's
		}
		return secret, err
	})
	if err != nil || secret == nil {
		return false, err
	}
	valid, ok := secret.Data["valid"].(bool)
	if !ok {
		return false, fault.Internal(vault.CodeFailed, "Vault's answer to a one-time password is no yes or no")
	}
	return valid, nil
}

// seenBefore says whether Vault refused a password because it was tried already, right or wrong.
func seenBefore(err error) bool {
	var answer *api.ResponseError
	return errors.As(err, &answer) && answer.StatusCode == http.StatusBadRequest &&
		len(answer.Errors) == 1 && strings.HasPrefix(answer.Errors[0], "code already used")
}

// macVersion is the version of a credential's key under which PINs and passwords are kept. It stays when the
// key is renewed: another version would make every PIN a wrong one.
const macVersion = 1

// macs gives HMAC-SHA-256 of each input under the version of a key that never leaves Vault: what is
// kept of it cannot be tried by whoever has the database alone. Vault paths: <transit>/hmac/<key> (update).
func (t *transit) macs(ctx context.Context, key string, version int32, inputs ...[]byte) ([][]byte, error) {
	return t.hmacs(ctx, t.cfg.Transit+"/hmac/"+key, version, "sha2-256", 32, inputs)
}

// hmacs has Vault make one MAC for each input, in one call.
func (t *transit) hmacs(ctx context.Context, path string, version int32, algorithm string, size int, inputs [][]byte) ([][]byte, error) {
	batch := make([]map[string]any, len(inputs))
	for i, in := range inputs {
		batch[i] = map[string]any{"input": base64.StdEncoding.EncodeToString(in)}
	}
	secret, err := t.call(ctx, "making a MAC", func(ctx context.Context) (*api.Secret, error) {
		return t.client.Logical().WriteWithContext(ctx, path,
			map[string]any{"batch_input": batch, "key_version": version, "algorithm": algorithm})
	})
	if err != nil {
		return nil, err
	}
	var list []any
	if secret != nil {
		list, _ = secret.Data["batch_results"].([]any)
	}
	if len(list) != len(inputs) {
		return nil, fault.Internal(vault.CodeFailed, "Vault answered %d inputs with %d MACs", len(inputs), len(list))
	}
	out := make([][]byte, len(list))
	for i, item := range list {
		fields, _ := item.(map[string]any)
		text, _ := fields["hmac"].(string)
		encoded, ok := strings.CutPrefix(text, "vault:v"+strconv.Itoa(int(version))+":")
		out[i], err = base64.StdEncoding.DecodeString(encoded)
		if !ok || err != nil || len(out[i]) != size {
			return nil, fault.Internal(vault.CodeFailed, "Vault's MAC is not one of version %d of the key", version)
		}
	}
	return out, nil
}

// digits says whether s is exactly n ASCII digits.
func digits(s string, n int) bool {
	if len(s) != n {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
