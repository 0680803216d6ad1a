package conservation

import (
	"archive/zip"
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"net/mail"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"ceralacca.dev/services/format/cms"
)

// format is what content is recognised as, by the content and never by the name alone. spec: AgID-All2
type format struct {
	name       string
	media      string
	extensions []string // with the dot, in small letters; the first is the usual one
	admitted   bool
	note       string
}

// Names of formats that the program tells apart.
const (
	formatPDFA     = "PDF/A"
	formatPDF      = "PDF"
	formatFattura  = "XML FatturaPA"
	formatXML      = "XML"
	formatSigned   = "CAdES"
	formatMail     = "EML"
	formatText     = "Testo UTF-8"
	formatZIP      = "ZIP"
	formatASiC     = "ASiC"
	formatOOXML    = "Office Open XML"
	formatODF      = "OpenDocument"
	formatTIFF     = "TIFF"
	formatJPEG     = "JPEG"
	formatPNG      = "PNG"
	formatStamp    = "RFC 3161"
	formatHTML     = "HTML"
	formatMacro    = "Office con macro"
	formatOldOffic = "Microsoft Office 97-2003"
	formatLocked   = "PDF cifrato"
	formatProgram  = "Programma eseguibile"
	formatBomb     = "XML con entità"
	formatUnknown  = "sconosciuto"
)

// formats are those that content is recognised as, with the archive's word on each. spec: AgID-All2 §2
var formats = []format{
	{formatPDFA, mimePDF, []string{".pdf"}, true, ""},
	{formatPDF, mimePDF, []string{".pdf"}, true, "PDF/A is preferred: a PDF may depend on what it does not hold"},
	{formatFattura, mimeXML, []string{".xml"}, true, ""},
	{formatXML, mimeXML, []string{".xml"}, true, "well-formed, without a DTD"},
	{formatSigned, mimeSigned, []string{".p7m", ".p7s"}, true, "what is inside is looked at too"},
	{formatMail, "message/rfc822", []string{".eml"}, true, ""},
	{formatText, "text/plain", []string{".txt", ".csv", ".json", ".md", ".log"}, true, ""},
	{formatASiC, "application/vnd.etsi.asic-e+zip", []string{".asice", ".asics", ".sce", ".scs"}, true, ""},
	{formatOOXML, "application/vnd.openxmlformats-officedocument", []string{".docx", ".xlsx", ".pptx"}, true, "without macros"},
	{formatODF, "application/vnd.oasis.opendocument", []string{".odt", ".ods", ".odp"}, true, ""},
	{formatTIFF, "image/tiff", []string{".tif", ".tiff"}, true, ""},
	{formatJPEG, "image/jpeg", []string{".jpg", ".jpeg"}, true, ""},
	{formatPNG, "image/png", []string{".png"}, true, ""},
	{formatStamp, mimeStamp, []string{".tsr", ".tst"}, true, ""},
	{formatZIP, mimeZIP, []string{".zip"}, true, "each file in it must be of an admitted format"},
	{formatHTML, "text/html", []string{".html", ".htm"}, false, "it shows what others serve at the time it is read: hand over a PDF/A"},
	{formatMacro, "application/vnd.ms-office", []string{".docm", ".xlsm", ".pptm"}, false, "macros change what is shown: hand over a PDF/A, or the document without them"},
	{formatOldOffic, "application/x-ole-storage", []string{".doc", ".xls", ".ppt"}, false, "a closed format: hand over a PDF/A or Office Open XML"},
	{formatLocked, mimePDF, []string{".pdf"}, false, "nobody can open it without its password"},
	{formatProgram, "application/octet-stream", []string{".exe", ".dll", ".so"}, false, "a program is no document"},
	{formatBomb, mimeXML, []string{".xml"}, false, "its DTD declares entities or names other files: hand over the XML without a DTD"},
	{formatUnknown, "application/octet-stream", nil, false, "its content is of no format that is known here"},
}

func findFormat(name string) format {
	i := slices.IndexFunc(formats, func(f format) bool { return f.name == name })
	return formats[i] // names are the constants above
}

// formatByExtension is the first admitted format that has an extension.
func formatByExtension(ext string) (format, bool) {
	i := slices.IndexFunc(formats, func(f format) bool { return f.admitted && slices.Contains(f.extensions, ext) })
	if i < 0 {
		return format{}, false
	}
	return formats[i], true
}

// finding is what a look at content told.
type finding struct {
	format format
	signed bool     // there is an electronic signature in it
	inside []string // what is wrong with files in it
}

const (
	deepestFormat = 3         // of containers in containers
	mostInside    = 10_000    // files of one container
	largestInside = 512 << 20 // bytes of them, unpacked: more is a bomb
)

