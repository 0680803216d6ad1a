package sincro

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// FieldError says which field breaks which rule of the standard.
type FieldError struct {
	Path   string // for example "FileGroup[u000003].File[1].Hash"
	Reason string
}

func (e *FieldError) Error() string { return "sincro: " + e.Path + ": " + e.Reason }

// checker gathers the first error: the writer stops there.
type checker struct{ err error }

func (c *checker) fail(path, format string, a ...any) {
	if c.err == nil {
		c.err = &FieldError{path, fmt.Sprintf(format, a...)}
	}
}

// text checks characters only; required also wants something to be there.
func (c *checker) text(path, s string) {
	at := illegal(s)
	if at >= 0 {
		c.fail(path, "byte %d is not a character that XML 1.0 admits", at)
	}
}

func (c *checker) required(path, s string) {
	if s == "" {
		c.fail(path, "is required")
	}
	c.text(path, s)
}

// illegal gives the offset of the first character outside XML 1.0's Char, -1 when there is none.
// spec: XML10 §2.2
func illegal(s string) int {
	for i, r := range s {
		switch {
		case r == utf8.RuneError:
			_, width := utf8.DecodeRuneInString(s[i:])
			if width == 1 {
				return i
			}
		case r == 0xFFFE || r == 0xFFFF, r < 0x20 && r != '\t' && r != '\n' && r != '\r':
			return i
		}
	}
	return -1
}

var (
	agentID  = regexp.MustCompile(`^(PAS|IDC|PNO|TIN|VAT|NTR|([A-Za-z0-9]{2}:))[A-Z]{2}-[a-zA-Z0-9]+$`)
	language = regexp.MustCompile(`^[a-zA-Z]{1,8}(-[a-zA-Z0-9]{1,8})*$`)
)

var encodings = []Encoding{SevenBit, EightBit, Base64, Binary, QuotedPrintable}

func (c *checker) id(path string, id ID) {
	c.required(path+".ID", id.Value)
	c.required(path+".ID@scheme", id.Scheme)
}

func (c *checker) uri(path, s string) {
	c.required(path, s)
	u, err := url.Parse(s)
	if err != nil || strings.ContainsAny(s, " \t\n\r") {
		c.fail(path, "%q is not a URI reference", s)
		return
	}
	// A path that climbs out of the package would make a verifier read files that are not in it.
	if u.Scheme == "" && (strings.HasPrefix(u.Path, "/") || slices.Contains(strings.Split(u.Path, "/"), "..")) {
		c.fail(path, "%q leaves the package: use a path relative to the index", s)
	}
}

func (c *checker) hash(path string, h Hash) {
	c.required(path+".Hash", h.Value)
	c.required(path+".Hash@hashFunction", h.Function)
}

func (c *checker) encoding(path string, e Encoding) {
	if !slices.Contains(encodings, e) {
		c.fail(path+"@encoding", "%q is not one of %v", e, encodings)
	}
}

func (c *checker) relations(path string, list []Relation) {
	for i, r := range list {
		at := fmt.Sprintf("%s.Relation[%d]", path, i)
		c.required(at+".Type", r.Type)
		if len(r.Values) == 0 {
			c.fail(at, "has no Value")
		}
		for _, v := range r.Values {
			c.text(at+".Value", v)
		}
	}
}

func (c *checker) metadata(path string, m *Metadata) {
	if m == nil {
		return
	}
	path += ".MoreInfo"
	c.uri(path+"@xmlSchema", m.Schema)
	if m.Embedded {
		return
	}
	c.encoding(path, m.Encoding)
	c.required(path+"@format", m.Format)
	c.text(path+"@extension", m.Extension)
	c.id(path, m.ID)
	c.uri(path+".Path", m.Path)
	c.hash(path, m.Hash)
}

func (c *checker) group(g *FileGroup) {
	path := "FileGroup[" + g.ID.Value + "]"
	c.id(path, g.ID)
	c.text(path+".Label", g.Label)
	c.text(path+".Description", g.Description)
	if len(g.Files) == 0 {
		c.fail(path, "has no File")
	}
	for i := range g.Files {
		c.file(fmt.Sprintf("%s.File[%d]", path, i), &g.Files[i])
	}
	c.relations(path, g.Relations)
	c.metadata(path, g.Metadata)
}

func (c *checker) file(path string, f *File) {
	c.encoding(path, f.Encoding)
	c.required(path+"@format", f.Format)
	c.text(path+"@extension", f.Extension)
	c.id(path, f.ID)
	c.uri(path+".Path", f.Path)
	c.hash(path, f.Hash)
	if f.Previous != nil {
		c.hash(path+".PreviousHash", f.Previous.Hash)
		c.required(path+".PreviousHash@relatedPIndex", f.Previous.Related)
	}
	c.relations(path, f.Relations)
	c.metadata(path, f.Metadata)
}

