package conservation

import (
	"archive/zip"
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha1" //nolint:gosec // other preservers' indexes name it; it is compared, and said to be weak
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/custody"
	"ceralacca.dev/services/format/sincro"
	"ceralacca.dev/services/format/tsp"
	"ceralacca.dev/services/format/xades"
)

// mostForeign bounds the documents of one foreign package.
const mostForeign = 50_000

// verified is what was found about a foreign package. Its JSON is kept with the deposit.
type verified struct {
	Standard  string   `json:"standard"`
	Index     string   `json:"index"`
	IndexFile string   `json:"index_file"`
	Volume    string   `json:"volume"`
	Program   string   `json:"program"`
	Producer  string   `json:"producer"`
	Groups    int      `json:"groups"`
	Files     int      `json:"files"`
	Bytes     int64    `json:"bytes"`
	Signature string   `json:"signature"`
	TimeStamp string   `json:"time_stamp"`
	Notes     []string `json:"notes"`
	Problems  []string `json:"problems"`
}

func (v *verified) bad(format string, a ...any) {
	if len(v.Problems) < mostProblems {
		v.Problems = append(v.Problems, fmt.Sprintf(format, a...))
	}
}

func (v *verified) note(format string, a ...any) {
	text := fmt.Sprintf(format, a...)
	if len(v.Notes) < mostProblems && !slices.Contains(v.Notes, text) {
		v.Notes = append(v.Notes, text)
	}
}

// foreign is a package of another preserver under judgement.
type foreign struct {
	v       *verified
	entries map[string]*zip.File
	bases   map[string][]string // base name -> full names
	index   *sincro.Foreign
	raw     []byte // of the index
	at      string // its folder
}

// judgePackage verifies a package of another preserver, or of another installation: every file that its index names must be there
// with its digest, and a signature and a time stamp, where there are some, must hold. It is kept as it came.
func (j *judgement) judgePackage() error {
	j.finding.format = findFormat(formatZIP)
	f, err := openForeign(j.raw)
	if err != nil {
		j.refuse(problemPackage, "%v", err)
		return nil
	}
	f.files()
	f.signature()
	for _, text := range f.index.Deviation {
		f.v.note("the index breaks the schema of %s: %s; its files were compared all the same", f.index.Edition, text)
	}
	j.finding.signed = f.v.Signature != ""
	j.bodies = f.bodies()
	if len(j.bodies) > mostForeign {
		f.v.bad("it holds %d documents: more than %d are not taken in one package", len(j.bodies), mostForeign)
	}
	for _, text := range f.v.Problems[:min(len(f.v.Problems), 20)] {
		j.refuse(problemPackage, "%s", text)
	}
	j.verification, err = json.MarshalIndent(f.v, "", "  ")
	if err != nil {
		return fmt.Errorf("conservation: verification: %w", err)
	}
	j.origin = &foreignOrigin{f.index.Edition, f.index.ID, f.index.Volume, f.index.Program, f.index.Producer}
	if j.document.Type == "" {
		j.document = f.describe()
	}
	return nil
}

// openForeign finds the index of a package.
func openForeign(raw []byte) (*foreign, error) {
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return nil, fmt.Errorf("no readable ZIP (%w): it is another kind of file, or was cut", err)
	}
	f := &foreign{v: &verified{Notes: []string{}, Problems: []string{}}, entries: map[string]*zip.File{}, bases: map[string][]string{}}
	total, names := uint64(0), keptApart{}
	for _, e := range z.File {
		apart := names.add(e.Name, e.FileInfo().IsDir())
		switch {
		case unsafeMember(e.Name):
			return nil, fmt.Errorf("%.200q leads out of the ZIP", e.Name)
		case strings.Contains(e.Name, nul):
			return nil, fmt.Errorf("%.200q has a NUL character in its name", e.Name)
		case e.FileInfo().IsDir() && e.UncompressedSize64 > 0:
			return nil, fmt.Errorf("%.200q calls itself a folder and has a content", e.Name)
		case f.entries[e.Name] != nil:
			return nil, fmt.Errorf("it holds %.200q twice", e.Name)
		case apart != nil:
			return nil, apart
		case e.FileInfo().IsDir():
			continue
		}
		total = unpacked(total, e)
		f.entries[e.Name] = e
		f.bases[path.Base(e.Name)] = append(f.bases[path.Base(e.Name)], e.Name)
	}
	if total > 8<<30 {
		return nil, fmt.Errorf("unpacked it has %d bytes: more than 8 GiB are not opened", total)
	}
	err = custody.AsStream(raw, z.File)
	if err != nil {
		f.v.note("programs that read the ZIP from its beginning find something else in it than was compared: %v", err)
	}
	return f, f.findIndex(z)
}

