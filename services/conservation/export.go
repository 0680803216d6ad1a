package conservation

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
)

// What an export holds. It is a BagIt bag in a folder: its manifest has a signature and a time stamp beside it, so that who has the
// folder can check it whole. spec: RFC8493
const (
	exportManifest = "manifest-sha256.txt"
	exportTags     = "tagmanifest-sha256.txt"
	exportSigned   = exportManifest + ".p7m"
	exportStamp    = exportSigned + ".tsr"
	exportUnits    = "data/units.jsonl"
	exportLogKey   = "data/log.key"
	exportPoint    = "data/checkpoint"
	exportLeaves   = "data/log/leaves.jsonl"
	exportLast     = "data/log/last.tlog-proof"
	exportReadme   = "LEGGIMI.txt"
)

const exportText = `Esportazione completa di quanto l'archivio conserva.
Full export of what the archive preserves.

data/packages/     pacchetti di archiviazione sigillati, come sono / sealed packages, as they are
data/receipts/     per pacchetto, le prove del registro / per package, the proofs of the log
data/waiting/      documenti presi in carico e non ancora in un pacchetto / documents that wait for their package
data/rdv/          rapporti di versamento / reports of deposits and of what came by event
data/disposals/    rapporti di scarto / reports of destructions
data/units.jsonl   indice di tutti i documenti / index of all documents
data/log/          ogni foglia del registro, la prova dell'ultima, e che il registro è solo cresciuto / every leaf of the log, the proof of the last, and that the log only grew
data/log.key       chiave pubblica del registro: confrontatela con quella che avete / compare it with the one you hold

  ceralacca conserve verify CARTELLA
  sha256sum -c manifest-sha256.txt
  openssl cms -verify -binary -inform DER -in manifest-sha256.txt.p7m -CAfile radici.pem -purpose any -out manifest
  openssl ts -verify -in manifest-sha256.txt.p7m.tsr -data manifest-sha256.txt.p7m -CAfile radici.pem
`

// exportSpace makes ids from the export's, so that a repeat signs the same.
var exportSpace = uuid.MustParse("0d6a9f62-51f5-4a3e-8b8b-3f0b6a0c2d91")

// exportArgs asks for the building of an export.
type exportArgs struct {
	Tenant string    `json:"tenant"`
	Export uuid.UUID `json:"export"`
}

// Kind names the job.
func (exportArgs) Kind() string { return "export" }

func exportName(tenant string, id uuid.UUID) string {
	return "tenants/" + tenant + "/exports/" + id.String()
}

func (s *Service) export(ctx context.Context, tenant string, id uuid.UUID) (db.Export, error) {
	var row db.Export
	err := s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		row, err = db.New(tx).GetExport(ctx, db.GetExportParams{TenantID: tenant, ID: id})
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return row, fault.NotFound("EXPORT_NOT_FOUND", "there is no export %s", exportName(tenant, id))
	}
	return row, err
}

// buildExport is the job. Every file that is done stays done: a round that is cut off by its time or by a crash is gone on with.
func (s *Service) buildExport(ctx context.Context, job *river.Job[exportArgs]) error {
	row, err := s.export(ctx, job.Args.Tenant, job.Args.Export)
	if err != nil || row.State != "BUILDING" {
		return err
	}
	b := &exporter{s: s, row: row, done: map[string]bool{}, sizes: map[int64]bool{}, until: s.now().Add(roundTime)}
	err = b.build(ctx)
	if err == nil || ctx.Err() != nil {
		return err
	}
	f, state := fault.Of(err), "BUILDING"
	wait := f.Kind == fault.KindUnavailable || f.Kind == fault.KindExhausted || f.Kind == fault.KindPrecondition || f.Kind == fault.KindAborted
	if !wait && fault.Permanent(err) {
		state = "FAILED"
	}
	noted := s.db.Tx(ctx, row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		return db.New(tx).SetExportTrouble(ctx, db.SetExportTroubleParams{ID: row.ID, State: state, LastError: f.Error()})
	})
	switch {
	case noted != nil:
		return noted
	case state == "FAILED":
		return nil
	case wait:
		pause := time.Second
		if cannotSign(err) {
			pause = credentialPause
		}
		return river.JobSnooze(max(pause, f.RetryAfter))
	}
	return err
}

