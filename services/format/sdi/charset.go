package sdi

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
)

// unescape resolves the five predefined entities and character references.
func (r *xmlReader) unescape(b []byte) (string, error) {
	i := bytes.IndexByte(b, '&')
	if i < 0 {
		return string(b), nil
	}
	var out strings.Builder
	out.Grow(len(b))
	for i >= 0 {
		out.Write(b[:i])
		b = b[i+1:]
		j := bytes.IndexByte(b[:min(len(b), 12)], ';')
		if j < 0 {
			return "", r.fail(ErrXML, "'&' must begin an entity; write &amp; for the character")
		}
		s, ok := entity(string(b[:j]))
		if !ok {
			return "", r.fail(ErrXML, "unknown entity &%s;", clip(string(b[:j]), 20))
		}
		out.WriteString(s)
		b = b[j+1:]
		i = bytes.IndexByte(b, '&')
	}
	out.Write(b)
	return out.String(), nil
}

func entity(name string) (string, bool) {
	switch name {
	case "amp":
		return "&", true
	case "lt":
		return "<", true
	case "gt":
		return ">", true
	case "quot":
		return `"`, true
	case "apos":
		return "'", true
	}
	num, ok := strings.CutPrefix(name, "#")
	if !ok {
		return "", false
	}
	base := 10
	if hex, ok := strings.CutPrefix(num, "x"); ok {
		num, base = hex, 16
	}
	n, err := strconv.ParseUint(num, base, 32)
	if err != nil || n > utf8.MaxRune || !validChar(rune(n)) {
		return "", false
	}
	return string(rune(n)), true
}

// validChar is production [2] Char of XML 1.0.
func validChar(c rune) bool {
	return c == '\t' || c == '\n' || c == '\r' || c >= 0x20 && c <= 0xD7FF || c >= 0xE000 && c <= 0xFFFD || c >= 0x10000
}

// toUTF8 returns data as UTF-8 without byte order mark. It reads the mark or the XML
// declaration; the declaration itself is left in place.
func toUTF8(doc string, data []byte) ([]byte, error) {
	if b, ok := bytes.CutPrefix(data, []byte("\xEF\xBB\xBF")); ok {
		data = b
	}
	var enc encoding.Encoding
	switch {
	case bytes.HasPrefix(data, []byte("\xFE\xFF")), bytes.HasPrefix(data, []byte("\xFF\xFE")):
		enc = unicode.UTF16(unicode.BigEndian, unicode.UseBOM)
	default:
		switch name := declaredEncoding(data); strings.ToLower(name) {
		case "", "utf-8", "utf8", "us-ascii", "ascii":
			if !utf8.Valid(data) {
				return nil, parseErr(doc, ErrEncoding, "the bytes are not valid UTF-8; declare the real encoding in <?xml ... encoding=\"...\"?>")
			}
			return data, nil
		case "iso-8859-1", "latin1":
			enc = charmap.ISO8859_1
		case "iso-8859-15":
			enc = charmap.ISO8859_15
		case "windows-1252", "cp1252":
			enc = charmap.Windows1252
		default:
			return nil, parseErr(doc, ErrEncoding, "declared as %q; use UTF-8", clip(name, 40))
		}
	}
	out, err := enc.NewDecoder().Bytes(data)
	if err != nil {
		return nil, parseErr(doc, ErrEncoding, "%v", err)
	}
	return out, nil
}

func declaredEncoding(data []byte) string {
	if !bytes.HasPrefix(data, []byte("<?xml")) {
		return ""
	}
	end := bytes.Index(data[:min(len(data), 256)], []byte("?>"))
	if end < 0 {
		return ""
	}
	decl := data[:end]
	i := bytes.Index(decl, []byte("encoding"))
	if i < 0 {
		return ""
	}
	v := bytes.TrimLeft(decl[i+len("encoding"):], " \t\r\n=")
	if len(v) == 0 || v[0] != '"' && v[0] != '\'' {
		return ""
	}
	j := bytes.IndexByte(v[1:], v[0])
	if j < 0 {
		return ""
	}
	return string(v[1 : 1+j])
}