func (f *foreign) findIndex(z *zip.Reader) error {
	names := make([]string, 0, len(f.entries))
	for _, e := range z.File {
		low := strings.ToLower(e.Name)
		if strings.HasSuffix(low, ".xml") || strings.HasSuffix(low, ".p7m") {
			names = append(names, e.Name)
		}
	}
	// What is called like an index and lies high is looked at first.
	rank := func(name string) int {
		low := strings.ToLower(path.Base(name))
		r := 100 * strings.Count(name, "/")
		if !strings.Contains(low, "pindex") && !strings.Contains(low, "idc") && !strings.Contains(low, "indice") && !strings.Contains(low, "sincro") {
			r += 10_000
		}
		if strings.HasSuffix(low, ".p7m") {
			r++
		}
		return r
	}
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(rank(a), rank(b)) })
	var said error
	for _, name := range names {
		content, err := f.read(name)
		if err != nil {
			continue
		}
		if strings.HasSuffix(strings.ToLower(name), ".p7m") {
			content, _, err = cms.Open(content)
			if err != nil {
				continue
			}
		}
		if !sincro.IsIndex(content) {
			continue
		}
		f.index, err = sincro.ReadForeign(content)
		if err != nil {
			said = fmt.Errorf("%s: %w", name, err)
			continue
		}
		f.raw, f.at = content, path.Dir(name)
		f.v.IndexFile, f.v.Standard, f.v.Index, f.v.Volume = name, f.index.Edition, f.index.ID, f.index.Volume
		f.v.Program, f.v.Producer, f.v.Groups = f.index.Program, f.index.Producer, len(f.index.Groups)
		return nil
	}
	if said != nil {
		return said
	}
	return errors.New("there is no index of UNI 11386 in it (IdC of 2010, PIndex of 2020)")
}

func (f *foreign) read(name string) ([]byte, error) { return readEntry(f.entries[name], 1<<30) }

// find gives the name of a file of the index in the ZIP. The standard leaves open what paths are relative to.
func (f *foreign) find(file sincro.ForeignFile) string {
	given := file.Path
	if given == "" {
		given = file.ID
	}
	given = strings.TrimPrefix(strings.TrimPrefix(given, "file://"), "/")
	plain, err := url.PathUnescape(given)
	if err != nil {
		plain = given
	}
	for _, p := range []string{given, plain} {
		for _, name := range []string{path.Join(f.at, p), path.Clean(p)} {
			if f.entries[name] != nil {
				return name
			}
		}
	}
	if same := f.bases[path.Base(plain)]; len(same) == 1 {
		return same[0]
	}
	return ""
}

// files compares every file that the index names.
func (f *foreign) files() {
	named := map[string]bool{}
	look := func(file sincro.ForeignFile) {
		f.v.Files++
		name := f.find(file)
		if name == "" {
			f.v.bad("%s is in the index and not in the package", cmp.Or(file.Path, file.ID))
			return
		}
		named[name] = true
		f.compare(file, name)
	}
	for _, g := range f.index.Groups {
		for _, file := range g.Files {
			look(file)
		}
		if g.Metadata != nil {
			look(*g.Metadata)
		}
	}
	for name := range f.entries {
		if base := strings.ToLower(path.Base(name)); !named[name] && name != f.v.IndexFile && !strings.HasSuffix(base, ".p7m") && !strings.HasSuffix(base, ".tsr") && !isTag(base) {
			f.v.note("%s is in the package and not in the index", name)
		}
	}
}

