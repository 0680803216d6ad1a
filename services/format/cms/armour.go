package cms

import (
	"bytes"
	"encoding/base64"
	"fmt"
)

// Armour is the text form around the binary.
type Armour string

// The armours that are read.
const (
	ArmourNone   Armour = "none"
	ArmourBase64 Armour = "base64" // tolerance: mail clients save .p7m so, with or without CRLF
	ArmourPEM    Armour = "pem"
)

var utf8BOM = []byte{0xEF, 0xBB, 0xBF}

// unarmour gives the binary form of raw. Binary input is returned as it is.
func unarmour(raw []byte) ([]byte, Armour, error) {
	if len(raw) > 0 && raw[0] == tagSequence {
		// '0' is 0x30 too: a Base64 text that begins with '0' is told by its second byte, which in
		// BER is a length. No SignedData in Base64 begins with '0' ("MI", "MH", "MA" do).
		return raw, ArmourNone, nil
	}
	text := bytes.TrimSpace(bytes.TrimPrefix(raw, utf8BOM))
	if len(text) == 0 {
		return nil, ArmourNone, &SyntaxError{0, "the file is empty"}
	}
	armour := ArmourBase64
	if bytes.HasPrefix(text, []byte("-----BEGIN ")) {
		body, err := pemBody(text)
		if err != nil {
			return nil, ArmourPEM, err
		}
		text, armour = body, ArmourPEM
	}
	if text[0] != 'M' {
		return nil, armour, &SyntaxError{0, fmt.Sprintf("first byte is %#02x: neither a CMS file (0x30) nor one in Base64 or PEM", raw[0])}
	}
	out := base64Letters(text)
	n, err := base64.RawStdEncoding.Decode(out, out)
	if err != nil {
		return nil, armour, fmt.Errorf("cms: %s armour: %w", armour, err)
	}
	return out[:n], armour, nil
}

// pemBody cuts the Base64 lines out of the first PEM block.
func pemBody(text []byte) ([]byte, error) {
	_, rest, ok := bytes.Cut(text, []byte{'\n'})
	if !ok {
		return nil, &SyntaxError{0, "PEM header without a body"}
	}
	body, _, ok := bytes.Cut(rest, []byte("-----END "))
	if !ok {
		return nil, &SyntaxError{0, "PEM footer is missing: the file is cut off"}
	}
	if body = bytes.TrimSpace(body); len(body) == 0 {
		return nil, &SyntaxError{0, "PEM block is empty"}
	}
	return body, nil
}

// base64Letters copies text without white space and padding.
func base64Letters(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for _, c := range text {
		switch c {
		case ' ', '\t', '\r', '\n', '=':
		default:
			out = append(out, c)
		}
	}
	return out
}