func (c *checker) agent(path string, a *Agent) {
	if a.Type != NaturalPerson && a.Type != LegalPerson {
		c.fail(path+"@agentType", "%q is neither %q nor %q", a.Type, NaturalPerson, LegalPerson)
	}
	for _, id := range a.IDs {
		if !agentID.MatchString(id.Value) {
			c.fail(path+".AgentID", "%q is not of the form VATIT-01234567897 or TINIT-RSSMRA80A01H501U", id.Value)
		}
		c.text(path+".AgentID@expan", id.Expansion)
		c.text(path+".AgentID@nameRegistrationAuthority", id.Authority)
	}
	if a.FormalName != "" && (a.FirstName != "" || a.LastName != "") {
		c.fail(path+".AgentName", "has both FormalName and NameAndSurname")
	}
	if a.FormalName == "" {
		c.required(path+".AgentName.FirstName", a.FirstName)
		c.required(path+".AgentName.LastName", a.LastName)
	}
	c.text(path+".AgentName.FormalName", a.FormalName)
	if len(a.Documents) == 0 {
		c.fail(path, "has no RelevantDocument (contract, manual or deed of appointment)")
	}
	for _, d := range a.Documents {
		c.required(path+".RelevantDocument", d.Text)
		c.text(path+".RelevantDocument@docHash", d.Hash)
		c.text(path+".RelevantDocument@hashFunction", d.HashFunction)
		c.text(path+".RelevantDocument@uriDoc", d.URI)
	}
}

func (c *checker) head(ix *Index) {
	if !language.MatchString(ix.Language) {
		c.fail("PIndex@language", "%q is not a language tag", ix.Language)
	}
	c.id("SelfDescription", ix.ID)
	c.required("SelfDescription.CreatingApplication.Name", ix.Application.Name)
	c.required("SelfDescription.CreatingApplication.Version", ix.Application.Version)
	c.required("SelfDescription.CreatingApplication.Producer", ix.Application.Producer)
	for i, s := range ix.Sources {
		at := fmt.Sprintf("SelfDescription.PIndexSource[%d]", i)
		if s.Derivation != OneToOne && s.Derivation != ManyToOne && s.Derivation != OneToMany {
			c.fail(at+"@derivation", "%q is not onetoone, manytoone or onetomany", s.Derivation)
		}
		c.id(at, s.ID)
		c.uri(at+".Path", s.Path)
		c.hash(at, s.Hash)
	}
	c.id("PVolume", ix.Volume.ID)
	c.text("PVolume.Label", ix.Volume.Label)
	c.text("PVolume.Description", ix.Volume.Description)
	for i, s := range ix.Volume.Sources {
		at := fmt.Sprintf("PVolume.PVolumeSource[%d]", i)
		c.id(at, s.ID)
		c.id(at+".PIndexID", s.PIndex)
	}
	if g := ix.Volume.Group; g != nil {
		c.id("PVolume.PVolumeGroup", g.ID)
		c.text("PVolume.PVolumeGroup.Label", g.Label)
		c.text("PVolume.PVolumeGroup.Description", g.Description)
	}
	c.process(&ix.Process)
}

func (c *checker) process(p *Process) {
	c.agent("Process.Submitter", &p.Submitter)
	if len(p.Holders) == 0 {
		c.fail("Process", "has no Holder")
	}
	for i := range p.Holders {
		at := fmt.Sprintf("Process.Holder[%d]", i)
		switch p.Holders[i].Role {
		case Produttore, Proprietario, Possessore, Detentore:
		default:
			c.fail(at+"@holderRole", "%q is not one of the four roles", p.Holders[i].Role)
		}
		c.agent(at, &p.Holders[i].Agent)
	}
	if len(p.Signers) == 0 {
		c.fail("Process", "has no AuthorizedSigner")
	}
	for i := range p.Signers {
		at := fmt.Sprintf("Process.AuthorizedSigner[%d]", i)
		c.text(at+"@signerRole", p.Signers[i].Role)
		c.agent(at, &p.Signers[i].Agent)
	}
	if p.Time.IsZero() {
		c.fail("Process.TimeReference", "is required")
	}
	if y := p.Time.Year(); y < 1 || y > 9999 {
		c.fail("Process.TimeReference", "year %d is outside 1..9999", y)
	}
	if p.TimeStampURI != "" {
		c.text("Process.TimeReference.TimeStamp", p.TimeStampURI)
		c.encoding("Process.TimeReference.TimeStamp", p.TimeStampEncoding)
		c.required("Process.TimeReference.TimeStamp@format", p.TimeStampFormat)
	}
	c.text("Process.LawsAndRegulations", p.Laws)
}

// errNoGroup: an index without files indexes nothing.
var errNoGroup = &FieldError{"PIndex", "has no FileGroup"}

// ErrEmbedded: metadata inside the index is read but not written.
var ErrEmbedded = errors.New("sincro: metadata embedded in the index is not written: keep it in a file of its own")