// recognise looks at content. It opens nothing outside of it, expands nothing, and reads containers within bounds.
func recognise(raw []byte, depth int) finding {
	switch {
	case bytes.HasPrefix(raw, []byte("%PDF-")):
		return recognisePDF(raw)
	case bytes.HasPrefix(raw, []byte("PK\x03\x04")), bytes.HasPrefix(raw, []byte("PK\x05\x06")):
		return recogniseZIP(raw, depth)
	case bytes.HasPrefix(raw, []byte("\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1")):
		return finding{format: findFormat(formatOldOffic)}
	case bytes.HasPrefix(raw, []byte("MZ")), bytes.HasPrefix(raw, []byte("\x7fELF")), bytes.HasPrefix(raw, []byte("#!")):
		return finding{format: findFormat(formatProgram)}
	case bytes.HasPrefix(raw, []byte("II*\x00")), bytes.HasPrefix(raw, []byte("MM\x00*")):
		return finding{format: findFormat(formatTIFF)}
	case bytes.HasPrefix(raw, []byte("\xFF\xD8\xFF")):
		return finding{format: findFormat(formatJPEG)}
	case bytes.HasPrefix(raw, []byte("\x89PNG\r\n\x1a\n")):
		return finding{format: findFormat(formatPNG)}
	}
	if cms.Looks(raw) {
		return recogniseSigned(raw, depth)
	}
	if looksLikeStamp(raw) {
		return finding{format: findFormat(formatStamp)}
	}
	return recogniseText(raw)
}

// recogniseSigned opens a signature: what is signed must be admitted itself.
func recogniseSigned(raw []byte, depth int) finding {
	f := finding{format: findFormat(formatSigned), signed: true}
	content, _, err := cms.Open(raw)
	switch {
	case err != nil:
		return finding{format: findFormat(formatUnknown)}
	case content == nil, depth >= deepestFormat: // a detached signature, or enough
		return f
	}
	within := recognise(content, depth+1)
	if !within.format.admitted {
		f.inside = append(f.inside, "what is signed is "+within.format.name+": "+within.format.note)
	}
	f.inside = append(f.inside, within.inside...)
	return f
}

// looksLikeStamp: a TimeStampResp is a SEQUENCE that begins with a PKIStatusInfo whose status is an INTEGER.
func looksLikeStamp(raw []byte) bool {
	return len(raw) > 16 && raw[0] == 0x30 && raw[1] == 0x82 && raw[4] == 0x30 && raw[6] == 0x02 && raw[7] == 0x01
}

func recognisePDF(raw []byte) finding {
	f := finding{format: findFormat(formatPDF), signed: bytes.Contains(raw, []byte("/ByteRange"))}
	switch {
	case bytes.Contains(raw, []byte("/Encrypt")):
		f.format = findFormat(formatLocked)
	case bytes.Contains(raw, []byte("pdfaid:part")) || bytes.Contains(raw, []byte("http://www.aiim.org/pdfa/ns/id/")):
		f.format = findFormat(formatPDFA)
	}
	return f
}

// unpacked adds what a member of a ZIP says of its size to that of those before it. A sum that is too large for a number stays the largest:
// sizes are the sender's words, and two of them could come out as a small one.
func unpacked(total uint64, e *zip.File) uint64 {
	return total + min(e.UncompressedSize64, math.MaxUint64-total)
}

func recogniseZIP(raw []byte, depth int) finding {
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return finding{format: findFormat(formatUnknown), inside: []string{"no readable ZIP: " + err.Error()}}
	}
	names := map[string]*zip.File{}
	total := uint64(0)
	for _, e := range z.File {
		names[e.Name] = e
		total = unpacked(total, e)
	}
	f := finding{format: findFormat(formatZIP)}
	if len(z.File) > mostInside || total > largestInside {
		f.inside = append(f.inside, fmt.Sprintf("it holds %d files of %d bytes: more than %d files or %d bytes are not opened", len(z.File), total, mostInside, largestInside))
		return f
	}
	kind := ""
	if e := names["mimetype"]; e != nil {
		raw, err := readEntry(e, 200)
		if err == nil {
			kind = string(raw)
		}
	}
	switch {
	case strings.HasPrefix(kind, "application/vnd.etsi.asic"):
		f.format, f.signed = findFormat(formatASiC), true
		return f
	case strings.HasPrefix(kind, "application/vnd.oasis.opendocument"):
		f.format, f.signed = findFormat(formatODF), names["META-INF/documentsignatures.xml"] != nil
		return f
	case names["[Content_Types].xml"] != nil:
		f.format = findFormat(formatOOXML)
		for name := range names {
			if strings.HasSuffix(strings.ToLower(name), "vbaproject.bin") {
				f.format = findFormat(formatMacro)
			}
			f.signed = f.signed || strings.HasPrefix(name, "_xmlsignatures/")
		}
		return f
	}
	f.inside = recogniseMembers(z, depth)
	return f
}

