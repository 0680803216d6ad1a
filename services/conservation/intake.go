package conservation

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/telemetry"
)

// codeConflict: the archive holds other bytes under the same key. It replaces nothing: a person
// decides, with the parked event in hand.
const codeConflict = "UNIT_CONFLICT"

// intake is one unit about to be written.
type intake struct {
	tenant     string
	key        string
	subject    string
	class      string
	problem    string
	year       int32
	integrates *uuid.UUID
	facts      facts
	files      []db.UnitFile // document and receipts, without the metadata file
}

// takings gathers the units of one transaction: the bus hands over many events at a time, one statement
// writes them all, and one object in each replica holds their bytes.
type takings struct {
	arrivals []arrival
	bag      *satchel
}

type takingsKey struct{ s *Service }

// arrival is one unit in the story of its event.
type arrival struct {
	*intake
	id    uuid.UUID
	story context.Context //nolint:containedctx // of the event, for what follows from it
	known bool            // there was a unit of its key before: no row and no metadata are made for it
}

// intakeBytes are what one transaction reads of documents, and one more: all of it is in memory until it is in the replicas.
const intakeBytes = 32 << 20

func (s *Service) wireIntake(h *run.Host) {
	sizes := func(files ...*eventv1.Blob) (sum int64) {
		for _, f := range files {
			sum += f.GetSize()
		}
		return sum
	}
	bus.On(h.Bus, "intake", s.onInvoiceSettled, bus.Weighing(intakeBytes, func(ev *invoicev1.InvoiceSettled) int64 {
		sum := sizes(ev.GetTransmitted())
		for _, r := range ev.GetReceipts() {
			sum += sizes(r.GetContent())
		}
		return sum
	}))
	bus.On(h.Bus, "intake-received", s.onInboundInvoiceReceived, bus.Weighing(intakeBytes, func(ev *sdiv1.InboundInvoiceReceived) int64 {
		return sizes(ev.GetOriginal(), ev.GetMetadata())
	}))
	// The invoice is read too, of which SdI lets 5 MB pass, and the event does not say how large it is.
	bus.On(h.Bus, "intake-term-expired", s.onInboundTermExpired, bus.Weighing(intakeBytes, func(ev *sdiv1.InboundTermExpired) int64 { return 5<<20 + sizes(ev.GetContent()) }))
	bus.On(h.Bus, "intake-mail", s.onMessageHandedOver, bus.Weighing(intakeBytes, func(ev *pecv1.MessageHandedOver) int64 { return sizes(ev.GetContent()) }))
	bus.On(h.Bus, "intake-mail-day", s.onMailboxDayClosed, bus.Weighing(intakeBytes, func(ev *pecv1.MailboxDayClosed) int64 { return sizes(ev.GetRegister()) }))
}

// onInvoiceSettled takes a settled invoice into custody: its bytes are read back and hashed, its
// metadata file is written, and one row says so. The same event again, or another with the same
// bytes, changes nothing.
func (s *Service) onInvoiceSettled(ctx context.Context, tx pgx.Tx, ev *invoicev1.InvoiceSettled) error {
	in, err := readSettled(pg.Tenant(ctx), ev)
	if err != nil {
		return err
	}
	return s.gather(ctx, tx, in, in.look)
}

// gather reads the files of a unit and adds it to those that the transaction writes; describe, when given, says more of it from the
// bytes of its document. What is refused is not kept. What was destroyed is not read: its bytes may be gone, and are not wanted.
func (s *Service) gather(ctx context.Context, tx pgx.Tx, in *intake, describe func(document []byte)) error {
	id, err := in.unitID(ctx)
	if err != nil {
		return err
	}
	unit := pg.UnitOf(ctx, tx)
	if unit == nil {
		return fault.Internal("UNIT_WITHOUT_TRANSACTION", "units are taken in within the transaction of their events")
	}
	all, _ := unit.Value(takingsKey{s}, func() any {
		fresh := &takings{bag: &satchel{r: s.replicas, tenant: in.tenant, ctx: ctx, wait: unit.Join}}
		unit.Before(func(ctx context.Context, tx pgx.Tx) error { return s.write(ctx, tx, fresh) })
		return fresh
	}).(*takings)
	if all.bag.isFull() { // what is in hand is written down first, so that its list is its own
		err = s.write(ctx, tx, all)
		if err != nil {
			return err
		}
	}
	known, held, gone, err := in.known(ctx, tx)
	if err != nil || gone {
		return err
	}
	contents, err := s.readAll(ctx, in.files)
	if err != nil {
		return err
	}
	if describe != nil {
		describe(contents[0])
	}
	for i, f := range in.files {
		if in.problem != "" || known && held == nil || slices.ContainsFunc(held, func(h db.UnitFile) bool { return sameFile(h, f) }) {
			continue
		}
		err = all.bag.add(id, &in.files[i], contents[i])
		if err != nil {
			return err
		}
	}
	all.arrivals = append(all.arrivals, arrival{intake: in, id: id, story: ctx, known: known})
	return nil
}

