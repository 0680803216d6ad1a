package conservation

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"path"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/format/sincro"
)

// indexSpace makes the id of a package's index from the package's, so that a repeat writes the same.
var indexSpace = uuid.MustParse("9c6ea2a5-3b1f-4d0e-8f43-0b4f2f1f7f0c")

// member is a unit of a package with its files.
type member struct {
	unit  db.Unit
	files []db.UnitFile
}

// folder is where the files of a member are, relative to the index. Names inside a package tell
// nothing: who is shown the index learns digests, not customers.
func (m member) folder() string { return fmt.Sprintf("units/u%06d", *m.unit.Position) }

// path of one of the member's files, relative to the index.
func (m member) path(f db.UnitFile) string { return m.folder() + "/" + m.base(f) }

// base is the file's name in the member's folder.
func (m member) base(f db.UnitFile) string {
	switch f.Role {
	case "transmitted":
		return "doc" + extension(f.FileName)
	case "receipt":
		return fmt.Sprintf("r%02d_%s%s", f.Ordinal, safeType(f.ReceiptType), extension(f.FileName))
	}
	return "metadati.xml"
}

// extension keeps what tells a reader how to open a file, from a closed list.
func extension(name string) string {
	lower := strings.ToLower(name)
	for _, known := range []string{".xml.p7m", ".xml", ".p7m", ".eml", ".csv", ".zip", ".pdf"} {
		if strings.HasSuffix(lower, known) {
			return known
		}
	}
	if _, ok := formatByExtension(path.Ext(lower)); ok {
		return path.Ext(lower)
	}
	return ".bin"
}

// safeType keeps the two letters of a receipt's type and nothing that a path could mean.
func safeType(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, s)
}

func formatOf(name string) string {
	switch path.Ext(name) {
	case ".xml":
		return mimeXML
	case ".p7m":
		return mimeSigned
	case ".eml":
		return "message/rfc822"
	case ".csv":
		return "text/csv"
	case ".zip":
		return mimeZIP
	case ".pdf":
		return mimePDF
	}
	if f, ok := formatByExtension(path.Ext(name)); ok {
		return f.media
	}
	return "application/octet-stream"
}

const memberPage = 500

// members reads the units of a package in its order, a page at a time.
func (s *Service) members(ctx context.Context, p db.Package) iter.Seq2[member, error] {
	return func(yield func(member, error) bool) {
		for after := int32(0); ; {
			page, err := s.memberPage(ctx, p, after)
			if err != nil {
				yield(member{}, err)
				return
			}
			for _, m := range page {
				if !yield(m, nil) {
					return
				}
			}
			if len(page) < memberPage {
				return
			}
			after = *page[len(page)-1].unit.Position
		}
	}
}

