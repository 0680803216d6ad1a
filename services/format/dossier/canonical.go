package dossier

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Canonical writes a value as canonical JSON: members sorted by UTF-16 code units, no white space, only the
// escapes that must be. Values are those of encoding/json; numbers are whole. spec: RFC8785 §3.2
func Canonical(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("dossier: %w", err)
	}
	return canonicalOf(raw)
}

// canonicalOf writes JSON text again in canonical form.
func canonicalOf(raw []byte) ([]byte, error) {
	if !utf8.Valid(raw) {
		return nil, errors.New("dossier: JSON is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("dossier: JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("dossier: something follows the JSON")
	}
	var b bytes.Buffer
	if err := put(&b, v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func put(b *bytes.Buffer, v any) error {
	switch v := v.(type) {
	case nil:
		b.WriteString("null")
	case bool:
		b.WriteString(strconv.FormatBool(v))
	case string:
		quote(b, v)
	case json.Number:
		n, err := strconv.ParseInt(v.String(), 10, 64)
		if err != nil || n > 1<<53 || n < -(1<<53) {
			return fmt.Errorf("dossier: the number %s is not a whole one that every reader holds", v)
		}
		b.WriteString(strconv.FormatInt(n, 10))
	case []any:
		b.WriteByte('[')
		for i, e := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := put(b, e); err != nil {
				return err
			}
		}
		b.WriteByte(']')
	case map[string]any:
		return putObject(b, v)
	}
	return nil
}

func putObject(b *bytes.Buffer, v map[string]any) error {
	names := make([]string, 0, len(v))
	for name := range v {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return slices.Compare(utf16.Encode([]rune(a)), utf16.Encode([]rune(b))) })
	b.WriteByte('{')
	for i, name := range names {
		if i > 0 {
			b.WriteByte(',')
		}
		quote(b, name)
		b.WriteByte(':')
		if err := put(b, v[name]); err != nil {
			return err
		}
	}
	b.WriteByte('}')
	return nil
}

// quote: spec: RFC8785 §3.2.2.2
func quote(b *bytes.Buffer, s string) {
	short := map[rune]string{'\b': `\b`, '\t': `\t`, '\n': `\n`, '\f': `\f`, '\r': `\r`, '"': `\"`, '\\': `\\`}
	b.WriteByte('"')
	for _, r := range s {
		switch e := short[r]; {
		case e != "":
			b.WriteString(e)
		case r < 0x20:
			fmt.Fprintf(b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
}