func isTag(base string) bool {
	return slices.Contains([]string{"bagit.txt", "bag-info.txt", "manifest-sha256.txt", "manifest-sha512.txt", "tagmanifest-sha256.txt", "tagmanifest-sha512.txt", packageFile, intakeList}, base)
}

func (f *foreign) compare(file sincro.ForeignFile, name string) {
	raw, err := f.read(name)
	if err != nil {
		f.v.bad("%s cannot be read: %v", name, err)
		return
	}
	f.v.Bytes += int64(len(raw))
	var sum []byte
	switch fn := strings.ToUpper(strings.NewReplacer("-", "", "_", "", " ", "").Replace(file.Function)); {
	case strings.HasSuffix(fn, "SHA256"):
		s := sha256.Sum256(raw)
		sum = s[:]
	case strings.HasSuffix(fn, "SHA512"):
		s := sha512.Sum512(raw)
		sum = s[:]
	case strings.HasSuffix(fn, "SHA384"):
		s := sha512.Sum384(raw)
		sum = s[:]
	case strings.HasSuffix(fn, "SHA1"):
		s := sha1.Sum(raw) //nolint:gosec // see above
		sum = s[:]
		f.v.note("digests are SHA-1, which proves little today; the archive's own are SHA-256")
	default:
		f.v.bad("%s: its digest is of %q, which is not known here", name, file.Function)
		return
	}
	if !sameDigest(file.Value, sum) {
		f.v.bad("%s does not have the digest that the index gives it", name)
	}
}

