package pdd

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode"
)

// Catalog is what the viewer shows.
type Catalog struct {
	Made      string     `json:"made"` // ISO date
	Purpose   string     `json:"purpose"`
	Documents []Document `json:"documents"`
}

// Document is one line of the viewer: one body of a file.
type Document struct {
	Unit     string    `json:"unit"`
	Date     string    `json:"date"`
	Type     string    `json:"type"`
	Number   string    `json:"number"`
	Seller   Party     `json:"seller"`
	Buyer    Party     `json:"buyer"`
	State    string    `json:"state"`
	SdI      string    `json:"sdi"`
	File     string    `json:"file"` // path of the original
	View     string    `json:"view,omitempty"`
	Receipts []Receipt `json:"receipts"`
	Package  string    `json:"package,omitempty"`
}

// Party is who stands in a document.
type Party struct {
	Name string `json:"name"`
	VAT  string `json:"vat"`
	Code string `json:"code"`
}

// Receipt is a receipt of the document's file.
type Receipt struct {
	Type string `json:"type"`
	Path string `json:"path"`
}

// Script is data.js: an assignment of JSON in which nothing can end the script or begin another.
func (c Catalog) Script() ([]byte, error) {
	for i := range c.Documents {
		if c.Documents[i].Receipts == nil {
			c.Documents[i].Receipts = []Receipt{}
		}
	}
	if c.Documents == nil {
		c.Documents = []Document{}
	}
	raw, err := json.Marshal(c) // escapes <, >, &, U+2028 and U+2029
	if err != nil {
		return nil, fmt.Errorf("pdd: data: %w", err)
	}
	return append(append([]byte("var PDD = "), raw...), ";\n"...), nil
}

// longestName keeps paths short enough for every file system.
const longestName = 120

// endings that a file may keep: nothing that a browser or a system would run by itself.
var endings = []string{
	".xml.p7m", ".xml", ".p7m", ".p7s", ".pdf", ".eml", ".zip", ".tsr", ".tst", ".txt", ".png", ".jpg", ".jpeg", ".tif", ".tiff",
	".docx", ".xlsx", ".pptx", ".odt", ".ods", ".odp", ".asice", ".asics", ".sce", ".scs",
}

// texts are endings of plain text that programs make more of than text, such as formulas: everybody opens it as what it is.
var texts = []string{".csv", ".json", ".md", ".log"}

// Names gives files of unknown origin names that are safe on every system, and different from each other also where case
// does not count.
type Names struct{ taken map[string]bool }

// In gives the path of a file in a folder.
func (n *Names) In(folder, name string) string {
	if n.taken == nil {
		n.taken = map[string]bool{}
	}
	base, ending := clean(name)
	for i := 1; ; i++ {
		full := folder + "/" + base + ending
		if i > 1 {
			full = fmt.Sprintf("%s/%s-%d%s", folder, base, i, ending)
		}
		if key := strings.ToLower(full); !n.taken[key] {
			n.taken[key] = true
			return full
		}
	}
}

// clean splits a name into letters, digits, - and _ that no system reads as anything else, and one of the endings.
func clean(name string) (base, ending string) {
	name = path.Base(strings.ReplaceAll(name, `\`, "/"))
	ending = ".bin"
	for _, e := range endings {
		if rest, ok := strings.CutSuffix(strings.ToLower(name), e); ok {
			name, ending = name[:len(rest)], e
			break
		}
	}
	if slices.Contains(texts, strings.ToLower(path.Ext(name))) {
		ending = ".txt"
	}
	base = strings.Trim(strings.Map(func(r rune) rune {
		if r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-') {
			return r
		}
		return '_'
	}, name), "-_")
	if len(base) > longestName {
		base = base[:longestName]
	}
	if base == "" || reserved[strings.ToLower(base)] {
		base = "file_" + base
	}
	return base, ending
}

// reserved are names of devices. spec: Win32 file naming
var reserved = map[string]bool{
	"con": true, "prn": true, "aux": true, "nul": true, "com1": true, "com2": true, "com3": true, "com4": true, "com5": true,
	"com6": true, "com7": true, "com8": true, "com9": true, "lpt1": true, "lpt2": true, "lpt3": true, "lpt4": true, "lpt5": true,
	"lpt6": true, "lpt7": true, "lpt8": true, "lpt9": true,
}