// exporter builds one export.
type exporter struct {
	s     *Service
	row   db.Export
	done  map[string]bool // files of earlier rounds
	sizes map[int64]bool  // at which the files show the log
	until time.Time
}

// errRoundOver: the time of a round is over; the next one goes on.
var errRoundOver = fault.Unavailable("EXPORT_GOES_ON", "the time of a round is over: it is gone on with")

func (b *exporter) build(ctx context.Context) error {
	err := b.files(ctx, func(f db.ExportFile) error { b.done[f.Path] = true; return nil })
	if err != nil {
		return err
	}
	for _, id := range b.row.Packages {
		if b.s.now().After(b.until) {
			return errRoundOver
		}
		err = b.pack(ctx, id)
		if err != nil {
			return fmt.Errorf("package %s: %w", id, err)
		}
	}
	parts := []func(context.Context) error{b.waiting, b.units, b.reports, b.log, b.seal}
	if b.done[exportManifest] { // it is being signed: nothing joins it any more, and each attempt signs the same
		parts = []func(context.Context) error{b.seal}
	}
	for _, part := range parts {
		err = part(ctx)
		if err != nil {
			return err
		}
	}
	at := pg.Time(b.s.now())
	return b.s.db.Tx(ctx, b.row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		_, err := db.New(tx).SetExportReady(ctx, db.SetExportReadyParams{ID: b.row.ID, At: &at})
		return err
	})
}

// files gives those that are listed, in the order of their paths.
func (b *exporter) files(ctx context.Context, visit func(db.ExportFile) error) error {
	for after := ""; ; {
		var page []db.ExportFile
		err := b.s.db.Tx(ctx, b.row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
			var err error
			page, err = db.New(tx).ExportFiles(ctx, db.ExportFilesParams{Export: b.row.ID, After: after, Page: completePage})
			return err
		})
		for i := 0; err == nil && i < len(page); i++ {
			err = visit(page[i])
		}
		if err != nil || len(page) < completePage {
			return err
		}
		after = page[len(page)-1].Path
	}
}

func (b *exporter) add(ctx context.Context, p db.AddExportFileParams) error {
	p.Export, p.TenantID = b.row.ID, b.row.TenantID
	b.done[p.Path] = true
	return b.s.db.Tx(ctx, b.row.TenantID, func(ctx context.Context, tx pgx.Tx) error { return db.New(tx).AddExportFile(ctx, p) })
}

// object lists an object of the archive: it is read from the replicas when it is downloaded.
func (b *exporter) object(ctx context.Context, path string, id uuid.UUID) error {
	if b.done[path] {
		return nil
	}
	o, err := b.s.object(ctx, b.row.TenantID, id)
	if err != nil {
		return err
	}
	return b.add(ctx, db.AddExportFileParams{Path: path, Sha256: o.Sha256, Size: o.Size, Object: &id})
}

// content keeps what is made for the export in the platform's store.
func (b *exporter) content(ctx context.Context, path string, raw []byte) error {
	ref, err := b.s.blobs.Put(ctx, b.row.TenantID, raw)
	if err != nil {
		return err
	}
	return b.add(ctx, db.AddExportFileParams{Path: path, Sha256: ref.SHA256[:], Size: ref.Size})
}

