package conservation

import (
	"archive/zip"
	"bytes"
	"cmp"
	"compress/flate"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/fatturapa/render"
	"ceralacca.dev/services/format/pdd"
	"ceralacca.dev/services/format/sincro"
	"ceralacca.dev/services/internal/fault"
)

// builder writes the ZIP of one distribution. What it writes follows from the row, the units and the log: a repeat gives the
// same bytes up to the signature.
type builder struct {
	s       *Service
	row     db.Distribution
	file    *os.File
	zip     *zip.Writer
	names   pdd.Names
	files   cabinet
	catalog pdd.Catalog
	groups  []sincro.FileGroup
	rest    []sincro.File
	origins map[uuid.UUID]*provenance
	order   []uuid.UUID // of origins, as they come
	holders map[string]party
}

// provenance is a package that documents come from.
type provenance struct {
	pack  db.Package
	shown bool // its index names nobody else than the documents that are given
	list  bytes.Buffer
}

func (o *provenance) dir() string { return pdd.Proofs + "/" + o.pack.ID.String() }

// build makes the ZIP as it is to be signed, in a temporary file, which is the caller's to drop.
func (s *Service) build(ctx context.Context, row db.Distribution) (*os.File, error) {
	file, err := scratch()
	if err != nil {
		return nil, err
	}
	b := &builder{
		s: s, row: row, file: file, zip: zip.NewWriter(file), files: cabinet{s: s}, origins: map[uuid.UUID]*provenance{}, holders: map[string]party{},
		catalog: pdd.Catalog{Made: row.AskedAt.In(s.rome).Format(time.DateOnly), Purpose: row.Purpose},
	}
	b.compress()
	err = b.fill(ctx)
	if err != nil {
		drop(file)
		return nil, err
	}
	return file, nil
}

func (b *builder) compress() {
	b.zip.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestSpeed) })
}

func (b *builder) fill(ctx context.Context) error {
	for page := range slices.Chunk(b.row.Units, searchPage) {
		list, err := b.s.stories(ctx, b.row.TenantID, page)
		if err != nil {
			return err
		}
		for _, st := range list {
			err = b.unit(ctx, st)
			if err != nil {
				return err
			}
		}
	}
	err := b.proofs(ctx)
	if err != nil {
		return err
	}
	script, err := b.catalog.Script()
	if err != nil {
		return err
	}
	err = b.more(pdd.DataFile, script)
	fixed := pdd.Fixed()
	for _, name := range slices.Sorted(maps.Keys(fixed)) {
		if err == nil {
			err = b.more(name, fixed[name])
		}
	}
	if err != nil {
		return err
	}
	return b.finish()
}

// write puts a file into the ZIP. Times are that of the order.
func (b *builder) write(name string, content []byte) error {
	h := &zip.FileHeader{Name: "PdD-" + b.row.ID.String()[24:] + "/" + name, Method: zip.Deflate, Modified: b.row.AskedAt.UTC().Truncate(time.Second)}
	h.SetMode(0o444)
	if name == "verifica.sh" {
		h.SetMode(0o555)
	}
	w, err := b.zip.CreateHeader(h)
	if err == nil {
		_, err = w.Write(content)
	}
	if err != nil {
		return fmt.Errorf("conservation: zip %s: %w", name, err)
	}
	return nil
}

// add writes a file and gives it as the index names it.
func (b *builder) add(name string, content []byte) (sincro.File, error) {
	return sincro.File{
		Encoding: sincro.Binary, Format: formatOf(name), Extension: strings.TrimPrefix(path.Ext(name), "."),
		ID: sincro.ID{Scheme: "local", Value: name}, Path: name, Hash: sincro.HashOf(sha256.Sum256(content)),
	}, b.write(name, content)
}

// more writes a file that is no document.
func (b *builder) more(name string, content []byte) error {
	f, err := b.add(name, content)
	b.rest = append(b.rest, f)
	return err
}