// recogniseMembers judges each file of a ZIP. Names that leave it are refused: whoever unpacks it would be overrun.
func recogniseMembers(z *zip.Reader, depth int) (wrong []string) {
	for _, e := range z.File {
		if len(wrong) == 20 {
			return append(wrong, "and more")
		}
		switch {
		case unsafeMember(e.Name):
			wrong = append(wrong, fmt.Sprintf("%.200q leads out of the ZIP", e.Name))
			continue
		case e.FileInfo().IsDir():
			continue
		case depth >= deepestFormat:
			wrong = append(wrong, fmt.Sprintf("%.200q: containers are opened %d deep", e.Name, deepestFormat))
			continue
		}
		raw, err := readEntry(e, largestInside)
		if err != nil {
			wrong = append(wrong, fmt.Sprintf("%.200q cannot be read: %v", e.Name, err))
			continue
		}
		within := recognise(raw, depth+1)
		if !within.format.admitted {
			wrong = append(wrong, fmt.Sprintf("%.200q is %s: %s", e.Name, within.format.name, within.format.note))
		}
		wrong = append(wrong, within.inside...)
	}
	return wrong
}

func unsafeMember(name string) bool {
	return strings.Contains(name, "\\") || strings.HasPrefix(name, "/") || slices.Contains(strings.Split(name, "/"), "..") || strings.ContainsRune(name, 0)
}

func readEntry(e *zip.File, most int64) ([]byte, error) {
	r, err := e.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	raw, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && int64(len(raw)) > most {
		err = fmt.Errorf("it is larger than %d bytes", most)
	}
	return raw, err
}

func recogniseText(raw []byte) finding {
	text := bytes.TrimPrefix(raw, []byte("\xEF\xBB\xBF"))
	head := bytes.TrimLeft(text, " \t\r\n")
	if bytes.HasPrefix(head, []byte("<")) {
		if low := bytes.ToLower(head[:min(len(head), 200)]); bytes.HasPrefix(low, []byte("<!doctype html")) || bytes.HasPrefix(low, []byte("<html")) {
			return finding{format: findFormat(formatHTML)}
		}
		return recogniseXML(raw)
	}
	if m, err := mail.ReadMessage(bytes.NewReader(raw)); err == nil && m.Header.Get("From") != "" && (m.Header.Get("Date") != "" || m.Header.Get("Message-Id") != "") {
		return finding{format: findFormat(formatMail), signed: strings.HasPrefix(strings.ToLower(m.Header.Get("Content-Type")), "multipart/signed")}
	}
	if len(raw) > 0 && utf8.Valid(text) && !bytes.ContainsFunc(text, func(r rune) bool {
		return r < 0x20 && r != '\t' && r != '\n' && r != '\r' && r != '\f'
	}) {
		return finding{format: findFormat(formatText)}
	}
	return finding{format: findFormat(formatUnknown)}
}

// recogniseXML reads tokens alone, and whether they nest: encoding/xml expands no entity that a DTD declares and opens no other file.
func recogniseXML(raw []byte) finding {
	f := finding{format: findFormat(formatXML)}
	d := xmlTokens(raw)
	root := false
	for {
		token, err := d.Token()
		switch {
		case errors.Is(err, io.EOF) && root:
			return f
		case err != nil:
			return finding{format: findFormat(formatUnknown), inside: []string{fmt.Sprintf("it begins like XML and is not well-formed: %v", err)}}
		}
		switch t := token.(type) {
		case xml.Directive:
			word := strings.ToUpper(string(t))
			if strings.Contains(word, "ENTITY") || strings.Contains(word, "SYSTEM") || strings.Contains(word, "PUBLIC") {
				return finding{format: findFormat(formatBomb)}
			}
		case xml.StartElement:
			if !root && t.Name.Local == "FatturaElettronica" {
				f.format = findFormat(formatFattura)
			}
			root = true
			f.signed = f.signed || t.Name.Local == "SignatureValue"
		}
	}
}

// fits says whether a name goes with a format.
func (f format) fits(name string) bool {
	ext := strings.ToLower(path.Ext(name))
	if f.name == formatText { // text has as many endings as uses: one that promises something else is wrong
		other, ok := formatByExtension(ext)
		return !ok || other.name == formatText
	}
	return slices.Contains(f.extensions, ext)
}