// sameDigest: the standard leaves open whether digests are hex or base64, and SACER has encoded some twice.
func sameDigest(text string, sum []byte) bool {
	if strings.EqualFold(text, hex.EncodeToString(sum)) {
		return true
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	return err == nil && (bytes.Equal(raw, sum) || strings.EqualFold(string(raw), hex.EncodeToString(sum)) || string(raw) == base64.StdEncoding.EncodeToString(sum))
}

// signature looks for who signed the index, and when. One that is there must hold; whether its certificate is to be trusted is
// another question, which the archive does not answer for others.
func (f *foreign) signature() {
	var signed []byte
	for name := range f.entries {
		if !strings.HasSuffix(strings.ToLower(name), ".p7m") {
			continue
		}
		raw, err := f.read(name)
		if err != nil {
			continue
		}
		sd, report, err := cades.Verify(raw, cades.VerifyOptions{})
		if err != nil || !bytes.Equal(sd.Content(), f.raw) {
			if strings.EqualFold(name, f.v.IndexFile+".p7m") { // others may sign what they like
				f.v.bad("%s signs another index than the one in the package", name)
			}
			continue
		}
		signed = raw
		f.v.Signature = name + ": holds"
		if err = report.Err(); err != nil {
			f.v.Signature = name + ": does not hold"
			f.v.bad("%s: the signature of the index does not hold: %v", name, err)
		}
	}
	if inside := f.enveloped(); signed == nil && !inside {
		f.v.note("no signature of the index is in the package")
	}
	for name := range f.entries {
		if low := strings.ToLower(name); !strings.HasSuffix(low, ".tsr") && !strings.HasSuffix(low, ".tst") {
			continue
		}
		raw, err := f.read(name)
		if err != nil {
			continue
		}
		token, err := tsp.ParseToken(raw)
		if err != nil {
			f.v.bad("%s is no readable time stamp: %v", name, err)
			continue
		}
		for _, over := range [][]byte{signed, f.raw} {
			digest := sha256.Sum256(over)
			if over != nil && token.Verify(tsp.VerifyOptions{Digest: digest[:]}) == nil {
				f.v.TimeStamp = name + ": " + token.Info.Time.UTC().Format(time.RFC3339)
			}
		}
		if f.v.TimeStamp == "" {
			f.v.note("%s is a time stamp of something else than the index or its signature", name)
		}
	}
}

// enveloped judges XAdES signatures within the index itself, and says whether there are some. What they cover is noted where it is
// not all of it: other preservers signed parts.
func (f *foreign) enveloped() bool {
	report, err := xades.Verify(f.raw, xades.VerifyOptions{OtherArchives: true})
	if err != nil {
		f.v.note("%s: signatures in it cannot be looked for: %v", f.v.IndexFile, err)
		return false
	}
	for i := range report.Signatures {
		sig := &report.Signatures[i]
		f.v.Signature = cmp.Or(f.v.Signature, f.v.IndexFile+": holds")
		if sig.Document.Verdict == xades.Failed && sig.References.Verdict == xades.Passed {
			f.v.note("%s: signature %d covers a part of it only: %s", f.v.IndexFile, i+1, sig.Document.Reason)
			sig.Document.Verdict = xades.NotJudged
		}
		if err = sig.Err(); err != nil {
			f.v.Signature = f.v.IndexFile + ": does not hold"
			f.v.bad("%s: signature %d in it does not hold: %v", f.v.IndexFile, i+1, err)
			break
		}
	}
	return len(report.Signatures) > 0
}

// describe is the metadata of the package as a whole, from its index.
func (f *foreign) describe() document {
	at := f.index.Time
	day := "1970-01-01"
	if !at.IsZero() {
		day = at.UTC().Format(time.DateOnly)
	}
	holder := agent{Role: "Mittente", party: party{Name: cmp.Or(f.index.Holder, f.index.Producer, f.index.Program, "altro conservatore")}}
	if id, ok := strings.CutPrefix(f.index.HolderID, "VAT"); ok {
		holder.VAT = strings.Replace(id, "-", "", 1)
	}
	if id, ok := strings.CutPrefix(f.index.HolderID, "TINIT-"); ok {
		holder.TaxCode = id
	}
	return document{
		Type: "Pacchetto di archiviazione", Title: "Pacchetto di archiviazione " + cmp.Or(f.index.Volume, f.index.ID) + " di altro sistema di conservazione",
		Number: cmp.Or(f.index.Volume, f.index.ID, "senza numero"), Date: day, Formation: 2, Flow: "E", Agents: []agent{holder},
	}
}

// bodies are the documents of the package as the search shows them: from its own list of units, else from metadata of Allegato 5,
// else from the index alone.
func (f *foreign) bodies() []body {
	if list := f.bases[intakeList]; len(list) == 1 {
		if bodies := f.fromList(list[0]); len(bodies) > 0 {
			return bodies
		}
	}
	own := f.describe()
	var bodies []body
	for _, g := range f.index.Groups {
		in := &inside{Seller: own.Agents[0].party}
		if len(g.Files) > 0 {
			in.Path = f.find(g.Files[0])
			in.FileName = path.Base(in.Path)
		}
		b := body{Type: cmp.Or(g.Label, "documento"), Number: cmp.Or(g.ID, in.FileName), Date: own.Date, Inside: in}
		if g.Metadata != nil {
			f.fromMetadata(*g.Metadata, &b)
		}
		bodies = append(bodies, b)
	}
	return bodies
}

// fromList reads units.jsonl, which the packages of this program carry.
func (f *foreign) fromList(name string) []body {
	raw, err := f.read(name)
	if err != nil {
		return nil
	}
	last := map[string]record{}
	var order []string
	lines := json.NewDecoder(bufio.NewReader(bytes.NewReader(raw)))
	for {
		var u record
		err = lines.Decode(&u)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			f.v.note("%s cannot be read: %v", name, err)
			return nil
		}
		id := u.Unit.String()
		if u.Integrates != nil {
			id = u.Integrates.String()
		}
		if _, ok := last[id]; !ok {
			order = append(order, id)
		}
		last[id] = u
	}
	var bodies []body
	for _, id := range order {
		u := last[id]
		for _, b := range u.Facts.Bodies {
			in := &inside{FileName: u.Facts.FileName, SdiID: u.Facts.SdiID, State: u.Facts.State, Class: u.Class, Year: u.Year, Seller: u.Facts.Seller, Buyer: u.Facts.Buyer}
			if b.Inside != nil { // a package in a package
				in = b.Inside
			}
			if _, err := time.Parse(time.DateOnly, b.Date); err != nil {
				f.v.bad("%s: unit %s has a document of %q, which is no date", name, id, b.Date)
				continue
			}
			bodies = append(bodies, withoutNULs(body{b.Type, b.Number, b.Date, in}))
		}
	}
	return bodies
}

