package xades

import (
	"bytes"
	"fmt"
	"strings"

	"golang.org/x/text/encoding/charmap"
)

// SyntaxError says what is wrong with the document and at which byte.
type SyntaxError struct {
	Offset int
	Reason string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("xades: byte %d: %s", e.Offset, e.Reason) }

func malformed(at int, format string, args ...any) error {
	return &SyntaxError{at, fmt.Sprintf(format, args...)}
}

// lexed is where things stand in the bytes of a document.
type lexed struct {
	rootClose int      // offset of the root's closing tag, -1 when the root is an empty tag
	values    [][2]int // attribute values, without their quotes
	tracks    bool     // closes is wanted
	closes    []int    // offset of the closing tag of each element in document order, -1 for empty tags
	open      []int    // elements that are not closed yet, as indices of closes
}

// closings gives the offset of each element's closing tag, in document order; -1 for empty tags.
func closings(b []byte) ([]int, error) {
	l := lexed{rootClose: -1, tracks: true}
	err := l.lex(b)
	return l.closes, err
}

// opened and closed follow the elements.
func (l *lexed) opened(empty bool) {
	if !l.tracks {
		return
	}
	if !empty {
		l.open = append(l.open, len(l.closes))
	}
	l.closes = append(l.closes, -1)
}

func (l *lexed) closed(at int) {
	if n := len(l.open); l.tracks && n > 0 {
		l.closes[l.open[n-1]] = at
		l.open = l.open[:n-1]
	}
}

// lex finds the root's closing tag and the attribute values. It works on bytes of any encoding
// that contains ASCII. Well-formedness is the parser's to judge.
func lex(b []byte) (lexed, error) {
	out := lexed{rootClose: -1}
	err := out.lex(b)
	return out, err
}

func (l *lexed) lex(b []byte) error {
	depth, roots := 0, 0
	for i := 0; i < len(b); {
		lt := bytes.IndexByte(b[i:], '<')
		if lt < 0 {
			break
		}
		i += lt
		rest := b[i:]
		switch {
		case bytes.HasPrefix(rest, []byte("<!--")):
			n := bytes.Index(rest[4:], []byte("-->"))
			if n < 0 {
				return malformed(i, "comment is not closed")
			}
			i += 4 + n + 3
		case bytes.HasPrefix(rest, []byte("<![CDATA[")):
			n := bytes.Index(rest, []byte("]]>"))
			if n < 0 {
				return malformed(i, "CDATA section is not closed")
			}
			i += n + 3
		case bytes.HasPrefix(rest, []byte("<?")):
			n := bytes.Index(rest, []byte("?>"))
			if n < 0 {
				return malformed(i, "processing instruction is not closed")
			}
			i += n + 2
		case bytes.HasPrefix(rest, []byte("<!")):
			return malformed(i, "document type declarations are not accepted")
		case bytes.HasPrefix(rest, []byte("</")):
			n := bytes.IndexByte(rest, '>')
			if n < 0 {
				return malformed(i, "closing tag is cut off")
			}
			l.closed(i)
			if depth--; depth == 0 {
				l.rootClose = i
			}
			i += n + 1
		default:
			end, empty, err := lexTag(b, i, l)
			if err != nil {
				return err
			}
			if depth == 0 {
				roots++
			}
			l.opened(empty)
			if !empty {
				depth++
			}
			i = end
		}
	}
	if roots != 1 || depth != 0 {
		return malformed(len(b), "%d root elements, %d elements not closed", roots, depth)
	}
	return nil
}

// lexTag walks a start tag, noting the attribute values.
func lexTag(b []byte, start int, out *lexed) (end int, empty bool, err error) {
	for i := start + 1; i < len(b); i++ {
		switch b[i] {
		case '"', '\'':
			n := bytes.IndexByte(b[i+1:], b[i])
			if n < 0 {
				return 0, false, malformed(i, "attribute value is not closed")
			}
			out.values = append(out.values, [2]int{i + 1, i + 1 + n})
			i += n + 1
		case '<':
			return 0, false, malformed(i, "'<' inside a tag")
		case '>':
			return i + 1, b[i-1] == '/', nil
		}
	}
	return 0, false, malformed(start, "tag is cut off")
}

var utf8BOM = []byte{0xEF, 0xBB, 0xBF}

// prepare gives the document in UTF-8 with normalised line ends (XML 1.0 §2.11) and normalised
// attribute values (§3.3.3), neither of which encoding/xml does for attributes.
// A tab or a line end in xsi:schemaLocation would else give a wrong digest.
func prepare(raw []byte) ([]byte, error) {
	b := bytes.TrimPrefix(raw, utf8BOM)
	b, err := toUTF8(b)
	if err != nil {
		return nil, err
	}
	fresh := false // b is ours to change
	if bytes.IndexByte(b, '\r') >= 0 {
		b = bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")), []byte("\r"), []byte("\n"))
		fresh = true
	}
	l, err := lex(b)
	if err != nil {
		return nil, err
	}
	for _, v := range l.values {
		if !bytes.ContainsAny(b[v[0]:v[1]], "\t\n") {
			continue
		}
		if !fresh {
			b, fresh = bytes.Clone(b), true
		}
		for i := v[0]; i < v[1]; i++ {
			if b[i] == '\t' || b[i] == '\n' {
				b[i] = ' '
			}
		}
	}
	return b, nil
}

// toUTF8 obeys the encoding in the XML declaration.
func toUTF8(b []byte) ([]byte, error) {
	if len(b) >= 2 && (b[0] == 0xFE && b[1] == 0xFF || b[0] == 0xFF && b[1] == 0xFE || b[0] == 0 || b[1] == 0) {
		return nil, malformed(0, "UTF-16 is not accepted: save the document as UTF-8")
	}
	switch name := declaredEncoding(b); name {
	case "", "utf-8", "utf8", "us-ascii", "ascii":
		return b, nil
	case "iso-8859-1", "latin1":
		return decodeWith(charmap.ISO8859_1, b)
	case "iso-8859-15":
		return decodeWith(charmap.ISO8859_15, b)
	case "windows-1252", "cp1252":
		return decodeWith(charmap.Windows1252, b)
	default:
		return nil, malformed(0, "encoding %q is not accepted: use UTF-8, ISO-8859-1, ISO-8859-15 or windows-1252", name)
	}
}

func decodeWith(m *charmap.Charmap, b []byte) ([]byte, error) {
	out, err := m.NewDecoder().Bytes(b)
	if err != nil {
		return nil, fmt.Errorf("xades: decode %v: %w", m, err)
	}
	return out, nil
}

// declaredEncoding reads encoding="..." out of the XML declaration, in lower case. What only begins like one, such as
// <?xml-stylesheet or <?xml.version, is an instruction that says nothing of the document's encoding. spec: XML 1.0 §2.8
func declaredEncoding(b []byte) string {
	const begin = "<?xml"
	if !bytes.HasPrefix(b, []byte(begin)) || len(b) == len(begin) || !strings.ContainsRune(" \t\r\n", rune(b[len(begin)])) {
		return ""
	}
	end := bytes.Index(b, []byte("?>"))
	if end < 0 {
		return ""
	}
	_, rest, ok := strings.Cut(string(b[:end]), "encoding")
	if !ok {
		return ""
	}
	rest = strings.TrimLeft(rest, " \t\r\n=")
	if rest == "" || (rest[0] != '"' && rest[0] != '\'') {
		return ""
	}
	name, _, _ := strings.Cut(rest[1:], rest[:1])
	return strings.ToLower(name)
}
