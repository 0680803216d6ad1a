package render

import (
	"strconv"
	"strings"
	"unicode"

	"ceralacca.dev/services/format/fatturapa"
)

// safeTypes are the kinds of file that an attachment keeps its ending and type
// for. All others are offered as .bin, or .txt for text that a browser would run,
// so that opening the download starts nothing.
var safeTypes = map[string]string{
	"pdf": "application/pdf", "txt": "text/plain", "csv": "text/csv",
	"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "gif": "image/gif", "tif": "image/tiff", "tiff": "image/tiff",
	"zip": "application/zip", "p7m": "application/pkcs7-mime", "7z": "application/octet-stream", "rar": "application/octet-stream",
	"docx": "application/octet-stream", "xlsx": "application/octet-stream", "odt": "application/octet-stream", "ods": "application/octet-stream",
}

// shownAsText are markup: harmless to read, not to open.
var shownAsText = map[string]bool{"xml": true, "html": true, "htm": true, "xhtml": true, "svg": true, "json": true, "eml": true}

// attachments lists the files inside a document.
func (v *view) attachments(files []fatturapa.Element) {
	v.out.open(markSection)
	v.out.open(markHeading)
	v.say(labelOf("Allegati"))
	v.out.shut(markHeading)
	v.out.open(markFiles)
	for _, e := range files {
		v.file(e)
	}
	v.out.shut(markFiles)
	v.out.shut(markSection)
}

func (v *view) file(e fatturapa.Element) {
	var name, format, packed, content, description string
	found := false
	for c := range v.business(e) {
		if c.HasChildren() {
			continue
		}
		switch v.named(c) {
		case "NomeAttachment":
			name = c.Text()
		case "FormatoAttachment":
			format = c.Text()
		case "AlgoritmoCompressione":
			packed = c.Text()
		case "DescrizioneAttachment":
			description = c.Text()
		case "Attachment":
			if !found {
				content, found = c.Text(), true
			}
		}
	}
	v.attached++
	v.out.open(markFile)
	v.offer(attachment{content: content, description: description}, name, format, packed)
	v.out.open(markInner)
	for c := range v.business(e) {
		if v.named(c) != "Attachment" || c.HasChildren() {
			v.field(c)
		}
	}
	v.out.shut(markInner)
	v.out.shut(markFile)
}

// offer lets a file be saved, or says why it cannot.
func (v *view) offer(a attachment, name, format, packed string) {
	size, ok := base64Size(a.content)
	if !ok || size == 0 {
		v.out.open(markStrong)
		if ok {
			v.say(wordEmptyFile)
		} else {
			v.say(wordNotBase64)
		}
		v.out.shut(markStrong)
		return
	}
	a.bytes, a.size = size, readableSize(size, v.lang)
	a.file, a.mime, a.renamed = v.safeName(name, format, packed, a.content)
	v.out.attachment(a)
	if a.renamed {
		v.out.open(markNote)
		v.say(wordRenamed)
		v.out.shut(markNote)
	}
}

// safeName is the name to save an attachment under, and its type.
func (v *view) safeName(name, format, packed, content string) (file, mime string, renamed bool) {
	file = strings.Map(func(r rune) rune {
		switch {
		case r == '/', r == '\\', r == ':', r == '*', r == '?', r == '"', r == '<', r == '>', r == '|':
			return '_'
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r): // Cf: marks that turn the direction of text hide an ending
			return -1
		}
		return r
	}, name)
	file = strings.Trim(file, " .")
	if file == "" {
		file = "allegato-" + strconv.Itoa(v.attached)
	}
	ending := endingOf(file)
	if ending == "" {
		if ending = strings.ToLower(strings.TrimSpace(format)); plain(ending) {
			file += "." + ending
		}
	}
	// Many write ZIP and attach the file as it is: only a real archive gets the ending.
	if strings.EqualFold(strings.TrimSpace(packed), "zip") && ending != "zip" && strings.HasPrefix(strings.TrimSpace(content), "UEsDB") {
		file, ending = file+".zip", "zip"
	}
	if mime, ok := safeTypes[ending]; ok {
		return file, mime, false
	}
	if shownAsText[ending] {
		return file + ".txt", "text/plain", true
	}
	return file + ".bin", "application/octet-stream", true
}

func endingOf(file string) string {
	i := strings.LastIndexByte(file, '.')
	if i < 0 {
		return ""
	}
	return strings.ToLower(file[i+1:])
}

// plain reports whether an ending is a few letters and digits.
func plain(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return len(s) > 0 && len(s) <= 5
}

// base64Size is the number of bytes that a text stands for; false when it is no
// Base64 with its padding (RFC 4648 §4), white space apart.
func base64Size(s string) (int, bool) {
	letters, pad := 0, 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
		case c == '=':
			pad++
		case pad > 0, !base64Letter[c]:
			return 0, false
		default:
			letters++
		}
	}
	if pad > 2 || (letters+pad)%4 != 0 {
		return 0, false
	}
	return letters * 3 / 4, true
}

var base64Letter = func() (t [256]bool) {
	for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/" {
		t[c] = true
	}
	return t
}()

// readableSize writes a size in the unit that fits.
func readableSize(n int, lang language) string {
	if n < 1024 {
		return strconv.Itoa(n) + " byte" + map[bool]string{true: "s"}[lang == english && n != 1]
	}
	unit, div := "kB", 1000
	if n >= 1_000_000 {
		unit, div = "MB", 1_000_000
	}
	tenths := (n*10 + div/2) / div
	point := ","
	if lang == english {
		point = "."
	}
	return strconv.Itoa(tenths/10) + point + strconv.Itoa(tenths%10) + " " + unit
}
