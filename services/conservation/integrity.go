package conservation

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/format/custody"
	"ceralacca.dev/services/format/fatturapa/render"
	"ceralacca.dev/services/format/sincro"
	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
)

// integrityReport is what a fresh look at one document found. Its JSON is signed. spec: eIDAS art. 45j
type integrityReport struct {
	Report  string           `json:"report"`
	Unit    string           `json:"unit"`
	Subject string           `json:"subject"`
	Taken   time.Time        `json:"taken"`
	Package string           `json:"package,omitempty"`
	Checked time.Time        `json:"checked"`
	Program string           `json:"program"`
	Intact  bool             `json:"intact"`
	Files   []integrityFile  `json:"files"`
	Checks  []integrityCheck `json:"checks"`
	Notes   []string         `json:"notes,omitempty"`
}

type integrityFile struct {
	Role     string `json:"role"`
	FileName string `json:"file_name"`
	SHA256   string `json:"sha256"`
	Size     int64  `json:"size"`
}

type integrityCheck struct {
	What   string `json:"what"`
	Good   bool   `json:"good"`
	Detail string `json:"detail,omitempty"`
}

// check adds a result; said is what is wrong, or nothing.
func (r *integrityReport) check(what string, said []string) {
	c := integrityCheck{What: what, Good: len(said) == 0}
	for i, text := range said {
		if i > 0 {
			c.Detail += "; "
		}
		c.Detail += text
	}
	r.Intact = r.Intact && c.Good
	r.Checks = append(r.Checks, c)
}

// integrity verifies one unit now, from the bytes in both replicas to the proof in the log, and signs what it found.
func (s *Service) integrity(ctx context.Context, tenant string, id uuid.UUID) (*conservationv1.IntegrityReport, error) {
	var m member
	err := s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		rows, err := q.UnitsByID(ctx, db.UnitsByIDParams{TenantID: tenant, Ids: []uuid.UUID{id}})
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			return noUnit(unitName(tenant, id))
		}
		m.unit = rows[0]
		m.files, err = q.FilesOf(ctx, []uuid.UUID{id})
		return err
	})
	if err != nil {
		return nil, err
	}
	if m.unit.State == "DESTROYED" {
		return nil, fault.Precondition("UNIT_DESTROYED", "%s: %s", unitName(tenant, id), m.unit.Problem)
	}
	if m.unit.State == "REFUSED" {
		return nil, fault.Precondition("UNIT_REFUSED", "the unit was refused and never taken in charge: %s", m.unit.Problem)
	}
	at := pg.Time(s.now()).UTC()
	r := &integrityReport{
		Report: "integrity", Unit: unitName(tenant, id), Subject: m.unit.Subject, Taken: m.unit.CreatedAt.UTC(), Checked: at,
		Program: applicationName + " " + fmt.Sprint(layoutVersion), Intact: true,
	}
	for _, f := range m.files {
		r.Files = append(r.Files, integrityFile{f.Role, f.FileName, hex.EncodeToString(f.Sha256), f.Size})
	}
	if m.unit.State == "PRESERVED" {
		err = s.sealedIntegrity(ctx, r, m)
	} else {
		r.Notes = append(r.Notes, "the document is in no sealed package yet: index, signature and time stamp come with it")
		err = s.intakeIntegrity(ctx, r, m)
	}
	if err == nil {
		err = s.leafIntegrity(ctx, r, m)
	}
	if err != nil {
		return nil, err
	}
	return s.sealReport(ctx, tenant, r)
}

