package pec

import (
	"errors"
	"html"
	"strings"
	"unicode/utf8"
)

// maxPlain bounds the text that is shown of one message.
const maxPlain = 4 << 20

// PlainText is what a person reads in a message: the text of the original inside when there is one, else of the
// message itself. It is safe to show anywhere: HTML is reduced to its words (HTMLText), and characters that steer a
// terminal or turn the direction of text are gone. "" when there is no text. Errors are the source's.
func (r *Reading) PlainText() (string, error) {
	root := r.Root
	original, err := r.OriginalMessage()
	if err != nil {
		return "", err
	}
	if original != nil {
		root = original
	}
	var plain, rich []string
	size := 0
	for _, p := range root.TextParts() {
		text, _, err := p.Text()
		if isLimit(err) || errors.Is(err, ErrEmpty) {
			continue
		}
		if err != nil {
			return "", err
		}
		if size += len(text); size > maxPlain {
			break
		}
		if p.MediaType == "text/html" {
			rich = append(rich, HTMLText(text))
		} else {
			plain = append(plain, cleanLines(text))
		}
	}
	if text := strings.TrimSpace(strings.Join(plain, "\n")); text != "" {
		return text + "\n", nil
	}
	if text := strings.TrimSpace(strings.Join(rich, "\n")); text != "" {
		return text + "\n", nil
	}
	return "", nil
}

// cleanLines keeps lines and takes everything out of them that is no text.
func cleanLines(s string) string {
	lines := strings.Split(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(s), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(cleanText(lines[i]), " \t")
	}
	return strings.Join(lines, "\n")
}

// HTMLText reduces HTML to its words. Scripts, styles and embedded things are left out, a link is followed by its
// target, so that nobody is sent elsewhere than it says, images and fields of forms are named. Nothing is ever
// fetched. It takes any bytes for HTML, as browsers do, in one pass.
func HTMLText(s string) string {
	w := &htmlWords{}
	for len(s) > 0 {
		i := strings.IndexByte(s, '<')
		if i < 0 {
			w.text(s)
			break
		}
		w.text(s[:i])
		s = w.markup(s[i:])
	}
	return strings.TrimSpace(w.b.String()) + "\n"
}

// htmlWords gathers words and line breaks.
type htmlWords struct {
	b     strings.Builder
	blank bool // a blank is due before the next word
	ends  int  // line ends since the last word
	link  string
}

func (w *htmlWords) text(s string) {
	s = html.UnescapeString(strings.ToValidUTF8(s, "\ufffd"))
	for len(s) > 0 && w.b.Len() < maxPlain {
		i := strings.IndexAny(s, " \t\r\n\f\u00a0")
		if i == 0 {
			_, n := utf8.DecodeRuneInString(s)
			w.blank, s = true, s[n:]
			continue
		}
		word := s
		if i > 0 {
			word = s[:i]
		}
		s = s[len(word):]
		w.word(cleanText(word))
	}
}

func (w *htmlWords) word(word string) {
	if word == "" {
		return
	}
	if w.blank && w.ends == 0 && w.b.Len() > 0 {
		w.b.WriteByte(' ')
	}
	w.b.WriteString(word)
	w.blank, w.ends = false, 0
}

// line ends the line, and leaves at most one empty one.
func (w *htmlWords) line() {
	if w.b.Len() > 0 && w.ends < 2 {
		w.b.WriteByte('\n')
		w.ends++
	}
	w.blank = false
}

// left out with everything inside: it is no text, or none that a browser shows.
const htmlOpaque = " script style title template noscript iframe object svg math xmp noembed noframes textarea select applet audio video canvas "

// that stand on a line of their own.
const htmlBlocks = " p div br tr li h1 h2 h3 h4 h5 h6 table hr blockquote ul ol dl dt dd pre form section article header footer body "

// markup reads what begins with "<" and gives the rest.
func (w *htmlWords) markup(s string) string {
	switch {
	case strings.HasPrefix(s, "<!--"):
		return after(s[4:], "-->")
	case strings.HasPrefix(s, "<!"), strings.HasPrefix(s, "<?"):
		return after(s, ">")
	}
	closing := strings.HasPrefix(s, "</")
	from := 1
	if closing {
		from = 2
	}
	n := from
	for n < len(s) && isAlnum(s[n]) {
		n++
	}
	if n == from {
		w.text(s[:1]) // no tag: a sign in the text
		return s[1:]
	}
	name := strings.ToLower(s[from:n])
	attributes, rest := htmlAttributes(s[n:])
	switch {
	case !closing && strings.Contains(htmlOpaque, " "+name+" "):
		w.opaque(name)
		return afterTag(rest, name)
	case strings.Contains(htmlBlocks, " "+name+" "):
		w.line()
	case name == "td", name == "th":
		w.blank = true
	case name == "a" && !closing:
		w.link = cleanText(attributes["href"])
	case name == "a" && w.link != "":
		w.blank = true
		w.word("<" + w.link + ">")
		w.link = ""
	case name == "img" && !closing:
		w.note("image", attributes["alt"])
	case name == "input", name == "button", name == "embed":
		w.note("left out: "+name, attributes["value"])
	}
	return rest
}

func (w *htmlWords) opaque(name string) {
	switch name {
	case "iframe", "object", "svg", "applet", "audio", "video", "select", "textarea":
		w.note("left out: "+name, "")
	}
}

func (w *htmlWords) note(what, text string) {
	w.blank = true
	if text = strings.TrimSpace(cleanText(html.UnescapeString(text))); text != "" {
		what += " " + text
	}
	w.word("[" + what + "]")
	w.blank = true
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

func after(s, end string) string {
	if _, rest, found := strings.Cut(s, end); found {
		return rest
	}
	return ""
}

// afterTag skips to the end of the element.
func afterTag(s, name string) string {
	for {
		i := strings.Index(s, "</")
		if i < 0 {
			return ""
		}
		s = s[i+2:]
		if len(s) >= len(name) && strings.EqualFold(s[:len(name)], name) && (len(s) == len(name) || !isAlnum(s[len(name)])) {
			return after(s, ">")
		}
	}
}

// htmlAttributes reads up to the end of the tag; quotes protect ">".
func htmlAttributes(s string) (map[string]string, string) {
	out := map[string]string{}
	i := 0
	for i < len(s) && s[i] != '>' {
		if !isAlnum(s[i]) {
			i++
			continue
		}
		from := i
		for i < len(s) && (isAlnum(s[i]) || s[i] == '-' || s[i] == ':') {
			i++
		}
		name := strings.ToLower(s[from:i])
		j := skipBlanks(s, i)
		if j >= len(s) || s[j] != '=' {
			continue
		}
		var value string
		value, i = htmlValue(s, skipBlanks(s, j+1))
		if _, twice := out[name]; !twice && len(out) < 100 {
			out[name] = html.UnescapeString(strings.ToValidUTF8(value, "\ufffd"))
		}
	}
	if i < len(s) {
		i++
	}
	return out, s[i:]
}

func skipBlanks(s string, i int) int {
	for i < len(s) && strings.IndexByte(" \t\r\n\f", s[i]) >= 0 {
		i++
	}
	return i
}

func htmlValue(s string, i int) (string, int) {
	if i < len(s) && (s[i] == '"' || s[i] == '\'') {
		end := strings.IndexByte(s[i+1:], s[i])
		if end < 0 {
			return s[i+1:], len(s)
		}
		return s[i+1 : i+1+end], i + end + 2
	}
	from := i
	for i < len(s) && s[i] != '>' && strings.IndexByte(" \t\r\n\f", s[i]) < 0 {
		i++
	}
	return s[from:i], i
}
