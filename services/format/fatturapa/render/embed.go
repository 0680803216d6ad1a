package render

import (
	"bytes"
	"compress/zlib"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf16"
)

// The PDF library writes attachments in front of the pages and then leads its
// bookmarks to the wrong ones, and it says PDF 1.3 of files that are newer. So the
// attachments and what else belongs in the catalogue are added to its finished file
// as an incremental update, which the format has for that.
//
// spec: ISO 32000-1 §7.5.6 incremental updates, §7.11.4 embedded files, §7.7.2 catalogue

// update appends objects to a PDF that is complete.
type update struct {
	w       io.Writer
	err     error
	at      int // length of what was written
	root    int
	info    int
	next    int // number of the next new object
	xref    int // of the file before
	offsets map[int]int
	order   []int
}

var (
	startXref  = regexp.MustCompile(`startxref\s+(\d+)\s+%%EOF\s*$`)
	trailerKey = regexp.MustCompile(`/(Size|Root|Info) (\d+)`)
	namesEntry = regexp.MustCompile(`(?s)/Names <<.*?/EmbeddedFiles <<.*?>>\s*>>`)
)

var errShape = errors.New("render: the PDF library wrote a file of an unexpected shape")

// newUpdate reads the end of a file, and the catalogue.
func newUpdate(w io.Writer, pdf []byte) (u *update, catalogue string, err error) {
	m := startXref.FindSubmatch(pdf[max(0, len(pdf)-64):])
	if m == nil {
		return nil, "", errShape
	}
	u = &update{w: w, at: len(pdf), offsets: map[int]int{}}
	u.xref, _ = strconv.Atoi(string(m[1]))
	if u.xref >= len(pdf) {
		return nil, "", errShape
	}
	trailer := bytes.LastIndex(pdf, []byte("trailer"))
	if trailer < u.xref {
		return nil, "", errShape
	}
	for _, kv := range trailerKey.FindAllSubmatch(pdf[trailer:], -1) {
		n, _ := strconv.Atoi(string(kv[2]))
		switch string(kv[1]) {
		case "Size":
			u.next = n
		case "Root":
			u.root = n
		case "Info":
			u.info = n
		}
	}
	from := bytes.LastIndex(pdf[:u.xref], fmt.Appendf(nil, "\n%d 0 obj\n<<", u.root))
	if u.root == 0 || u.info == 0 || from < 0 {
		return nil, "", errShape
	}
	body := pdf[from+len(fmt.Sprintf("\n%d 0 obj\n<<", u.root)) : u.xref]
	end := bytes.LastIndex(body, []byte(">>\nendobj"))
	if end < 0 || !namesEntry.Match(body[:end]) {
		return nil, "", errShape
	}
	_, u.err = w.Write(pdf)
	return u, namesEntry.ReplaceAllString(string(body[:end]), ""), nil
}

func (u *update) write(s string) {
	if u.err == nil {
		_, u.err = io.WriteString(u.w, s)
	}
	u.at += len(s)
}

// object writes an object; number 0 makes a new one.
func (u *update) object(number int, body string) int {
	if number == 0 {
		number = u.next
		u.next++
	}
	u.offsets[number] = u.at
	u.order = append(u.order, number)
	u.write(strconv.Itoa(number) + " 0 obj\n" + body + "\nendobj\n")
	return number
}

// finish writes the table of the new objects. They are numbered without holes from
// what was the size of the file, and the catalogue is the only one replaced.
func (u *update) finish(id string) error {
	start := u.at
	u.write("xref\n")
	for _, n := range u.order {
		u.write(fmt.Sprintf("%d 1\n%010d 00000 n \n", n, u.offsets[n]))
	}
	u.write(fmt.Sprintf("trailer\n<</Size %d /Root %d 0 R /Info %d 0 R /Prev %d /ID [<%s> <%s>]>>\nstartxref\n%d\n%%%%EOF\n",
		u.next, u.root, u.info, u.xref, id, id, start))
	return u.err
}

// complete writes a PDF with the files attached to it.
func complete(w io.Writer, pdf []byte, files []attachment) error {
	u, catalogue, err := newUpdate(w, pdf)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(pdf)
	var names, references strings.Builder
	for i, a := range files {
		ref, err := u.file(a)
		if err != nil {
			return err
		}
		fmt.Fprintf(&names, "(%08d) %d 0 R ", i+1, ref) // keys in their order, as a name tree wants
		fmt.Fprintf(&references, "%d 0 R ", ref)
	}
	catalogue += "/Version /1.7\n/ViewerPreferences <</DisplayDocTitle true>>\n"
	if len(files) > 0 {
		catalogue += "/Names <</EmbeddedFiles <</Names [" + names.String() + "]>>>>\n/AF [" + references.String() + "]\n"
	}
	u.object(u.root, "<<"+catalogue+">>")
	if err := u.finish(hex.EncodeToString(sum[:16])); err != nil {
		return fmt.Errorf("render: writing the PDF: %w", err)
	}
	return nil
}

// file writes the content of a file and its specification.
func (u *update) file(a attachment) (int, error) {
	raw, err := a.decode()
	if err != nil {
		return 0, fmt.Errorf("render: attachment %q: %w", a.file, err)
	}
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	if _, err := z.Write(raw); err != nil {
		return 0, fmt.Errorf("render: packing attachment %q: %w", a.file, err)
	}
	if err := z.Close(); err != nil {
		return 0, fmt.Errorf("render: packing attachment %q: %w", a.file, err)
	}
	stream := u.object(0, fmt.Sprintf("<</Type /EmbeddedFile /Subtype /%s /Filter /FlateDecode /Length %d /Params <</Size %d>>>>\nstream\n%s\nendstream",
		strings.ReplaceAll(a.mime, "/", "#2F"), packed.Len(), len(raw), packed.String()))
	name := pdfText(a.file)
	return u.object(0, fmt.Sprintf("<</Type /Filespec /F %s /UF %s /EF <</F %d 0 R /UF %d 0 R>> /Desc %s /AFRelationship /Supplement>>",
		name, name, stream, stream, pdfText(a.description))), nil
}

// pdfText writes a text string: ASCII as it is, all else as UTF-16.
//
// spec: ISO 32000-1 §7.9.2.2
func pdfText(s string) string {
	ascii := true
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			ascii = false
		}
	}
	if ascii {
		return "(" + strings.NewReplacer(`\`, `\\`, `(`, `\(`, `)`, `\)`).Replace(s) + ")"
	}
	var b strings.Builder
	b.WriteString("<FEFF")
	for _, u := range utf16.Encode([]rune(s)) {
		fmt.Fprintf(&b, "%04X", u)
	}
	b.WriteString(">")
	return b.String()
}
