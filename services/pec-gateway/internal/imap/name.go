package imap

import (
	"encoding/base64"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Base64 with "," for "/" and without padding. spec: RFC3501 §5.1.3
var nameEncoding = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").WithPadding(base64.NoPadding)

// decodeName reads the name of a folder in modified UTF-7 for people. What cannot be read stands as it
// came: the name for the server is another one anyway.
func decodeName(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '&' {
			b.WriteByte(s[i])
			continue
		}
		end := strings.IndexByte(s[i:], '-')
		if end < 0 {
			return strings.ToValidUTF8(s, "?")
		}
		word := s[i+1 : i+end]
		i += end
		if word == "" {
			b.WriteByte('&')
			continue
		}
		raw, err := nameEncoding.DecodeString(word)
		if err != nil || len(raw)%2 != 0 {
			return strings.ToValidUTF8(s, "?")
		}
		units := make([]uint16, len(raw)/2)
		for k := range units {
			units[k] = uint16(raw[2*k])<<8 | uint16(raw[2*k+1])
		}
		for _, r := range utf16.Decode(units) {
			if r < ' ' || r == utf8.RuneError {
				r = '?'
			}
			b.WriteRune(r)
		}
	}
	return strings.ToValidUTF8(b.String(), "?")
}
