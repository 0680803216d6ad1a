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

// place is where a field is. It becomes text in an error alone: an index has a dozen fields for each file.
type place struct {
	root string
	file int // counts from 1; 0 for what is of no file
	in   string
	leaf string
}

func (p place) String() string {
	s := p.root
	if p.file > 0 {
		s += fmt.Sprintf(".File[%d]", p.file-1)
	}
	return s + p.in + p.leaf
}

// at is a part of the place, field one of its fields.
func (p place) at(in string) place      { p.in += in; return p }
func (p place) field(leaf string) place { p.leaf = leaf; return p }

func (c *checker) fail(p place, format string, a ...any) {
	if c.err == nil {
		c.err = &FieldError{p.String(), fmt.Sprintf(format, a...)}
	}
}

// text checks characters only; required also wants something to be there.
func (c *checker) text(p place, s string) {
	at := illegal(s)
	if at >= 0 {
		c.fail(p, "byte %d is not a character that XML 1.0 admits", at)
	}
}

func (c *checker) required(p place, s string) {
	if s == "" {
		c.fail(p, "is required")
	}
	c.text(p, s)
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

func (c *checker) id(p place, id ID) {
	c.required(p.field(".ID"), id.Value)
	c.required(p.field(".ID@scheme"), id.Scheme)
}

func (c *checker) uri(p place, s string) {
	c.required(p, s)
	if s != "" && s[0] != '/' && !strings.Contains(s, "..") && strings.IndexFunc(s, unusual) < 0 {
		return // names of our own making, thirty thousand in an index
	}
	u, err := url.Parse(s)
	if err != nil || strings.ContainsAny(s, " \t\n\r") {
		c.fail(p, "%q is not a URI reference", s)
		return
	}
	// A path that climbs out of the package would make a verifier read files that are not in it.
	if u.Scheme == "" && (strings.HasPrefix(u.Path, "/") || slices.Contains(strings.Split(u.Path, "/"), "..")) {
		c.fail(p, "%q leaves the package: use a path relative to the index", s)
	}
}

// unusual says what a name in a package need not have: what remains is a relative path whatever a parser thinks of it.
func unusual(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '_' && r != '-' && r != '/'
}

func (c *checker) hash(p place, h Hash) {
	c.required(p.field(".Hash"), h.Value)
	c.required(p.field(".Hash@hashFunction"), h.Function)
}

func (c *checker) encoding(p place, e Encoding) {
	if !slices.Contains(encodings, e) {
		c.fail(p.field("@encoding"), "%q is not one of %v", e, encodings)
	}
}

func (c *checker) relations(p place, list []Relation) {
	for i, r := range list {
		at := p.at(fmt.Sprintf(".Relation[%d]", i))
		c.required(at.field(".Type"), r.Type)
		if len(r.Values) == 0 {
			c.fail(at, "has no Value")
		}
		for _, v := range r.Values {
			c.text(at.field(".Value"), v)
		}
	}
}

func (c *checker) metadata(p place, m *Metadata) {
	if m == nil {
		return
	}
	p = p.at(".MoreInfo")
	c.uri(p.field("@xmlSchema"), m.Schema)
	if m.Embedded {
		return
	}
	c.encoding(p, m.Encoding)
	c.required(p.field("@format"), m.Format)
	c.text(p.field("@extension"), m.Extension)
	c.id(p, m.ID)
	c.uri(p.field(".Path"), m.Path)
	c.hash(p, m.Hash)
}

func (c *checker) group(g *FileGroup) {
	p := place{root: "FileGroup[" + g.ID.Value + "]"}
	c.id(p, g.ID)
	c.text(p.field(".Label"), g.Label)
	c.text(p.field(".Description"), g.Description)
	if len(g.Files) == 0 {
		c.fail(p, "has no File")
	}
	for i := range g.Files {
		c.file(place{root: p.root, file: i + 1}, &g.Files[i])
	}
	c.relations(p, g.Relations)
	c.metadata(p, g.Metadata)
}

func (c *checker) file(p place, f *File) {
	c.encoding(p, f.Encoding)
	c.required(p.field("@format"), f.Format)
	c.text(p.field("@extension"), f.Extension)
	c.id(p, f.ID)
	c.uri(p.field(".Path"), f.Path)
	c.hash(p, f.Hash)
	if f.Previous != nil {
		c.hash(p.at(".PreviousHash"), f.Previous.Hash)
		c.required(p.field(".PreviousHash@relatedPIndex"), f.Previous.Related)
	}
	c.relations(p, f.Relations)
	c.metadata(p, f.Metadata)
}

func (c *checker) agent(p place, a *Agent) {
	if a.Type != NaturalPerson && a.Type != LegalPerson {
		c.fail(p.field("@agentType"), "%q is neither %q nor %q", a.Type, NaturalPerson, LegalPerson)
	}
	for _, id := range a.IDs {
		if !agentID.MatchString(id.Value) {
			c.fail(p.field(".AgentID"), "%q is not of the form VATIT-01234567897 or TINIT-RSSMRA80A01H501U", id.Value)
		}
		c.text(p.field(".AgentID@expan"), id.Expansion)
		c.text(p.field(".AgentID@nameRegistrationAuthority"), id.Authority)
	}
	if a.FormalName != "" && (a.FirstName != "" || a.LastName != "") {
		c.fail(p.field(".AgentName"), "has both FormalName and NameAndSurname")
	}
	if a.FormalName == "" {
		c.required(p.field(".AgentName.FirstName"), a.FirstName)
		c.required(p.field(".AgentName.LastName"), a.LastName)
	}
	c.text(p.field(".AgentName.FormalName"), a.FormalName)
	if len(a.Documents) == 0 {
		c.fail(p, "has no RelevantDocument (contract, manual or deed of appointment)")
	}
	for _, d := range a.Documents {
		c.required(p.field(".RelevantDocument"), d.Text)
		c.text(p.field(".RelevantDocument@docHash"), d.Hash)
		c.text(p.field(".RelevantDocument@hashFunction"), d.HashFunction)
		c.text(p.field(".RelevantDocument@uriDoc"), d.URI)
	}
}

func (c *checker) head(ix *Index) {
	if !language.MatchString(ix.Language) {
		c.fail(place{root: "PIndex@language"}, "%q is not a language tag", ix.Language)
	}
	c.id(place{root: "SelfDescription"}, ix.ID)
	c.required(place{root: "SelfDescription.CreatingApplication.Name"}, ix.Application.Name)
	c.required(place{root: "SelfDescription.CreatingApplication.Version"}, ix.Application.Version)
	c.required(place{root: "SelfDescription.CreatingApplication.Producer"}, ix.Application.Producer)
	for i, s := range ix.Sources {
		at := place{root: fmt.Sprintf("SelfDescription.PIndexSource[%d]", i)}
		if s.Derivation != OneToOne && s.Derivation != ManyToOne && s.Derivation != OneToMany {
			c.fail(at.field("@derivation"), "%q is not onetoone, manytoone or onetomany", s.Derivation)
		}
		c.id(at, s.ID)
		c.uri(at.field(".Path"), s.Path)
		c.hash(at, s.Hash)
	}
	c.id(place{root: "PVolume"}, ix.Volume.ID)
	c.text(place{root: "PVolume.Label"}, ix.Volume.Label)
	c.text(place{root: "PVolume.Description"}, ix.Volume.Description)
	for i, s := range ix.Volume.Sources {
		at := place{root: fmt.Sprintf("PVolume.PVolumeSource[%d]", i)}
		c.id(at, s.ID)
		c.id(at.at(".PIndexID"), s.PIndex)
	}
	if g := ix.Volume.Group; g != nil {
		c.id(place{root: "PVolume.PVolumeGroup"}, g.ID)
		c.text(place{root: "PVolume.PVolumeGroup.Label"}, g.Label)
		c.text(place{root: "PVolume.PVolumeGroup.Description"}, g.Description)
	}
	c.process(&ix.Process)
}

func (c *checker) process(p *Process) {
	c.agent(place{root: "Process.Submitter"}, &p.Submitter)
	if len(p.Holders) == 0 {
		c.fail(place{root: "Process"}, "has no Holder")
	}
	for i := range p.Holders {
		at := place{root: fmt.Sprintf("Process.Holder[%d]", i)}
		switch p.Holders[i].Role {
		case Produttore, Proprietario, Possessore, Detentore:
		default:
			c.fail(at.field("@holderRole"), "%q is not one of the four roles", p.Holders[i].Role)
		}
		c.agent(at, &p.Holders[i].Agent)
	}
	if len(p.Signers) == 0 {
		c.fail(place{root: "Process"}, "has no AuthorizedSigner")
	}
	for i := range p.Signers {
		at := place{root: fmt.Sprintf("Process.AuthorizedSigner[%d]", i)}
		c.text(at.field("@signerRole"), p.Signers[i].Role)
		c.agent(at, &p.Signers[i].Agent)
	}
	if p.Time.IsZero() {
		c.fail(place{root: "Process.TimeReference"}, "is required")
	}
	if y := p.Time.Year(); y < 1 || y > 9999 {
		c.fail(place{root: "Process.TimeReference"}, "year %d is outside 1..9999", y)
	}
	if p.TimeStampURI != "" {
		c.text(place{root: "Process.TimeReference.TimeStamp"}, p.TimeStampURI)
		c.encoding(place{root: "Process.TimeReference.TimeStamp"}, p.TimeStampEncoding)
		c.required(place{root: "Process.TimeReference.TimeStamp@format"}, p.TimeStampFormat)
	}
	c.text(place{root: "Process.LawsAndRegulations"}, p.Laws)
}

// errNoGroup: an index without files indexes nothing.
var errNoGroup = &FieldError{"PIndex", "has no FileGroup"}

// ErrEmbedded: metadata inside the index is read but not written.
var ErrEmbedded = errors.New("sincro: metadata embedded in the index is not written: keep it in a file of its own")