// unit writes a unit with its receipts, what later ones added, its view, and its lines for the viewer.
func (b *builder) unit(ctx context.Context, st story) error {
	holder := st.facts.holder()
	b.holders[holder.Name+"\x00"+holder.VAT+"\x00"+holder.TaxCode] = holder
	line := pdd.Document{
		Unit: unitName(b.row.TenantID, st.unit.ID), Seller: shownParty(st.facts.Seller), Buyer: shownParty(st.facts.Buyer), State: st.state, SdI: st.facts.SdiID,
	}
	for _, m := range append([]member{st.member}, st.later...) {
		err := b.member(ctx, m, &line)
		if err != nil {
			return err
		}
	}
	document, err := b.files.file(ctx, st.files[0])
	if err != nil {
		return err
	}
	view, err := viewOf(st, document)
	if err != nil {
		return err
	}
	line.View = b.names.In(pdd.Views, path.Base(line.File)+".txt")
	line.View = strings.TrimSuffix(line.View, ".txt") + ".html"
	err = b.more(line.View, view)
	if err != nil {
		return err
	}
	for _, d := range st.facts.Bodies {
		line.Date, line.Type, line.Number = d.Date, d.Type, d.Number
		b.catalog.Documents = append(b.catalog.Documents, line)
	}
	return nil
}

func shownParty(p party) pdd.Party { return pdd.Party{Name: p.Name, VAT: p.VAT, Code: p.TaxCode} }

// member writes the files of one unit, original bytes under real names.
func (b *builder) member(ctx context.Context, m member, line *pdd.Document) error {
	g := sincro.FileGroup{ID: sincro.ID{Scheme: "uuid", Value: m.unit.ID.String()}, Label: m.unit.Class}
	from, err := b.from(ctx, m.unit)
	if err != nil {
		return err
	}
	for _, f := range m.files {
		content, err := b.files.file(ctx, f)
		if err != nil {
			return err
		}
		name := ""
		switch f.Role {
		case "metadata":
			name = b.names.In(pdd.Metadata, path.Base(line.File)+".metadati.xml")
		case "receipt":
			name = b.names.In(pdd.Receipts, f.FileName)
			line.Receipts = append(line.Receipts, pdd.Receipt{Type: f.ReceiptType, Path: name})
		default:
			name = b.names.In(pdd.Documents, f.FileName)
			line.File = name
		}
		file, err := b.add(name, content)
		if err != nil {
			return err
		}
		if from != nil {
			fmt.Fprintf(&from.list, "%s %s\n", base64Of(f.Sha256), name)
		}
		if f.Role == "metadata" {
			g.Metadata = &sincro.Metadata{Schema: metadataSchema, Encoding: file.Encoding, Format: file.Format, Extension: file.Extension, ID: file.ID, Path: file.Path, Hash: file.Hash}
			continue
		}
		if f.Role == "receipt" {
			file.Relations = []sincro.Relation{{Type: "ricevuta di", Values: []string{line.File}}}
		}
		g.Files = append(g.Files, file)
	}
	if m.unit.Integrates != nil {
		g.Relations = []sincro.Relation{{Type: "integra", Values: []string{m.unit.Integrates.String()}}}
	}
	b.groups = append(b.groups, g)
	return b.receipt(ctx, pdd.UnitProof+"/"+m.unit.ID.String()+pdd.ProofSuffix, m.unit.ID)
}

// from is the sealed package that a unit is in; nil before.
func (b *builder) from(ctx context.Context, u db.Unit) (*provenance, error) {
	if u.PackageID == nil || u.State != "PRESERVED" {
		return nil, nil //nolint:nilnil // it is in none yet
	}
	o := b.origins[*u.PackageID]
	if o == nil {
		p, err := b.s.pack(ctx, b.row.TenantID, SealArgs{Tenant: b.row.TenantID, Package: *u.PackageID})
		if err != nil {
			return nil, err
		}
		o = &provenance{pack: p}
		b.origins[p.ID], b.order = o, append(b.order, p.ID)
	}
	return o, nil
}