// unitID is the id of the unit that an event makes: with the time of the event in it, and the same however often this event comes, since
// a database that was put back may have forgotten the first time. Nobody can guess it who does not know the event's own id.
func (in *intake) unitID(ctx context.Context) (uuid.UUID, error) {
	e := bus.Meta(ctx)
	if e.ID == "" || e.Time.IsZero() {
		return pg.NewID()
	}
	sum := sha256.Sum256([]byte("ceralacca unit\n" + e.ID + "\n" + in.tenant + "\n" + in.key + "\n"))
	id := uuid.UUID(sum[:16])
	ms := uint64(e.Time.UnixMilli()) //nolint:gosec // after 1970
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	id[6], id[8] = id[6]&0x0f|0x70, id[8]&0x3f|0x80 // spec: RFC9562 §5.7
	return id, nil
}

// known says whether there is a unit of this key already, and which files it and its integrations have: nil, if it was refused.
// What comes once more is not written once more: it would lie in an object of other documents, where no disposal of this one looks
// for it. gone: the document was destroyed, and the same event again does not bring it back.
func (in *intake) known(ctx context.Context, tx pgx.Tx) (known bool, held []db.UnitFile, gone bool, err error) {
	q := db.New(tx)
	old, err := q.FateOfKey(ctx, db.FateOfKeyParams{TenantID: in.tenant, UnitKey: in.key})
	switch {
	case err != nil:
		return false, nil, false, fmt.Errorf("conservation: unit of a key: %w", err)
	case old.State == "DESTROYED", old.State == "" && old.Destroyed:
		return false, nil, true, nil
	case old.State == "":
		return false, nil, false, nil
	case old.State == "REFUSED":
		return true, nil, false, nil
	}
	held, err = q.FilesOfStory(ctx, old.ID)
	if err != nil {
		return false, nil, false, fmt.Errorf("conservation: files of unit: %w", err)
	}
	return true, held, false, nil
}

// write writes down what was gathered so far.
func (s *Service) write(ctx context.Context, tx pgx.Tx, t *takings) error {
	arrivals := t.arrivals
	t.arrivals = nil
	if len(arrivals) == 0 {
		return nil
	}
	err := s.bearings.mayBegin(ctx, db.New(tx))
	if err != nil {
		return err
	}
	err = inTheirYear(ctx, tx, pg.Tenant(ctx), arrivals)
	if err != nil {
		return err
	}
	err = s.insert(ctx, tx, arrivals, t.bag)
	if err != nil {
		return err
	}
	return t.bag.keep(ctx, tx)
}

// readSettled reads the event without touching anything.
func readSettled(tenant string, ev *invoicev1.InvoiceSettled) (*intake, error) {
	ids, ok := cut(ev.GetInvoice(), "tenants", "companies", "invoices")
	if !ok || ids[0] != tenant {
		return nil, fault.Invalid("NAME_INVALID", "invoice %q is not one of tenant %s", ev.GetInvoice(), tenant)
	}
	in := &intake{tenant: tenant, subject: ev.GetInvoice(), year: ev.GetFiscalYear(), facts: factsOf(ev)}
	var err error
	in.key, err = in.facts.unitKey()
	if err != nil {
		return nil, err
	}
	in.class, in.problem, err = in.facts.admit(ev)
	if err != nil {
		return nil, err
	}
	if in.year < 2000 || in.year > 2200 {
		return nil, fault.Invalid("UNIT_YEAR", "fiscal_year %d is not between 2000 and 2200", in.year)
	}
	document, err := in.file("transmitted", "", ev.GetFileName(), ev.GetTransmitted())
	if err != nil {
		return nil, err
	}
	in.files = append(in.files, document)
	for i, r := range ev.GetReceipts() {
		f, err := in.file("receipt", r.GetType(), r.GetFileName(), r.GetContent())
		if err != nil {
			return nil, fmt.Errorf("receipt %d: %w", i, err)
		}
		in.files = append(in.files, f)
	}
	return in, nil
}