// sealReport gives the report in its three forms.
func (s *Service) sealReport(ctx context.Context, tenant string, r *integrityReport) (*conservationv1.IntegrityReport, error) {
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("conservation: integrity report: %w", err)
	}
	request, err := pg.NewID()
	if err != nil {
		return nil, err
	}
	p7m, err := s.signContent(ctx, tenant, r.Unit, mimeJSON, request, content)
	if err != nil {
		return nil, err
	}
	var page bytes.Buffer
	err = r.page().HTML(&page, render.Options{})
	if err != nil {
		return nil, fmt.Errorf("conservation: integrity report: %w", err)
	}
	return &conservationv1.IntegrityReport{Intact: r.Intact, Content: content, Page: page.Bytes(), Signed: p7m, CheckTime: timestamppb.New(r.Checked)}, nil
}

func (r *integrityReport) page() *render.Page {
	verdict := "Integro"
	if !r.Intact {
		verdict = "NON integro"
	}
	part := render.Part{Title: "Verifica di integrità", Sections: []render.Section{{Fields: []render.Field{
		{Name: "Esito", Value: verdict, Chief: true}, {Name: "Unità documentaria", Value: r.Unit}, {Name: "Documento", Value: r.Subject},
		{Name: "Presa in carico", Value: r.Taken.Format(time.RFC3339)}, {Name: "Pacchetto di archiviazione", Value: r.Package}, {Name: "Verificato il", Value: r.Checked.Format(time.RFC3339)},
	}}}}
	files := render.Section{Heading: "File"}
	for _, f := range r.Files {
		files.Fields = append(files.Fields, render.Field{Name: f.FileName, Value: f.SHA256})
	}
	done := render.Section{Heading: "Verifiche"}
	for _, c := range r.Checks {
		value := "bene"
		if !c.Good {
			value = "MALE: " + c.Detail
		}
		done.Fields = append(done.Fields, render.Field{Name: c.What, Value: value})
	}
	done.Lines = r.Notes
	part.Sections = append(part.Sections, files, done)
	return &render.Page{
		Title: "Rapporto di integrità", Heading: "Rapporto di integrità", Date: r.Checked.Format(time.DateOnly), Parts: []render.Part{part},
		Notes: []string{"Fa fede il rapporto firmato (JSON, CAdES); questa pagina ne è la copia leggibile."},
	}
}

// sealedIntegrity looks at the package that holds the unit: in each replica the whole package, the unit's files in it and the
// signed index; then the index, its signature, its time stamp and the package's proof.
func (s *Service) sealedIntegrity(ctx context.Context, r *integrityReport, m member) error {
	p, err := s.pack(ctx, m.unit.TenantID, SealArgs{Tenant: m.unit.TenantID, Package: *m.unit.PackageID})
	if err != nil {
		return err
	}
	r.Package = packageName(p.TenantID, p.ID)
	j := &judge{s: s, p: p, kept: map[string][]byte{}}
	if p.ObjectID == nil || s.replicas == nil {
		r.Notes = append(r.Notes, "no replicas are configured: the package rests on the platform's store alone")
		err = s.storedIntegrity(ctx, r, j, m)
	} else {
		err = s.replicatedIntegrity(ctx, r, j, m)
	}
	if err != nil {
		return err
	}
	gather := func(what string, look func()) {
		var said []string
		j.bad = func(format string, a ...any) { said = append(said, fmt.Sprintf(format, a...)) }
		look()
		r.check(what, said)
	}
	gather("the index names the files of the document", func() { j.member(m) })
	gather("the index is signed", j.signature)
	if s.credentialRoots == nil {
		r.Notes = append(r.Notes, unjudgedSigner)
	}
	gather("the signed index bears the time stamp of a trusted authority", j.stamp)
	if s.book == nil {
		return nil
	}
	gather("the log proves the package", func() { err = j.leaf(ctx) })
	return err
}