// sellers are the holders of the documents, each once, in a fixed order.
func (b *builder) sellers() []party {
	var list []party
	for _, key := range slices.Sorted(maps.Keys(b.holders)) {
		list = append(list, b.holders[key])
	}
	return list
}

// proofs writes what proves where documents come from. The index of a package names the holders of all its documents: when
// one of them has nothing here, it is left out, and says so.
func (b *builder) proofs(ctx context.Context) error {
	for _, id := range b.order {
		o := b.origins[id]
		holders, err := b.s.holders(ctx, o.pack)
		if err != nil {
			return err
		}
		o.shown = !slices.ContainsFunc(holders, func(p party) bool {
			_, given := b.holders[p.Name+"\x00"+p.VAT+"\x00"+p.TaxCode]
			return !given
		})
		err = cmp.Or(b.receipt(ctx, o.dir()+"/"+pdd.OriginProof, o.pack.ID), b.renewal(ctx, o))
		if err != nil {
			return err
		}
		if !o.shown {
			err = b.more(o.dir()+"/OMESSO.txt", []byte("L'indice firmato di questo pacchetto nomina soggetti estranei ai documenti richiesti.\n"+
				"The signed index of this package names parties that the documents asked for have nothing to do with.\n"))
			if err != nil {
				return err
			}
			continue
		}
		signed, err := b.s.blobs.Get(ctx, refOf(o.pack.TenantID, o.pack.SignedSha256, o.pack.SignedSize))
		if err != nil {
			return err
		}
		stamp, err := b.s.blobs.Get(ctx, refOf(o.pack.TenantID, o.pack.StampSha256, o.pack.StampSize))
		if err != nil {
			return err
		}
		err = cmp.Or(b.more(o.dir()+"/"+pdd.OriginList, o.list.Bytes()), b.more(o.dir()+"/"+pdd.OriginSigned, signed), b.more(o.dir()+"/"+pdd.OriginStamp, stamp), b.revocation(ctx, o))
		if err != nil {
			return err
		}
	}
	return nil
}

// revocation writes what the issuers said of the certificates of a package's signature and time stamp.
func (b *builder) revocation(ctx context.Context, o *provenance) error {
	said, err := b.s.keptRevocation(ctx, o.pack)
	if err != nil || said == nil {
		return err
	}
	tags, err := said.tags()
	for _, name := range slices.Sorted(maps.Keys(tags)) {
		if err == nil && name != revocationNote {
			err = b.more(o.dir()+"/"+strings.TrimPrefix(name, revocationDir), tags[name])
		}
	}
	return err
}

// renewal writes the last evidence record of a package, once its time stamp needed one. It names nobody.
func (b *builder) renewal(ctx context.Context, o *provenance) error {
	if b.s.replicas == nil {
		return nil
	}
	raw, _, err := b.s.evidenceBytes(ctx, o.pack.TenantID, o.pack.ID, 0)
	if errors.Is(err, fault.NotFound(evidenceMissing, "")) {
		return nil
	}
	if err != nil {
		return err
	}
	return b.more(o.dir()+"/"+pdd.OriginEvidence, raw)
}

// receipt writes the proof of the log where one is kept. What the log states in a second is waited for.
func (b *builder) receipt(ctx context.Context, name string, subject uuid.UUID) error {
	if b.s.book == nil {
		return nil
	}
	r, err := evidence{s: b.s}.receipt(ctx, b.row.TenantID, "", subject, 0, false, func(context.Context, *db.Queries) error { return nil })
	if err != nil {
		return err
	}
	return b.more(name, r.GetReceipt())
}

// notOriginal stands at the top of every view.
const notOriginal = "Copia di consultazione — non è l'originale. L'originale è "