func (in *intake) file(role, receiptType, name string, b *eventv1.Blob) (db.UnitFile, error) {
	ref, err := blob.ParseURI(b.GetUri())
	if err != nil {
		return db.UnitFile{}, err
	}
	if ref.Tenant != in.tenant {
		return db.UnitFile{}, fault.Denied("FOREIGN_BLOB", "%s belongs to another tenant", name)
	}
	if string(ref.SHA256[:]) != string(b.GetSha256()) || ref.Size != b.GetSize() {
		return db.UnitFile{}, fault.Invalid("BLOB_MISMATCH", "%s: uri, sha256 and size do not name the same bytes", name)
	}
	if name == "" {
		return db.UnitFile{}, fault.Invalid("FILE_NAME_MISSING", "a %s file has no name", role)
	}
	return db.UnitFile{
		Ordinal: int32(len(in.files)), TenantID: in.tenant, Role: role, ReceiptType: receiptType, //nolint:gosec // a handful
		FileName: name, MediaType: b.GetMediaType(), Sha256: ref.SHA256[:], Size: ref.Size,
	}, nil
}

// readBack proves that the store holds the bytes that the event speaks of.
func (s *Service) readBack(ctx context.Context, ref blob.Ref) ([]byte, error) {
	raw, err := s.blobs.Get(ctx, ref)
	if err != nil {
		return nil, fmt.Errorf("conservation: read back: %w", err)
	}
	return raw, nil
}

// withMetadata makes the metadata file and gives all files, numbered. It is kept in its row: see
// migration 0002.
func (in *intake) withMetadata(unit uuid.UUID, bag *satchel) ([]db.UnitFile, error) {
	raw := metadataOf(in.facts, in.files)
	sum := sha256.Sum256(raw)
	all := append(in.files[:len(in.files):len(in.files)], db.UnitFile{
		TenantID: in.tenant, Role: "metadata", FileName: "metadati.xml", MediaType: mimeXML,
		Sha256: sum[:], Size: int64(len(raw)), Content: raw,
	})
	for i := range all {
		all[i].Ordinal = int32(i) //nolint:gosec // a handful
	}
	return all, bag.add(unit, &all[len(all)-1], raw)
}