// replicatedIntegrity reads the package whole from each replica; the first good one is judged further.
func (s *Service) replicatedIntegrity(ctx context.Context, r *integrityReport, j *judge, m member) error {
	o, err := s.object(ctx, j.p.TenantID, *j.p.ObjectID)
	if err != nil {
		return err
	}
	j.o = o
	said := make([][]string, len(s.replicas.all))
	errs := make([]error, len(s.replicas.all))
	var all sync.WaitGroup
	var turn sync.Mutex // the judge looks at one copy after the other, and both are read side by side
	for i, x := range s.replicas.all {
		all.Go(func() {
			said[i], errs[i] = s.replicaIntegrity(ctx, o, x, func(f *os.File) []string {
				turn.Lock()
				defer turn.Unlock()
				return j.open(f, o.Size, m)
			})
		})
	}
	all.Wait()
	err = errors.Join(errs...)
	if err != nil {
		return err
	}
	for i, x := range s.replicas.all {
		r.check("the package and the files of the document in the "+x.name+" replica", said[i])
	}
	if !bytes.Equal(o.Sha256, j.p.ArchiveSha256) {
		r.check("the row of the package names its object", []string{"it has another SHA-256"})
	}
	return nil
}

// replicaIntegrity reads an object from a replica. What is wrong with it is said; a damaged copy is noted, so that it is mended.
func (s *Service) replicaIntegrity(ctx context.Context, o db.ArchiveObject, x *replica, look func(*os.File) []string) ([]string, error) {
	file, err := s.replicas.fetch(ctx, o, x)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if vault.Damaged(err) {
			_ = s.replicas.doubt(ctx, o, x, err)
		}
		return []string{fault.Of(err).Message}, nil
	}
	defer drop(file)
	return look(file), nil
}

// open reads the index and the unit's files from a package's ZIP.
func (j *judge) open(file io.ReaderAt, size int64, m member) (said []string) {
	z, err := zip.NewReader(file, size)
	if err != nil {
		return []string{fmt.Sprintf("no readable ZIP: %v", err)}
	}
	read := func(name string) []byte {
		f, err := z.Open(j.p.ID.String() + "/" + name)
		if err != nil {
			said = append(said, fmt.Sprintf("%s: %v", name, err))
			return nil
		}
		defer f.Close()
		raw, err := io.ReadAll(f)
		if err != nil {
			said = append(said, fmt.Sprintf("%s: %v", name, err))
		}
		return raw
	}
	for _, f := range m.files {
		if sum := sha256.Sum256(read("data/" + m.path(f))); !bytes.Equal(sum[:], f.Sha256) {
			said = append(said, fmt.Sprintf("%s does not have the SHA-256 with which it was taken in", f.FileName))
		}
	}
	files := []string{indexFile, signedFile, stampFile}
	for _, f := range z.File {
		if name, ok := strings.CutPrefix(f.Name, j.p.ID.String()+"/"); ok && strings.HasPrefix(name, revocationDir) {
			files = append(files, name)
		}
	}
	for _, name := range files {
		raw := read(name)
		if j.kept[name] == nil {
			j.kept[name] = raw
		} else if !bytes.Equal(j.kept[name], raw) {
			said = append(said, name+" differs between the replicas")
		}
	}
	return said
}

// storedIntegrity is replicatedIntegrity where the platform's store holds the one copy.
func (s *Service) storedIntegrity(ctx context.Context, r *integrityReport, j *judge, m member) error {
	raw, err := s.blobs.Get(ctx, refOf(j.p.TenantID, j.p.ArchiveSha256, j.p.ArchiveSize))
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.check("the package and the files of the document in the platform's store", []string{fault.Of(err).Message})
		return nil
	}
	j.o = db.ArchiveObject{Sha256: j.p.ArchiveSha256}
	r.check("the package and the files of the document in the platform's store", j.open(bytes.NewReader(raw), int64(len(raw)), m))
	return nil
}