// viewOf is a page for people to read. A document that is no invoice that could be read gets one with what is known of it.
func viewOf(st story, document []byte) ([]byte, error) {
	name := st.files[0].FileName
	mark := notOriginal + name + ", SHA-256 " + fmt.Sprintf("%x", st.files[0].Sha256)
	content := document
	if cms.Looks(document) {
		inner, _, err := cms.Open(document)
		if err == nil && inner != nil {
			content = inner
		}
	}
	var page bytes.Buffer
	invoice, err := fatturapa.Parse(content)
	if err == nil {
		err = render.HTML(&page, invoice, render.Options{FileName: name})
	} else {
		page.Reset()
		err = plainView(st, name).HTML(&page, render.Options{})
	}
	if err != nil {
		return nil, fmt.Errorf("conservation: view of %s: %w", name, err)
	}
	head, rest, ok := bytes.Cut(page.Bytes(), []byte("<body>\n"))
	if !ok {
		return nil, fault.Internal("VIEW_UNMARKED", "the view of %s has no place for its mark", name)
	}
	return slices.Concat(head, []byte("<body>\n<p class=\"copy\" role=\"note\"><strong>"), []byte(escaped.Replace(mark)), []byte("</strong></p>\n"), rest), nil
}

// escaped is text between tags.
var escaped = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

func plainView(st story, name string) *render.Page {
	part := render.Part{Title: name}
	who := func(p party) string { return strings.Join([]string{p.Name, p.VAT, p.TaxCode}, " ") }
	if m := st.facts.Mail; m != nil {
		part.Sections = []render.Section{{Heading: m.kind(), Fields: []render.Field{{Name: "Oggetto", Value: m.object()}, {Name: "Mittente", Value: m.Sender},
			{Name: "Destinatari", Value: strings.Join(m.Recipients, ", ")}, {Name: "Casella", Value: m.Address}, {Name: "Ricevuto", Value: m.Received}, {Name: "Note", Value: m.note()}}}}
		return &render.Page{Title: name, Heading: name, Parts: []render.Part{part}, Notes: []string{"Il messaggio si legge nell'originale (.eml)."}}
	}
	for _, d := range st.facts.Bodies {
		part.Sections = append(part.Sections, render.Section{Heading: d.Type + " " + d.Number, Fields: []render.Field{
			{Name: "Data", Value: d.Date}, {Name: "Cedente", Value: who(st.facts.Seller)}, {Name: "Cessionario", Value: who(st.facts.Buyer)},
			{Name: "Identificativo SdI", Value: st.facts.SdiID}, {Name: "Esito", Value: st.state},
		}})
	}
	return &render.Page{Title: name, Heading: name, Parts: []render.Part{part}, Notes: []string{"Il documento non è una fattura leggibile da questo programma: si veda l'originale."}}
}

// DistributionsConfig is about the packages that are made for those who ask (PdD).
type DistributionsConfig struct {
	// Keep is how long one that is ready can be downloaded. Then the eraser takes its bytes; the documents stay in the archive, and
	// the row says what it was, with its digest. 0s: without end.
	Keep time.Duration `yaml:"keep"`
}

func defaultDistributions() DistributionsConfig {
	return DistributionsConfig{Keep: 30 * 24 * time.Hour}
}

func (c DistributionsConfig) check(bad func(when bool, path, format string, a ...any)) {
	bad(c.Keep != 0 && c.Keep < time.Hour, "distributions.keep", "must be at least 1h, for example 720h; 0s keeps them without end")
}

func (s *Service) distributionMessage(row db.Distribution) *conservationv1.Distribution {
	m := &conservationv1.Distribution{
		Name: distributionName(row.TenantID, row.ID), State: conservationv1.DistributionState(conservationv1.DistributionState_value["DISTRIBUTION_STATE_"+row.State]),
		UnitCount: int32(len(row.Units)), Purpose: row.Purpose, Sha256: row.Sha256, CreateTime: timeMessage(&row.AskedAt), ReadyTime: timeMessage(row.ReadyAt), LastError: row.LastError, //nolint:gosec // at most mostExhibited
	}
	if row.Size != nil {
		m.Size = *row.Size
	}
	if row.State == "READY" && row.ReadyAt != nil && s.cfg.Distributions.Keep > 0 {
		end := row.ReadyAt.Add(s.cfg.Distributions.Keep)
		m.ExpireTime = timeMessage(&end)
	}
	return m
}
