package compose

import "bytes"

// writer appends indented elements. An element without text and a block without
// elements are not written: the format wants what is optional absent, not empty.
type writer struct {
	b     bytes.Buffer
	depth int
}

const tabs = "\t\t\t\t\t\t\t\t\t\t\t\t"

func (w *writer) indent() { w.b.WriteString(tabs[:min(w.depth, len(tabs))]) }

// el writes an element; text has only characters that the format allows.
func (w *writer) el(name, text string) {
	if text == "" {
		return
	}
	w.indent()
	w.b.WriteByte('<')
	w.b.WriteString(name)
	w.b.WriteByte('>')
	w.escape(text)
	w.b.WriteString("</")
	w.b.WriteString(name)
	w.b.WriteString(">\n")
}

func (w *writer) escape(s string) {
	from := 0
	for i := 0; i < len(s); i++ {
		var esc string
		switch s[i] {
		case '&':
			esc = "&amp;"
		case '<':
			esc = "&lt;"
		case '>':
			esc = "&gt;"
		default:
			continue
		}
		w.b.WriteString(s[from:i])
		w.b.WriteString(esc)
		from = i + 1
	}
	w.b.WriteString(s[from:])
}

// block writes an element with what body writes, or nothing.
func (w *writer) block(name string, body func()) {
	start := w.b.Len()
	w.indent()
	w.b.WriteString("<" + name + ">\n")
	inside := w.b.Len()
	w.depth++
	body()
	w.depth--
	if w.b.Len() == inside {
		w.b.Truncate(start)
		return
	}
	w.indent()
	w.b.WriteString("</" + name + ">\n")
}