// pack lists a package as it is, and the proofs of it and of its units.
func (b *exporter) pack(ctx context.Context, id uuid.UUID) error {
	path := "data/packages/" + id.String() + ".zip"
	if !b.done[path] {
		p, err := b.s.pack(ctx, b.row.TenantID, SealArgs{Tenant: b.row.TenantID, Package: id})
		if err != nil {
			return err
		}
		if p.ObjectID != nil && b.s.replicas != nil {
			err = b.object(ctx, path, *p.ObjectID)
		} else {
			err = b.add(ctx, db.AddExportFileParams{Path: path, Sha256: p.ArchiveSha256, Size: *p.ArchiveSize})
		}
		if err != nil {
			return err
		}
	}
	proofs := "data/receipts/" + id.String() + ".zip"
	if b.s.book == nil || b.done[proofs] {
		return nil
	}
	raw, err := b.proofs(ctx, id)
	if err != nil {
		return err
	}
	return b.content(ctx, proofs, raw)
}

// proofs are the receipts of a package and of its units, one file each.
func (b *exporter) proofs(ctx context.Context, id uuid.UUID) ([]byte, error) {
	p, err := b.s.pack(ctx, b.row.TenantID, SealArgs{Tenant: b.row.TenantID, Package: id})
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	put := func(name string, subject uuid.UUID) error {
		r, err := evidence{s: b.s}.receipt(ctx, b.row.TenantID, "", subject, 0, false, func(context.Context, *db.Queries) error { return nil })
		if err != nil {
			return err
		}
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: b.row.AskedAt.UTC().Truncate(time.Second)})
		if err == nil {
			_, err = w.Write(r.GetReceipt())
		}
		return err
	}
	err = put("package.tlog-proof", id)
	for m, memberErr := range b.s.members(ctx, p) {
		if err == nil {
			err = memberErr
		}
		if err == nil {
			err = put("units/"+m.unit.ID.String()+".tlog-proof", m.unit.ID)
		}
		if err != nil {
			return nil, err
		}
	}
	if err == nil {
		err = z.Close()
	}
	return out.Bytes(), err
}

// waiting writes documents that no sealed package holds, a ZIP for every hundred, with their list.
func (b *exporter) waiting(ctx context.Context) error {
	for n, part := range enumerate(slices.Chunk(b.row.Waiting, 100)) {
		path := fmt.Sprintf("data/waiting/%04d.zip", n+1)
		if b.done[path] {
			continue
		}
		var out, list bytes.Buffer
		z, c := zip.NewWriter(&out), cabinet{s: b.s}
		stories, err := b.s.stories(ctx, b.row.TenantID, part)
		if err != nil {
			return err
		}
		for _, st := range stories {
			for _, f := range st.files {
				raw, err := c.file(ctx, f)
				if err != nil {
					return err
				}
				name := fmt.Sprintf("%s/%02d%s", st.unit.ID, f.Ordinal, extension(f.FileName))
				w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: b.row.AskedAt.UTC().Truncate(time.Second)})
				if err == nil {
					_, err = w.Write(raw)
				}
				if err != nil {
					return err
				}
			}
			err = writeLine(&list, recordOf(st.unit, st.facts, st.files))
			if err != nil {
				return err
			}
		}
		w, err := z.Create(intakeList)
		if err == nil {
			_, err = w.Write(list.Bytes())
		}
		if err == nil {
			err = z.Close()
		}
		if err == nil {
			err = b.content(ctx, path, out.Bytes())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func enumerate[T any](seq func(func(T) bool)) func(func(int, T) bool) {
	return func(yield func(int, T) bool) {
		n := 0
		for v := range seq {
			if !yield(n, v) {
				return
			}
			n++
		}
	}
}

func writeLine(out *bytes.Buffer, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("conservation: export: %w", err)
	}
	out.Write(raw)
	out.WriteByte('\n')
	return nil
}

// units writes the index of everything: a line for each unit, with the package that holds it.
func (b *exporter) units(ctx context.Context) error {
	if b.done[exportUnits] {
		return nil
	}
	read, write := io.Pipe()
	go func() { write.CloseWithError(b.writeUnits(ctx, write)) }()
	ref, err := b.s.blobs.PutReader(ctx, b.row.TenantID, read)
	_ = read.Close() // ends the writer when the store gave up first
	if err != nil {
		return err
	}
	return b.add(ctx, db.AddExportFileParams{Path: exportUnits, Sha256: ref.SHA256[:], Size: ref.Size})
}

