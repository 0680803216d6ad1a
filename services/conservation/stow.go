package conservation

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/internal/pg"
)

// An intake object holds what one transaction took into custody from one tenant: one ZIP, nothing compressed,
// with the files of all its units and a list of the units, units.jsonl, from which their rows can be made
// again. Many units cost one write in each replica.
const (
	intakeList  = "units.jsonl"
	intakeFull  = 8 << 20 // bytes at which a further one is begun
	entryRoom   = 1024    // more than an entry of the ZIP adds to its content, and its line in the directory
	intakeYears = 2       // that an administrator alone can end, see object.lock
)

// record is a unit as units.jsonl has it, one in a line: in intake objects, and in packages.
type record struct {
	Unit       uuid.UUID    `json:"unit"`
	Tenant     string       `json:"tenant"`
	Key        string       `json:"key"`
	Subject    string       `json:"subject"`
	Class      string       `json:"class"`
	Year       int32        `json:"fiscal_year"`
	Integrates *uuid.UUID   `json:"integrates,omitempty"`
	Taken      time.Time    `json:"taken"`
	Facts      facts        `json:"facts"`
	Files      []recordFile `json:"files"`
}

type recordFile struct {
	Role        string     `json:"role"`
	ReceiptType string     `json:"receipt_type,omitempty"`
	FileName    string     `json:"file_name"`
	MediaType   string     `json:"media_type,omitempty"`
	SHA256      string     `json:"sha256"`
	Size        int64      `json:"size"`
	Object      *uuid.UUID `json:"object,omitempty"`
	Offset      *int64     `json:"offset,omitempty"`
}

func recordOf(u db.Unit, f facts, files []db.UnitFile) record {
	r := record{
		Unit: u.ID, Tenant: u.TenantID, Key: u.UnitKey, Subject: u.Subject, Class: u.Class, Year: u.FiscalYear,
		Integrates: u.Integrates, Taken: u.CreatedAt.UTC(), Facts: f,
	}
	for _, x := range files {
		r.Files = append(r.Files, recordFile{
			x.Role, x.ReceiptType, x.FileName, x.MediaType, hex.EncodeToString(x.Sha256), x.Size, x.ObjectID, x.ObjectOffset,
		})
	}
	return r
}

// unplaced is the record without where its files lie.
func (r record) unplaced() record {
	files := slices.Clone(r.Files)
	for i := range files {
		files[i].Object, files[i].Offset = nil, nil
	}
	r.Files = files
	return r
}

// placedAs is the record with its files where former has them: a package tells nothing of it, or where they were when it was sealed.
func (r record) placedAs(former record) record {
	files := slices.Clone(r.Files)
	for i, f := range files {
		for _, was := range former.Files {
			if was.Object != nil && was.Role == f.Role && was.ReceiptType == f.ReceiptType && was.FileName == f.FileName && was.SHA256 == f.SHA256 {
				files[i].Object, files[i].Offset = was.Object, was.Offset
			}
		}
	}
	r.Files = files
	return r
}

// satchel gathers what a transaction takes in from one tenant. Without replicas it holds nothing.
type satchel struct {
	r      *replicas
	tenant string
	ctx    context.Context //nolint:containedctx // of the transaction: the writes that it waits for
	wait   func(func() error)

	id   uuid.UUID // of the object in hand
	to   *object   // its places are decided when it is begun
	buf  bytes.Buffer
	zip  *zip.Writer
	list bytes.Buffer
	full []*object // begun to be written
}

// begin starts an object.
func (b *satchel) begin() error {
	id, err := pg.NewID()
	if err != nil {
		return err
	}
	b.id, b.buf, b.zip = id, bytes.Buffer{}, nil
	b.zip = zip.NewWriter(&b.buf)
	b.list.Reset()
	return nil
}

// add puts a file into the object in hand and notes in f where it is.
func (b *satchel) add(unit uuid.UUID, f *db.UnitFile, content []byte) error {
	if b.r == nil {
		return nil
	}
	if b.zip == nil {
		err := b.begin()
		if err != nil {
			return err
		}
	}
	b.buf.Grow(len(content) + entryRoom) // else a large file is copied while the buffer doubles
	offset, err := b.entry(fmt.Sprintf("%s/%02d_%s_%s", unit, f.Ordinal, f.Role, hex.EncodeToString(f.Sha256[:4])), content)
	if err != nil {
		return err
	}
	id := b.id
	f.ObjectID, f.ObjectOffset = &id, &offset
	return nil
}

// entry writes an entry of the ZIP and tells where its bytes begin.
func (b *satchel) entry(name string, content []byte) (int64, error) {
	w, err := b.zip.CreateRaw(&zip.FileHeader{
		Name: name, Method: zip.Store, CRC32: crc32.ChecksumIEEE(content),
		CompressedSize64: uint64(len(content)), UncompressedSize64: uint64(len(content)),
	})
	if err == nil {
		err = b.zip.Flush()
	}
	offset := int64(b.buf.Len())
	if err == nil {
		_, err = w.Write(content)
	}
	if err == nil {
		err = b.zip.Flush()
	}
	if err != nil {
		return 0, fmt.Errorf("conservation: intake object: %w", err)
	}
	return offset, nil
}