func (s *Service) memberPage(ctx context.Context, p db.Package, after int32) ([]member, error) {
	var page []member
	err := s.db.Tx(ctx, p.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		units, err := q.Members(ctx, db.MembersParams{PackageID: p.ID, After: after, Page: memberPage})
		if err != nil {
			return err
		}
		ids := make([]uuid.UUID, len(units))
		for i, u := range units {
			ids[i] = u.ID
		}
		files, err := q.FilesOf(ctx, ids)
		if err != nil {
			return err
		}
		of := map[uuid.UUID][]db.UnitFile{}
		for _, f := range files {
			of[f.UnitID] = append(of[f.UnitID], f)
		}
		for _, u := range units {
			page = append(page, member{u, of[u.ID]})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("conservation: members of %s: %w", p.ID, err)
	}
	return page, nil
}

// writeIndex streams the PIndex into the store. Its bytes follow from the closing record alone.
// spec: UNI11386-2020
func (s *Service) writeIndex(ctx context.Context, p db.Package) (result, error) {
	t, err := decodeTerms(p.Terms)
	if err != nil {
		return result{}, err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop() // what is read ahead when the writing fails
	groups := s.groups(ctx, p)
	holders, err := s.holders(ctx, p)
	if err != nil {
		return result{}, err
	}
	head := indexHead(p, t, holders)
	read, write := io.Pipe()
	go func() {
		err := sincro.Write(write, head, groups)
		write.CloseWithError(err) // nil is io.EOF for the reader
	}()
	ref, err := s.blobs.PutReader(ctx, p.TenantID, read)
	_ = read.Close() // ends the writer when the store gave up first
	if err != nil {
		return result{}, fmt.Errorf("conservation: index of %s: %w", p.ID, err)
	}
	return result{ref: ref}, nil
}

// holders are the taxpayers whose documents the package holds, in a fixed order.
func (s *Service) holders(ctx context.Context, p db.Package) ([]party, error) {
	var raw []string
	err := s.db.Tx(ctx, p.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		raw, err = db.New(tx).SellersOf(ctx, p.ID)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("conservation: holders of %s: %w", p.ID, err)
	}
	slices.Sort(raw)
	holders := make([]party, len(raw))
	for i, text := range raw {
		err = json.Unmarshal([]byte(text), &holders[i])
		if err != nil {
			return nil, fmt.Errorf("conservation: holders of %s: %w", p.ID, err)
		}
	}
	return holders, nil
}

func indexHead(p db.Package, t terms, holders []party) sincro.Index {
	year := fmt.Sprint(p.FiscalYear)
	ix := sincro.Index{
		Language:    "it",
		ID:          sincro.ID{Scheme: "uuid", Value: uuid.NewSHA1(indexSpace, p.ID[:]).String()},
		Application: t.Application,
		Volume: sincro.Volume{
			ID:    sincro.ID{Scheme: "uuid", Value: p.ID.String()},
			Label: fmt.Sprintf("%s %s n. %d", p.Class, year, p.Number),
			Group: &sincro.Group{
				ID:    sincro.ID{Scheme: "local", Value: "tenants/" + p.TenantID + "/" + year + "/" + p.Class},
				Label: "Periodo d'imposta " + year,
			},
		},
		Process: sincro.Process{Signers: []sincro.Signer{t.signer()}, Time: p.ClosedAt.UTC(), Laws: t.Laws},
	}
	for _, h := range holders {
		ix.Process.Holders = append(ix.Process.Holders, sincro.Holder{Agent: t.holder(h), Role: sincro.Produttore})
	}
	// One taxpayer submits for himself; several do so through the tenant that unites them.
	ix.Process.Submitter = sincro.Agent{
		Type: sincro.LegalPerson, FormalName: "tenants/" + p.TenantID,
		Documents: []sincro.RelevantDocument{{Text: t.Contract}},
	}
	if len(holders) == 1 {
		ix.Process.Submitter = ix.Process.Holders[0].Agent
	}
	return ix
}

// group is the member in the index: its documents as files, its metadata beside them.
func (m member) group() sincro.FileGroup {
	g := sincro.FileGroup{ID: sincro.ID{Scheme: "uuid", Value: m.unit.ID.String()}, Label: m.unit.Class}
	var document string
	folder := m.folder() + "/"
	for _, f := range m.files {
		name := folder + m.base(f)
		id, hash := sincro.ID{Scheme: "local", Value: strings.TrimPrefix(name, "units/")}, sincro.HashOf([32]byte(f.Sha256))
		ext := strings.TrimPrefix(path.Ext(name), ".")
		if f.Role == "metadata" {
			g.Metadata = &sincro.Metadata{
				Schema: metadataSchema, Encoding: sincro.Binary, Format: mimeXML, Extension: ext, ID: id, Path: name, Hash: hash,
			}
			continue
		}
		file := sincro.File{Encoding: sincro.Binary, Format: formatOf(name), Extension: ext, ID: id, Path: name, Hash: hash}
		if f.Role == "transmitted" {
			document = id.Value
		} else if document != "" {
			file.Relations = []sincro.Relation{{Type: "ricevuta di", Values: []string{document}}}
		}
		g.Files = append(g.Files, file)
	}
	if m.unit.Integrates != nil {
		g.Relations = []sincro.Relation{{Type: "integra", Values: []string{m.unit.Integrates.String()}}}
	}
	return g
}