func (b *exporter) writeUnits(ctx context.Context, to io.Writer) error {
	line := func(m member, pkg *uuid.UUID) error {
		var f facts
		err := json.Unmarshal(m.unit.Facts, &f)
		if err != nil {
			return fmt.Errorf("conservation: facts of unit %s: %w", m.unit.ID, err)
		}
		var out bytes.Buffer
		err = writeLine(&out, struct {
			Package *uuid.UUID `json:"package,omitempty"`
			record
		}{pkg, recordOf(m.unit, f, m.files)})
		if err == nil {
			_, err = to.Write(out.Bytes())
		}
		return err
	}
	for _, id := range b.row.Packages {
		p, err := b.s.pack(ctx, b.row.TenantID, SealArgs{Tenant: b.row.TenantID, Package: id})
		if err != nil {
			return err
		}
		for m, err := range b.s.members(ctx, p) {
			if err == nil {
				err = line(m, &p.ID)
			}
			if err != nil {
				return err
			}
		}
	}
	for part := range slices.Chunk(b.row.Waiting, searchPage) {
		list, err := b.s.stories(ctx, b.row.TenantID, part)
		if err != nil {
			return err
		}
		for _, st := range list {
			err = line(st.member, nil)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// reports lists what was signed about deposits and destructions.
func (b *exporter) reports(ctx context.Context) error {
	var deposits []db.ReportedDepositsRow
	var submissions []db.ReportedSubmissionsRow
	var disposals []db.ReportedDisposalsRow
	err := b.s.db.Tx(ctx, b.row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		var err error
		deposits, err = q.ReportedDeposits(ctx, b.row.TenantID)
		if err == nil {
			submissions, err = q.ReportedSubmissions(ctx, b.row.TenantID)
		}
		if err == nil {
			disposals, err = q.ReportedDisposals(ctx, b.row.TenantID)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, r := range submissions {
		deposits = append(deposits, db.ReportedDepositsRow(r))
	}
	for _, d := range deposits {
		err = b.provenInReport(d.Report)
		if err != nil {
			return err
		}
		for _, f := range []struct {
			path string
			id   *uuid.UUID
			raw  []byte
		}{{"data/rdv/" + d.ID.String() + ".xml.p7m", d.ReportID, d.Report}, {"data/rdv/" + d.ID.String() + ".xml.p7m.tsr", d.StampID, d.Stamp}} {
			if f.id != nil && b.s.replicas != nil {
				err = b.object(ctx, f.path, *f.id)
			} else {
				err = b.content(ctx, f.path, f.raw)
			}
			if err != nil {
				return err
			}
		}
	}
	for _, d := range disposals {
		err = b.object(ctx, "data/disposals/"+d.ID.String()+".json.p7m", *d.ReportID)
		if err == nil {
			err = b.statement(ctx, d.ID, *d.ReportID)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// log writes what proves by itself what the log stated last.
func (b *exporter) log(ctx context.Context) error {
	if b.s.book == nil {
		return nil
	}
	keys := []string{b.s.book.signer.String()}
	keys = append(keys, b.s.cfg.Log.FormerKeys...)
	err := b.content(ctx, exportLogKey, []byte(strings.Join(keys, "\n")+"\n"))
	if err != nil {
		return err
	}
	var points []db.LogCheckpoint
	err = b.s.db.Tx(ctx, b.row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		point, err := q.LastCheckpoint(ctx)
		if err != nil {
			return err
		}
		points = []db.LogCheckpoint{point}
		_, err = cosigned(ctx, q, points)
		return err
	})
	if err != nil {
		return err
	}
	err = b.content(ctx, exportPoint, points[0].Note)
	if err != nil {
		return err
	}
	err = b.leaves(ctx, points[0])
	if err != nil {
		return err
	}
	return b.growth(ctx, points[0])
}

// leaves lists every leaf of the tenant, a line each as it stands in the log, and proves the last one: each names the one before, so that none
// can be left out, and no package or document with it.
func (b *exporter) leaves(ctx context.Context, point db.LogCheckpoint) error {
	var last *db.LogLeaf
	read, write := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		write.CloseWithError(b.writeLeaves(ctx, write, point.Size, &last))
	}()
	ref, err := b.s.blobs.PutReader(ctx, b.row.TenantID, read)
	_ = read.Close() // ends the writer when the store gave up first
	<-done
	if err != nil || last == nil {
		return err
	}
	err = b.add(ctx, db.AddExportFileParams{Path: exportLeaves, Sha256: ref.SHA256[:], Size: ref.Size})
	if err != nil {
		return err
	}
	var proof []byte
	err = b.s.db.Tx(ctx, b.row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		point, err := db.New(tx).CheckpointAt(ctx, point.Size)
		if err != nil {
			return err
		}
		r, err := evidence{s: b.s}.prove(ctx, db.New(tx), "", *last, point)
		proof = r.GetReceipt()
		return err
	})
	if err != nil {
		return err
	}
	return b.content(ctx, exportLast, proof)
}

func (b *exporter) writeLeaves(ctx context.Context, to io.Writer, size int64, last **db.LogLeaf) error {
	for after := int64(0); ; {
		var page []db.ChainOfRow
		err := b.s.db.Tx(ctx, b.row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
			var err error
			page, err = db.New(tx).ChainOf(ctx, db.ChainOfParams{TenantID: b.row.TenantID, After: after, Last: math.MaxInt64, Size: size, Page: completePage})
			return err
		})
		for i := 0; err == nil && i < len(page); i++ {
			l := page[i]
			*last = &db.LogLeaf{Idx: l.Idx, TenantID: l.TenantID, Sequence: l.Sequence, SubjectID: l.SubjectID, Revision: l.Revision, Entry: l.Entry, SettledAt: l.SettledAt}
			after = l.Sequence
			_, err = to.Write(append(slices.Clone(l.Entry), '\n'))
		}
		if err != nil || len(page) < completePage {
			return err
		}
	}
}

// seal writes the manifests, signs and stamps the one of the payload.
func (b *exporter) seal(ctx context.Context) error {
	var manifest, tags bytes.Buffer
	var size int64
	count := 0
	err := b.files(ctx, func(f db.ExportFile) error {
		if strings.HasPrefix(f.Path, "data/") {
			fmt.Fprintf(&manifest, "%s  %s\n", hex.EncodeToString(f.Sha256), f.Path)
			size, count = size+f.Size, count+1
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = b.content(ctx, exportManifest, manifest.Bytes())
	if err != nil {
		return err
	}
	request := uuid.NewSHA1(exportSpace, slices.Concat(b.row.ID[:], manifest.Bytes()))
	p7m, err := b.s.signContent(ctx, b.row.TenantID, exportName(b.row.TenantID, b.row.ID), "text/plain", request, manifest.Bytes())
	if err != nil {
		return err
	}
	digest := sha256Of(p7m)
	tsr, _, err := b.s.stampDigest(ctx, digest)
	if err != nil {
		return err
	}
	info := fmt.Sprintf("Bagging-Date: %s\nExternal-Identifier: urn:uuid:%s\nPayload-Oxum: %d.%d\n", b.row.AskedAt.UTC().Format(time.DateOnly), b.row.ID, size, count)
	for _, f := range []struct {
		path string
		raw  []byte
	}{
		{exportReadme, []byte(exportText)}, {"bag-info.txt", []byte(info)}, {"bagit.txt", []byte(bagDeclaration)},
		{exportManifest, manifest.Bytes()}, {exportSigned, p7m}, {exportStamp, tsr},
	} {
		fmt.Fprintf(&tags, "%s  %s\n", hex.EncodeToString(sha256Of(f.raw)), f.path)
		err = b.content(ctx, f.path, f.raw)
		if err != nil {
			return err
		}
	}
	return b.content(ctx, exportTags, tags.Bytes())
}