// note lists a unit that the transaction wrote.
func (b *satchel) note(r record) error {
	if b.zip == nil {
		return nil
	}
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("conservation: intake object: %w", err)
	}
	b.list.Write(line)
	b.list.WriteByte('\n')
	return nil
}

// isFull says that the object in hand should be closed before the next unit.
func (b *satchel) isFull() bool { return b.zip != nil && b.buf.Len() >= intakeFull }

// close begins to write the object in hand; the transaction waits for the end of it before it commits, and the eraser for the end of
// the transaction: until then nobody can tell the object from what a failed attempt left.
func (b *satchel) close(ctx context.Context, tx pgx.Tx) error {
	if b.zip == nil {
		return nil
	}
	if b.list.Len() == 0 { // nothing of it was new
		b.zip = nil
		return nil
	}
	_, err := b.entry(intakeList, b.list.Bytes())
	if err == nil {
		err = b.zip.Close()
	}
	if err != nil {
		return fmt.Errorf("conservation: intake object: %w", err)
	}
	raw, now := b.buf.Bytes(), b.r.now().UTC()
	b.buf = bytes.Buffer{} // the next object begins with bytes of its own: these are being written
	o := &object{
		id: b.id, kind: kindIntake, retain: now.AddDate(intakeYears, 0, 0),
		Object: vault.Object{
			Key:  "tenants/" + b.tenant + "/intake/" + now.Format("2006-01-02") + "/" + b.id.String() + ".zip",
			Size: int64(len(raw)), SHA256: sha256.Sum256(raw),
		},
	}
	if b.to == nil { // the objects of one transaction have the same replicas
		b.to = &object{}
		b.r.place(b.to)
	}
	o.to = b.to.to
	for _, x := range o.to { // else each attempt would leave an object in the other replica that nobody knows
		if err = x.trouble(); err != nil {
			return err
		}
	}
	err = db.New(tx).BeginObject(ctx, b.tenant)
	if err != nil {
		return fmt.Errorf("conservation: intake object: %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- b.r.write(b.ctx, o, bytes.NewReader(raw)) }()
	b.wait(func() error { return <-done })
	b.full, b.zip = append(b.full, o), nil
	return nil
}

// copies is in how many replicas the units are when the transaction has committed; 0 without replicas.
func (b *satchel) copies() int32 {
	if b.r == nil {
		return 0
	}
	if b.to == nil {
		b.to = &object{}
		b.r.place(b.to)
	}
	return int32(len(b.to.to)) //nolint:gosec // two
}

// keep writes the rows of the objects.
func (b *satchel) keep(ctx context.Context, tx pgx.Tx) error {
	err := b.close(ctx, tx)
	if err != nil || len(b.full) == 0 {
		return err
	}
	return b.r.record(ctx, tx, b.tenant, b.full)
}

// cabinet reads the files of units from the archive's own objects. It keeps the bytes of the last few: the
// units of a package lie together as they came.
type cabinet struct {
	s     *Service
	held  map[uuid.UUID][]byte
	order []uuid.UUID
}

const cabinetSize = 4

// file gives the bytes of a file, which are those that were taken in or an error.
func (c *cabinet) file(ctx context.Context, f db.UnitFile) ([]byte, error) {
	raw, err := c.bytes(ctx, f)
	if err != nil {
		return nil, err
	}
	if sha256.Sum256(raw) != [32]byte(f.Sha256) {
		return nil, errCorruptFile(f)
	}
	return raw, nil
}

func (c *cabinet) bytes(ctx context.Context, f db.UnitFile) ([]byte, error) {
	switch {
	case f.ObjectID == nil && f.Content != nil:
		return f.Content, nil
	case f.ObjectID == nil:
		return c.s.blobs.Get(ctx, fileRef(f))
	case c.s.replicas == nil:
		return nil, errStorageOff()
	}
	whole, ok := c.held[*f.ObjectID]
	if !ok {
		o, err := c.s.object(ctx, f.TenantID, *f.ObjectID)
		if err != nil {
			return nil, err
		}
		whole, err = c.s.replicas.read(ctx, o)
		if err != nil {
			return nil, err
		}
		if c.held == nil {
			c.held = map[uuid.UUID][]byte{}
		}
		if len(c.order) == cabinetSize {
			delete(c.held, c.order[0])
			c.order = c.order[1:]
		}
		c.held[*f.ObjectID], c.order = whole, append(c.order, *f.ObjectID)
	}
	if *f.ObjectOffset < 0 || f.Size < 0 || *f.ObjectOffset > int64(len(whole))-f.Size {
		return nil, errCorruptFile(f)
	}
	return whole[*f.ObjectOffset : *f.ObjectOffset+f.Size], nil
}