// insert writes units of one tenant; what an event adds to a unit that holds its key is merged.
func (s *Service) insert(ctx context.Context, tx pgx.Tx, arrivals []arrival, bag *satchel) error {
	at := pg.Time(s.now())
	p := db.InsertUnitsParams{TenantID: pg.Tenant(ctx), At: at}
	var c columns
	records := map[uuid.UUID]record{}
	for _, e := range arrivals {
		if e.known {
			continue
		}
		r, err := e.fill(&p, &c, bag, at)
		if err != nil {
			return err
		}
		records[e.id] = r
	}
	p.Units, p.Ordinals, p.Roles, p.ReceiptTypes, p.FileNames = c.units, c.ordinals, c.roles, c.receiptTypes, c.fileNames
	p.MediaTypes, p.Hashes, p.Sizes, p.Contents = c.mediaTypes, c.hashes, c.sizes, c.contents
	p.Objects, p.Offsets = c.objects, c.offsets
	written, err := db.New(tx).InsertUnits(ctx, p)
	if err != nil {
		return fmt.Errorf("conservation: insert %d units: %w", len(arrivals), err)
	}
	err = enter(ctx, tx, p.TenantID, listedOf(arrivals, written))
	if err != nil {
		return err
	}
	for _, e := range arrivals {
		switch {
		case !slices.Contains(written, e.id):
			err = s.merge(e.story, tx, e.intake, bag)
		case e.problem == "":
			err = bag.note(records[e.id])
			if err != nil {
				return err
			}
			err = s.bus.Emit(e.story, tx, &conservationv1.UnitTakenInCharge{
				Unit: unitName(e.tenant, e.id), Subject: e.subject, Time: timestamppb.New(at), Copies: bag.copies(),
			})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fill adds a unit to the statement that writes it, and gives it as the archive's own objects list it.
func (e *arrival) fill(p *db.InsertUnitsParams, c *columns, bag *satchel, at time.Time) (record, error) {
	state, files := "TAKEN_IN_CHARGE", e.files
	raw, err := e.facts.encode()
	if err != nil {
		return record{}, err
	}
	if e.problem != "" {
		state = "REFUSED"
	} else {
		files, err = e.withMetadata(e.id, bag)
		if err != nil {
			return record{}, err
		}
	}
	var integrates uuid.UUID // zero is none
	if e.integrates != nil {
		integrates = *e.integrates
	}
	p.Ids, p.UnitKeys, p.Subjects = append(p.Ids, e.id), append(p.UnitKeys, e.key), append(p.Subjects, e.subject)
	p.States, p.Classes, p.FiscalYears = append(p.States, state), append(p.Classes, e.class), append(p.FiscalYears, e.year)
	p.Integrates, p.Facts, p.Problems = append(p.Integrates, integrates), append(p.Facts, raw), append(p.Problems, e.problem)
	p.Correlations = append(p.Correlations, bus.Correlation(e.story))
	p.Causations = append(p.Causations, bus.Meta(e.story).ID)
	p.Traceparents = append(p.Traceparents, telemetry.Inject(e.story))
	c.add(e.id, files)
	unit := db.Unit{
		ID: e.id, TenantID: e.tenant, UnitKey: e.key, Subject: e.subject, Class: e.class, FiscalYear: e.year,
		Integrates: e.integrates, CreatedAt: at,
	}
	return recordOf(unit, e.facts, files), nil
}

// columns are files as arrays, one statement for all of them.
type columns struct {
	units                                      []uuid.UUID
	ordinals                                   []int32
	roles, receiptTypes, fileNames, mediaTypes []string
	hashes, contents                           [][]byte
	sizes, offsets                             []int64
	objects                                    []uuid.UUID // zero: in the platform's store
}

func (c *columns) add(unit uuid.UUID, files []db.UnitFile) {
	for _, f := range files {
		c.units = append(c.units, unit)
		c.ordinals = append(c.ordinals, f.Ordinal)
		c.roles = append(c.roles, f.Role)
		c.receiptTypes = append(c.receiptTypes, f.ReceiptType)
		c.fileNames = append(c.fileNames, f.FileName)
		c.mediaTypes = append(c.mediaTypes, f.MediaType)
		c.hashes = append(c.hashes, f.Sha256)
		c.sizes = append(c.sizes, f.Size)
		c.contents = append(c.contents, f.Content)
		object, offset := uuid.Nil, int64(0)
		if f.ObjectID != nil {
			object, offset = *f.ObjectID, *f.ObjectOffset
		}
		c.objects, c.offsets = append(c.objects, object), append(c.offsets, offset)
	}
}

// merge compares the event with the unit that holds its key: nothing new, later receipts, or other
// bytes under the same name.
func (s *Service) merge(ctx context.Context, tx pgx.Tx, in *intake, bag *satchel) error {
	q := db.New(tx)
	old, err := q.LockUnitByKey(ctx, db.LockUnitByKeyParams{TenantID: in.tenant, UnitKey: in.key})
	if errors.Is(err, pgx.ErrNoRows) {
		return fault.Unavailable("UNIT_IN_HAND", "the unit is being written just now: try again")
	}
	if err != nil {
		return fmt.Errorf("conservation: lock unit: %w", err)
	}
	if old.State == "DESTROYED" {
		return nil // the same event after all these years: what was destroyed does not come back
	}
	held, err := q.FilesOfStory(ctx, old.ID)
	if err != nil {
		return fmt.Errorf("conservation: files of unit: %w", err)
	}
	if (in.problem == "") != (old.State != "REFUSED") { // whichever came first: one of the two is not true
		return fault.Conflict(codeConflict, "unit %s of %s is %s, and now an event says that the same document is %s (receipts %v): compare them with SdI before either is believed",
			old.ID, old.Subject, old.State, in.facts.State, in.receiptTypes())
	}
	later, err := in.unheld(old, held)
	if err != nil {
		return err
	}
	if in.late(held) {
		return fault.Unavailable("UNIT_IN_HAND", "unit %s was written just now by another transaction: try again", old.ID)
	}
	if len(later) == 0 || old.State == "REFUSED" {
		return nil
	}
	if old.State == "TAKEN_IN_CHARGE" {
		return s.extend(ctx, tx, old, held, later, in, bag)
	}
	return s.integrate(ctx, tx, old, later, in, bag)
}

// late says that a file, which nobody held when it was read, was taken in by another transaction meanwhile. Its bytes lie here beside
// documents of this transaction, where no disposal would look for them.
func (in *intake) late(held []db.UnitFile) bool {
	return slices.ContainsFunc(in.files, func(f db.UnitFile) bool {
		return f.ObjectID != nil && slices.ContainsFunc(held, func(h db.UnitFile) bool {
			return sameFile(h, f) && (h.ObjectID == nil || *h.ObjectID != *f.ObjectID)
		})
	})
}

func (in *intake) receiptTypes() (types []string) {
	for _, f := range in.files {
		if f.Role == "receipt" {
			types = append(types, f.ReceiptType)
		}
	}
	return types
}

// sameFile says whether two files have one place in a unit: what is in it may still differ.
func sameFile(h, f db.UnitFile) bool {
	return h.Role == f.Role && (f.Role != "receipt" || h.ReceiptType == f.ReceiptType && h.FileName == f.FileName)
}

// unheld gives the files of the event that the archive lacks.
func (in *intake) unheld(old db.Unit, held []db.UnitFile) ([]db.UnitFile, error) {
	if old.Subject != in.subject {
		return nil, fault.Conflict(codeConflict, "unit %s holds %s under the same key as %s", old.ID, old.Subject, in.subject)
	}
	var later []db.UnitFile
next:
	for _, f := range in.files {
		for _, h := range held {
			if !sameFile(h, f) {
				continue
			}
			if string(h.Sha256) != string(f.Sha256) {
				return nil, fault.Conflict(codeConflict, "unit %s holds %s %s with other bytes (%s, now %s)",
					old.ID, f.Role, f.FileName, hex.EncodeToString(h.Sha256), hex.EncodeToString(f.Sha256))
			}
			continue next
		}
		later = append(later, f)
	}
	return later, nil
}

// extend adds later receipts to a unit that is in no package yet; its metadata file is made anew.
func (s *Service) extend(ctx context.Context, tx pgx.Tx, old db.Unit, held, later []db.UnitFile, in *intake, bag *satchel) error {
	whole := *in
	whole.files = nil
	for _, f := range append(held, later...) {
		if f.Role != "metadata" {
			whole.files = append(whole.files, f)
		}
	}
	raw, err := in.facts.encode()
	if err != nil {
		return err
	}
	q := db.New(tx)
	err = q.DropFiles(ctx, old.ID)
	if err != nil {
		return fmt.Errorf("conservation: extend unit: %w", err)
	}
	files, err := whole.withMetadata(old.ID, bag)
	if err != nil {
		return err
	}
	err = bag.note(recordOf(old, in.facts, files))
	if err != nil {
		return err
	}
	var c columns
	c.add(old.ID, files)
	err = q.AddFiles(ctx, db.AddFilesParams{
		Unit: old.ID, TenantID: old.TenantID, Ordinals: c.ordinals, Roles: c.roles, ReceiptTypes: c.receiptTypes,
		FileNames: c.fileNames, MediaTypes: c.mediaTypes, Hashes: c.hashes, Sizes: c.sizes, Contents: c.contents, Objects: c.objects, Offsets: c.offsets,
	})
	if err != nil {
		return fmt.Errorf("conservation: extend unit: %w", err)
	}
	err = q.SetFacts(ctx, db.SetFactsParams{ID: old.ID, Facts: raw})
	if err != nil {
		return fmt.Errorf("conservation: extend unit: %w", err)
	}
	return enter(ctx, tx, old.TenantID, []listed{{old.ID, old.Class, old.FiscalYear, in.facts}})
}

// integrate takes later receipts in as a unit of their own that refers to the first: a package that
// is closed never changes.
func (s *Service) integrate(ctx context.Context, tx pgx.Tx, old db.Unit, later []db.UnitFile, in *intake, bag *satchel) error {
	more := *in
	more.files, more.integrates, more.class, more.year = later, &old.ID, old.Class, old.FiscalYear
	more.key = in.key + "|+|" + hex.EncodeToString(later[0].Sha256)
	more.facts.Integrates = base64.StdEncoding.EncodeToString(in.files[0].Sha256)
	id, err := more.unitID(ctx)
	if err != nil {
		return err
	}
	return s.insert(ctx, tx, []arrival{{intake: &more, id: id, story: ctx}}, bag)
}
