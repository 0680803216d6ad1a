package soap

import (
	"encoding/base64"
	"strings"
)

// Base64 is xs:base64Binary: white space inside is allowed. spec: XSD11-2 §3.3.16
type Base64 []byte

// MarshalText writes base64.
func (b Base64) MarshalText() ([]byte, error) {
	return []byte(base64.StdEncoding.EncodeToString(b)), nil
}

// UnmarshalText reads base64.
func (b *Base64) UnmarshalText(text []byte) error {
	raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	*b = raw
	return err
}
