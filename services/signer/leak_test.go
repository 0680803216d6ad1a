package signer_test

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// hoard is what must not be found anywhere, each secret under what it is.
type hoard struct {
	plain map[string]string // PINs, seeds, authorizations: long or fixed, no text holds them by chance
	codes map[string]string // one-time passwords: their digits stand in many a time and hash by chance
}

func newHoard(pin string) *hoard {
	return &hoard{plain: map[string]string{"PIN": pin}, codes: map[string]string{}}
}

func (s *hoard) keep(what, secret string) string { s.plain[what] = secret; return secret }

func (s *hoard) keepCode(what, code string) string { s.codes[what] = code; return code }

func (s *hoard) size() int { return len(s.plain) + len(s.codes) }

// in says which of the secrets a text holds: as they are, in hexadecimal (bytea of a dump), in Base64 (bytes in JSON),
// and of codes those that stand by themselves, or that stand right before or after the PIN, as some providers want them.
func (s *hoard) in(text string) []string {
	var found []string
	for what, secret := range s.plain {
		for _, form := range encoded(secret) {
			if strings.Contains(text, form) {
				found = append(found, what)
			}
		}
	}
	pin := s.plain["PIN"]
	for what, code := range s.codes {
		if standsAlone(text, code) {
			found = append(found, what)
		}
		if strings.Contains(text, pin+code) || strings.Contains(text, code+pin) {
			found = append(found, what+" beside the PIN")
		}
		for _, form := range encoded(code)[1:] {
			if strings.Contains(text, form) {
				found = append(found, what)
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// encoded gives a secret as it is, and in the writings that bytes have in texts.
func encoded(secret string) []string {
	return []string{secret, hex.EncodeToString([]byte(secret)), strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(secret)), "=")}
}

// standsAlone says whether digits stand in a text by themselves: not within a longer number, name, hash or identifier,
// and not as the fraction of a number. After their own length as a byte they are a field of an event.
func standsAlone(text, digits string) bool {
	for from := 0; ; {
		i := strings.Index(text[from:], digits)
		if i < 0 {
			return false
		}
		i += from
		end := i + len(digits)
		if i > 0 && text[i-1] == byte(len(digits)) {
			return true
		}
		if (i == 0 || text[i-1] != '.' && !letterOrDigit(text[i-1])) && (end == len(text) || !letterOrDigit(text[end])) {
			return true
		}
		from = i + 1
	}
}

func letterOrDigit(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}

// TestHoard: what is planted is found, and digits that are there by chance are not taken for a code.
func TestHoard(t *testing.T) {
	t.Parallel()
	const code, pin = "123456", "24681357"
	secrets := newHoard(pin)
	secrets.keepCode("code", code)
	secrets.keep("authorization", "Zk3-authorization_of-32-bytes")
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"alone":                    {code, []string{"code"}},
		"JSON":                     {`{"name":"x","otp":"123456","n":1}`, []string{"code"}},
		"JSON number":              {`{"otp":123456}`, []string{"code"}},
		"XML":                      {`<ns2:otp>123456</ns2:otp>`, []string{"code"}},
		"attribute":                {`<auth otp='123456'/>`, []string{"code"}},
		"query":                    {`GET /sign?otp=123456&user=anna HTTP/1.1`, []string{"code"}},
		"log":                      {`level=INFO msg=call otp=123456 took=3ms`, []string{"code"}},
		"end of a line":            {"otp=123456\nnext", []string{"code"}},
		"sentence":                 {"your code is 123456.", []string{"code"}},
		"column of a dump":         {"acme\t123456\t\\N", []string{"code"}},
		"array":                    {"{PIN,123456}", []string{"code"}},
		"event on the wire":        {"\x12\x06" + code + "2\x01x", []string{"code"}},
		"second time":              {"at 0.123456: code 123456", []string{"code"}},
		"bytea":                    {`\x` + hex.EncodeToString([]byte(code)), []string{"code"}},
		"bytes in JSON":            {base64.StdEncoding.EncodeToString([]byte(code)), []string{"code"}},
		"PIN before code":          {"<pwd>24681357123456</pwd>", []string{"PIN", "code beside the PIN"}},
		"code before PIN":          {"pwd=12345624681357", []string{"PIN", "code beside the PIN"}},
		"PIN within":               {"x24681357x", []string{"PIN"}},
		"PIN as bytea":             {`\x` + hex.EncodeToString([]byte(pin)), []string{"PIN"}},
		"authorization":            {"auth: aZk3-authorization_of-32-bytesb", []string{"authorization"}},
		"microseconds":             {time.Date(2026, 11, 22, 8, 10, 51, 123456000, time.UTC).Format(time.RFC3339Nano), nil},
		"microseconds, PostgreSQL": {"2026-11-22 08:10:51.123456+00", nil},
		"nanoseconds":              {"2026-11-22T08:10:51.123456789Z 08:10:51.987123456", nil},
		"seconds of the epoch":     {`{"ts":1812345678,"ns":1234560000}`, nil},
		"hexadecimal":              {"sha256:9f123456ab0c 123456e7 \\x00123456", nil},
		"UUID":                     {uuid.MustParse("01234567-1234-5678-9123-456123456789").String(), nil},
		"fraction":                 {"took=0.123456 12.1234567", nil},
		"name":                     {"key-v123456 123456ms", nil},
		"nothing":                  {"", nil},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, secrets.in(c.text), fmt.Sprintf("%q", c.text)) })
	}
}