// withoutNULs is what the search can hold of a document that a JSON list names: XML admits no NUL, JSON does.
func withoutNULs(b body) body {
	in := *b.Inside
	texts := []*string{&b.Type, &b.Number, &in.Path, &in.FileName, &in.SdiID, &in.State, &in.Class}
	for _, p := range []*party{&in.Seller, &in.Buyer} {
		texts = append(texts, &p.Name, &p.VAT, &p.TaxCode)
	}
	for _, t := range texts {
		*t = strings.ReplaceAll(*t, nul, replacement)
	}
	b.Inside = &in
	return b
}

// allegato5 is what the search wants of a DocumentoInformatico.
type allegato5 struct {
	XMLName xml.Name
	Kind    string `xml:"TipologiaDocumentale"`
	Data    struct {
		None struct {
			Date   string `xml:"DataDocumento"`
			Number string `xml:"NumeroDocumento"`
		} `xml:"Nessuno"`
		Register struct {
			Date   string `xml:"DataRegistrazioneDocumento"`
			Number string `xml:"NumeroRegistrazioneDocumento"`
		} `xml:"Repertorio_Registro"`
		Protocol struct {
			Date   string `xml:"DataProtocollazioneDocumento"`
			Number string `xml:"NumeroProtocolloDocumento"`
		} `xml:"ProtocolloOrdinario_ProtocolloEmergenza"`
	} `xml:"DatiDiRegistrazione>TipoRegistro"`
	Roles []struct {
		Sender    *allegato5Agent `xml:"Mittente"`
		Author    *allegato5Agent `xml:"Autore"`
		Recipient *allegato5Agent `xml:"Destinatario"`
	} `xml:"Soggetti>Ruolo"`
	Name string `xml:"NomeDelDocumento"`
}

type allegato5Agent struct {
	Last     string `xml:"PF>Cognome"`
	First    string `xml:"PF>Nome"`
	Code     string `xml:"PF>CodiceFiscale"`
	Body     string `xml:"PG>DenominazioneOrganizzazione"`
	BodyCode string `xml:"PG>CodiceFiscale_PartitaIva"`
	Office   string `xml:"PAI>IPAAmm>Denominazione"`
}

func (a *allegato5Agent) party() party {
	p := party{Name: cmp.Or(a.Body, strings.TrimSpace(a.First+" "+a.Last), a.Office), TaxCode: a.Code}
	if elevenDigits.MatchString(a.BodyCode) {
		p.VAT, p.TaxCode = "IT"+a.BodyCode, a.BodyCode
	}
	return p
}

// fromMetadata fills in what the metadata of a document tell.
func (f *foreign) fromMetadata(file sincro.ForeignFile, b *body) {
	name := f.find(file)
	if name == "" {
		return
	}
	raw, err := f.read(name)
	if err != nil {
		return
	}
	var m allegato5
	if xml.Unmarshal(raw, &m) != nil || m.XMLName.Local != "DocumentoInformatico" && m.XMLName.Local != "DocumentoAmministrativoInformatico" {
		return
	}
	b.Type = cmp.Or(m.Kind, b.Type)
	b.Number = cmp.Or(m.Data.None.Number, m.Data.Register.Number, m.Data.Protocol.Number, b.Number)
	date := cmp.Or(m.Data.None.Date, m.Data.Register.Date, m.Data.Protocol.Date)
	if _, err = time.Parse(time.DateOnly, date); err == nil {
		b.Date = date
	}
	b.Inside.FileName = cmp.Or(m.Name, b.Inside.FileName)
	for _, r := range m.Roles {
		switch {
		case r.Sender != nil:
			b.Inside.Seller = r.Sender.party()
		case r.Author != nil:
			b.Inside.Seller = r.Author.party()
		case r.Recipient != nil:
			b.Inside.Buyer = r.Recipient.party()
		}
	}
}