// member wants exactly the unit's files in the index.
func (j *judge) member(m member) {
	want, got := m.group(), sincro.FileGroup{}
	ix, err := sincro.ReadOne(j.kept[indexFile], want.ID.Value, func(g sincro.FileGroup) error {
		if g.ID.Value == want.ID.Value {
			got = g
		}
		return nil
	})
	if err != nil {
		j.bad("no readable index: %v", err)
		return
	}
	list := func(g sincro.FileGroup) (out []string) {
		for _, f := range g.Files {
			out = append(out, f.Path+" "+f.Hash.Value)
		}
		if g.Metadata != nil {
			out = append(out, g.Metadata.Path+" "+g.Metadata.Hash.Value)
		}
		return out
	}
	switch {
	case ix.Volume.ID.Value != j.p.ID.String():
		j.bad("the index is of package %s", ix.Volume.ID.Value)
	case !slices.Equal(list(want), list(got)):
		j.bad("the index names other files than those that were taken in")
	}
}

// intakeIntegrity looks at what was taken in, before there is a package.
func (s *Service) intakeIntegrity(ctx context.Context, r *integrityReport, m member) error {
	if s.replicas == nil || m.files[0].ObjectID == nil {
		var said []string
		c := cabinet{s: s}
		for _, f := range m.files {
			_, err := c.file(ctx, f)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				said = append(said, f.FileName+": "+fault.Of(err).Message)
			}
		}
		r.check("the files of the document in the platform's store", said)
		return nil
	}
	objects := map[uuid.UUID][]db.UnitFile{}
	var order []uuid.UUID
	for _, f := range m.files {
		if objects[*f.ObjectID] == nil {
			order = append(order, *f.ObjectID)
		}
		objects[*f.ObjectID] = append(objects[*f.ObjectID], f)
	}
	for _, id := range order {
		o, err := s.object(ctx, m.unit.TenantID, id)
		if err != nil {
			return err
		}
		for _, x := range s.replicas.all {
			said, err := s.replicaIntegrity(ctx, o, x, func(file *os.File) (said []string) {
				for _, f := range objects[id] {
					h := sha256.New()
					_, err := io.Copy(h, io.NewSectionReader(file, *f.ObjectOffset, f.Size))
					if err != nil || !bytes.Equal(h.Sum(nil), f.Sha256) {
						said = append(said, fmt.Sprintf("%s does not have the SHA-256 with which it was taken in", f.FileName))
					}
				}
				return said
			})
			if err != nil {
				return err
			}
			r.check("the files of the document in the "+x.name+" replica", said)
		}
	}
	return nil
}

// leafIntegrity wants the unit in the log, with these files, proven against the last checkpoint.
func (s *Service) leafIntegrity(ctx context.Context, r *integrityReport, m member) error {
	if s.book == nil {
		r.Notes = append(r.Notes, "no log of evidence is kept here")
		return nil
	}
	const what = "the log proves that the document was taken in charge with these files"
	receipt, err := evidence{s: s}.receipt(ctx, m.unit.TenantID, r.Unit, m.unit.ID, 0, true, func(context.Context, *db.Queries) error { return nil })
	switch {
	case err != nil && (ctx.Err() != nil || fault.Of(err).Code == "RECEIPT_NOT_READY" || fault.Of(err).Kind == fault.KindUnavailable):
		return err
	case err != nil:
		r.check(what, []string{fault.Of(err).Message})
		return nil
	}
	var said []string
	proof, err := tlog.ParseReceipt(receipt.GetReceipt())
	if err == nil {
		var leaf *tlog.Leaf
		leaf, err = tlog.ParseLeaf(proof.Entry)
		if err == nil && !leafNames(leaf, m) {
			err = errors.New("the log states other files")
		}
	}
	if err != nil {
		said = append(said, err.Error())
	}
	r.check(what, said)
	return nil
}

func leafNames(leaf *tlog.Leaf, m member) bool {
	files := make([][sha256.Size]byte, len(m.files))
	for i, f := range m.files {
		files[i] = [sha256.Size]byte(f.Sha256)
	}
	objects, note := custody.UnitObjects(m.unit.ID.String(), files)
	return slices.Equal(objects, leaf.Objects) && note == leaf.Note
}
