package conservation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"strings"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/semaphore"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
)

// DepositsConfig bounds what producers hand over themselves.
type DepositsConfig struct {
	// MaxBytes is how many bytes one file has at most. It is held in memory while it is judged.
	MaxBytes int64 `yaml:"max_bytes"`
	// Attempts is how many times one key may be refused. The Guidelines want three at least.
	Attempts int `yaml:"attempts"`
	// JudgedBytes is how many bytes the files have together that are judged at a time, in one process; more of them wait. Each is in memory about twice.
	JudgedBytes int64 `yaml:"judged_bytes"`
	// EventReports is how often, at most, what came by event gets its report, one of each tenant with new documents: each costs a
	// signature and a time stamp. 0s makes none.
	EventReports time.Duration `yaml:"event_reports"`
}

func defaultDeposits() DepositsConfig {
	return DepositsConfig{MaxBytes: 128 << 20, Attempts: 3, JudgedBytes: 512 << 20, EventReports: 250 * time.Millisecond}
}

func (c DepositsConfig) check(bad func(when bool, path, format string, a ...any)) {
	bad(c.MaxBytes < 1 || c.MaxBytes > 1<<30, "deposits.max_bytes", "must be between 1 and 1073741824")
	bad(c.JudgedBytes < c.MaxBytes, "deposits.judged_bytes", "must not be less than deposits.max_bytes")
	bad(c.Attempts < 3, "deposits.attempts", "must be at least 3: the Guidelines (§4.8 c) give a producer three refusals")
	bad(c.EventReports < 0, "deposits.event_reports", "must not be negative; 0s makes no reports of what comes by event")
}

const (
	depositPiece = 4 << 20          // bytes that are made durable together
	lastPiece    = 10 * time.Second // what may be spent on saving what a broken upload brought
	kindDocument = "DOCUMENT"
	kindForeign  = "PACKAGE"
)

// Codes of refusals, permanent.
const (
	problemDigest     = "DIGEST_MISMATCH"
	problemFormat     = "FORMAT_NOT_ADMITTED"
	problemName       = "FORMAT_MISMATCH"
	problemInside     = "CONTENT_NOT_ADMITTED"
	problemFileName   = "FILE_NAME_UNSAFE"
	problemMetadata   = "METADATA_INCOMPLETE"
	problemPackage    = "PACKAGE_NOT_VERIFIED"
	problemConflict   = "KEY_HOLDS_OTHER_BYTES"
	problemPrimary    = "PRIMARY_UNKNOWN"
	problemFatturaPA  = "CLASS_NOT_FOR_DEPOSITS"
	codeDepositUnread = "DEPOSIT_PART_LOST"
)

// depositProblem is a reason for a refusal.
type depositProblem struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// depositHead is what an upload began with, as its row keeps it.
type depositHead struct {
	Document document `json:"document"`
	Lacks    []string `json:"lacks,omitempty"` // what Allegato 5 wants and the metadata do not have
}

// receiving is one upload under way.
type receiving struct {
	s     *Service
	row   db.Deposit
	at    int64 // bytes taken, also those not durable yet
	piece bytes.Buffer
	sum   hash.Hash // while receiving
	dry   bool      // everything stays in piece, and nothing is kept
}

// openReceiving finds the upload of a key, or begins one. The row tells: RECEIVING goes on; any other state is how it ended.
func (s *Service) openReceiving(ctx context.Context, tenant, by string, head *conservationv1.DepositHead) (db.Deposit, error) {
	want, err := s.readHead(tenant, by, head)
	if err != nil {
		return want, err
	}
	var row db.Deposit
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		var attempt int32
		row, attempt, err = s.priorDeposit(ctx, db.New(tx), want)
		if err == nil && attempt > 0 {
			row, err = s.beginReceiving(ctx, tx, want, attempt)
		}
		return err
	})
	return row, err
}

// priorDeposit says what the history of its key makes of an upload: which attempt it is, or, as attempt 0, the deposit that it is already. It
// is refused when another upload is under way under the key, or the key is spent.
func (s *Service) priorDeposit(ctx context.Context, q *db.Queries, want db.Deposit) (row db.Deposit, attempt int32, err error) {
	row, err = q.DepositUnderWay(ctx, db.DepositUnderWayParams{TenantID: want.TenantID, ClientKey: want.ClientKey})
	if err == nil {
		if sameUpload(row, want) {
			return row, 0, nil
		}
		return row, 0, fault.Conflict("UPLOAD_DIFFERS", "head: an upload of other bytes or with another description is under way under key %q since %s: send the same again to end it, or use another key",
			want.ClientKey, row.CreatedAt.UTC().Format(time.RFC3339)).WithField("head.key", "UPLOAD_DIFFERS", "another upload is under way")
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return row, 0, err
	}
	same, err := q.SameDeposit(ctx, db.SameDepositParams{TenantID: want.TenantID, ClientKey: want.ClientKey, Sha256: want.Sha256})
	if err == nil || !errors.Is(err, pgx.ErrNoRows) {
		return same, 0, err
	}
	last, err := q.LastDeposit(ctx, db.LastDepositParams{TenantID: want.TenantID, ClientKey: want.ClientKey})
	switch {
	case err == nil && last.State == "CONFLICT" && bytes.Equal(last.Sha256, want.Sha256):
		return last, 0, nil
	case err != nil && !errors.Is(err, pgx.ErrNoRows):
		return last, 0, err
	}
	refused, err := q.CountRefusals(ctx, db.CountRefusalsParams{TenantID: want.TenantID, ClientKey: want.ClientKey})
	if err != nil {
		return want, 0, err
	}
	if int(refused) >= s.cfg.Deposits.Attempts {
		return want, 0, fault.Precondition("DEPOSIT_ATTEMPTS_SPENT", "key %q was refused %d times: the archive takes it no more under this key; mend the document and hand it over under another", want.ClientKey, refused)
	}
	return want, last.Attempt + 1, nil
}

// foreseen says whether a key holds other bytes, so that an upload which is good in itself would wait for a person.
func (s *Service) foreseen(ctx context.Context, want db.Deposit) (contested string, err error) {
	err = s.db.Tx(ctx, want.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		row, attempt, err := s.priorDeposit(ctx, q, want)
		if err != nil || attempt == 0 && row.State == "ACCEPTED" {
			return err
		}
		held, err := q.HeldDeposit(ctx, db.HeldDepositParams{TenantID: want.TenantID, ClientKey: want.ClientKey})
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return nil
		case err == nil:
			contested = holdsOther(want, held)
		}
		return err
	})
	return contested, err
}

// holdsOther is the reason of a conflict.
func holdsOther(row, held db.Deposit) string {
	return fmt.Sprintf("key %q holds other bytes since %s (%x, now %x)", row.ClientKey, held.CreatedAt.UTC().Format(time.RFC3339), held.Sha256, row.Sha256)
}

func sameUpload(a, b db.Deposit) bool {
	var x, y depositHead
	errA, errB := json.Unmarshal(a.Head, &x), json.Unmarshal(b.Head, &y)
	rawX, _ := json.Marshal(x) //nolint:errchkjson // plain strings
	rawY, _ := json.Marshal(y) //nolint:errchkjson // plain strings
	return errA == nil && errB == nil && bytes.Equal(rawX, rawY) && a.Size == b.Size && bytes.Equal(a.Sha256, b.Sha256) &&
		a.FileName == b.FileName && a.Kind == b.Kind && a.Class == b.Class && a.FiscalYear == b.FiscalYear
}

// beginReceiving makes the row of a new attempt.
func (s *Service) beginReceiving(ctx context.Context, tx pgx.Tx, want db.Deposit, attempt int32) (db.Deposit, error) {
	q := db.New(tx)
	want.Attempt = attempt
	var err error
	want.ID, err = pg.NewID()
	if err != nil {
		return want, err
	}
	err = q.InsertDeposit(ctx, db.InsertDepositParams{
		ID: want.ID, TenantID: want.TenantID, ClientKey: want.ClientKey, Attempt: want.Attempt, Kind: want.Kind, FileName: want.FileName, Size: want.Size,
		Sha256: want.Sha256, Class: want.Class, FiscalYear: want.FiscalYear, Head: want.Head, DepositedBy: want.DepositedBy, CreatedAt: pg.Time(s.now()),
	})
	if err != nil {
		if pg.Constraint(err) == "deposit_under_way" || pg.Constraint(err) == "deposit_tenant_id_client_key_attempt_key" {
			return want, errDepositConcurrent()
		}
		return want, fmt.Errorf("conservation: insert deposit: %w", err)
	}
	return q.GetDeposit(ctx, db.GetDepositParams{TenantID: want.TenantID, ID: want.ID})
}

func errDepositConcurrent() *fault.Fault {
	return fault.Aborted("UPLOAD_CONCURRENT", "another call uploads under this key: let one of them end, and go on where OpenDeposit says")
}

// readHead reads what an upload begins with. What is wrong with the metadata is a reason for refusal and no error: the producer
// is to have it in writing, with everything else that is wrong.
func (s *Service) readHead(tenant, by string, head *conservationv1.DepositHead) (db.Deposit, error) {
	row := db.Deposit{
		TenantID: tenant, ClientKey: head.GetKey(), Kind: kindDocument, FileName: head.GetFileName(), Size: head.GetSize(), Sha256: head.GetSha256(),
		Class: head.GetClass(), FiscalYear: head.GetFiscalYear(), DepositedBy: by,
	}
	row.FileName = strings.ReplaceAll(row.FileName, nul, replacement) // the row cannot hold it; the name is refused
	if row.Class == "" {
		row.Class = classOther
	}
	if _, ok := findClass(row.Class); !ok {
		return row, unknownClass(row.Class)
	}
	if head.GetKind() == conservationv1.DepositKind_DEPOSIT_KIND_PACKAGE {
		row.Kind = kindForeign
	}
	if row.Size > s.cfg.Deposits.MaxBytes {
		return row, fault.Invalid("UPLOAD_TOO_LARGE", "head.size: %d bytes are more than the %d that are admitted", row.Size, s.cfg.Deposits.MaxBytes).
			WithField("head.size", "UPLOAD_TOO_LARGE", "too large")
	}
	var h depositHead
	if head.GetDocument() != nil || row.Kind == kindDocument {
		clean := proto.CloneOf(head.GetDocument())
		spoiled := withoutNUL(clean.ProtoReflect(), "")
		h.Document, h.Lacks = readDocument(clean)
		for _, field := range spoiled {
			h.Lacks = append(h.Lacks, field+": has a NUL character, which no metadata may have")
		}
	}
	raw, err := json.Marshal(h)
	if err != nil {
		return row, fmt.Errorf("conservation: head of deposit: %w", err)
	}
	row.Head = raw
	return row, nil
}

// PostgreSQL keeps no NUL in texts: what has one is refused in writing, and its row shows where it was.
const (
	nul         = "\x00"
	replacement = "\uFFFD"
)

// withoutNUL replaces NUL characters in all texts of a message, and names the fields that had one.
func withoutNUL(m protoreflect.Message, at string) (spoiled []string) {
	if !m.IsValid() {
		return nil
	}
	text := func(v protoreflect.Value, field string) protoreflect.Value {
		if !strings.Contains(v.String(), nul) {
			return v
		}
		spoiled = append(spoiled, field)
		return protoreflect.ValueOfString(strings.ReplaceAll(v.String(), nul, replacement))
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() { // in the order of the contract, so that reasons come in one order
		f := fields.Get(i)
		name := at + string(f.Name())
		switch {
		case !m.Has(f):
		case f.IsList():
			list := m.Mutable(f).List()
			for i := range list.Len() {
				item := fmt.Sprintf("%s[%d]", name, i)
				switch f.Kind() {
				case protoreflect.StringKind:
					list.Set(i, text(list.Get(i), item))
				case protoreflect.MessageKind:
					spoiled = append(spoiled, withoutNUL(list.Get(i).Message(), item+".")...)
				}
			}
		case f.Kind() == protoreflect.StringKind:
			m.Set(f, text(m.Get(f), name))
		case f.Kind() == protoreflect.MessageKind:
			spoiled = append(spoiled, withoutNUL(m.Mutable(f).Message(), name+".")...)
		}
	}
	return spoiled
}

// resume reads what came before: the digest is taken over everything that was received.
func (r *receiving) resume(ctx context.Context) error {
	r.sum = sha256.New()
	parts, err := r.s.depositParts(ctx, r.row)
	for i := 0; err == nil && i < len(parts); i++ {
		var raw []byte
		raw, err = r.s.blobs.Get(ctx, partRef(parts[i]))
		r.sum.Write(raw)
	}
	r.at = r.row.Received
	return err
}

func partRef(p db.DepositPart) blob.Ref { return refOf(p.TenantID, p.Sha256, &p.Size) }

func (s *Service) depositParts(ctx context.Context, row db.Deposit) ([]db.DepositPart, error) {
	var parts []db.DepositPart
	err := s.db.Tx(ctx, row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		parts, err = db.New(tx).DepositParts(ctx, row.ID)
		return err
	})
	return parts, err
}

// take adds a chunk.
func (r *receiving) take(ctx context.Context, c *conservationv1.DepositChunk) error {
	switch {
	case c.GetOffset() != r.at:
		return fault.Invalid("UPLOAD_GAP", "chunk.offset: %d, but %d bytes are here: go on at %d", c.GetOffset(), r.at, r.at)
	case r.at+int64(len(c.GetData())) > r.row.Size:
		return fault.Invalid("UPLOAD_TOO_LARGE", "chunk: more bytes come than the %d of head.size", r.row.Size)
	}
	r.sum.Write(c.GetData())
	r.piece.Write(c.GetData())
	r.at += int64(len(c.GetData()))
	if r.piece.Len() >= depositPiece {
		return r.flush(ctx)
	}
	return nil
}

// flush makes what is in hand durable.
func (r *receiving) flush(ctx context.Context) error {
	if r.piece.Len() == 0 || r.dry {
		return nil
	}
	raw := bytes.Clone(r.piece.Bytes())
	ref, err := r.s.blobs.Put(ctx, r.row.TenantID, raw)
	if err != nil {
		return err
	}
	place := r.at - int64(len(raw))
	err = r.s.db.Tx(ctx, r.row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		n, err := db.New(tx).ReceiveDepositPart(ctx, db.ReceiveDepositPartParams{Deposit: r.row.ID, Place: place, Sha256: ref.SHA256[:], Size: ref.Size})
		if err == nil && n == 0 {
			return errDepositConcurrent()
		}
		return err
	})
	if err == nil {
		r.piece.Reset()
	}
	return err
}

// complete judges a whole upload: what is right is taken in charge, what is not is refused with its reasons.
func (r *receiving) complete(ctx context.Context) (db.Deposit, error) {
	done, err := r.s.holdBytes(ctx, r.s.judged, r.row.Size)
	if err != nil {
		return r.row, err
	}
	defer done()
	raw, err := r.s.depositContent(ctx, r.row)
	if err != nil {
		return r.row, err
	}
	j, err := r.judge(ctx, raw)
	if err != nil {
		return r.row, err
	}
	if len(j.problems) > 0 {
		return r.s.refuseDeposit(ctx, r.row, j, verdictOf{})
	}
	return r.s.acceptDeposit(ctx, r.row, j, verdictOf{})
}

// holdBytes waits until a file of this size may be in memory beside the others.
func (s *Service) holdBytes(ctx context.Context, room *semaphore.Weighted, size int64) (done func(), err error) {
	size = min(size, s.cfg.Deposits.JudgedBytes)
	err = room.Acquire(ctx, size)
	if err != nil {
		return nil, fault.Unavailable("DEPOSITS_BUSY", "other files are being judged: send the same again, it goes on where it was").With(err)
	}
	return func() { room.Release(size) }, nil
}

// judge looks at everything that was received, as it was read back.
func (r *receiving) judge(ctx context.Context, raw []byte) (*judgement, error) {
	var head depositHead
	err := json.Unmarshal(r.row.Head, &head)
	if err != nil {
		return nil, fmt.Errorf("conservation: head of deposit %s: %w", r.row.ID, err)
	}
	j := &judgement{s: r.s, row: r.row, raw: raw, document: head.Document}
	received, read := r.sum.Sum(nil), sha256.Sum256(raw)
	if !bytes.Equal(received, r.row.Sha256) || !bytes.Equal(read[:], r.row.Sha256) {
		j.refuse(problemDigest, "the bytes have the SHA-256 %x while receiving and %x when read back; the head declares %x", received, read, r.row.Sha256)
	}
	for _, text := range head.Lacks {
		j.refuse(problemMetadata, "%s", text)
	}
	return j, j.judge(ctx)
}

// depositContent gives the whole file from where its parts are.
func (s *Service) depositContent(ctx context.Context, row db.Deposit) ([]byte, error) {
	parts, err := s.depositParts(ctx, row)
	if err != nil {
		return nil, err
	}
	raw := make([]byte, 0, row.Size)
	for _, p := range parts {
		if p.Place != int64(len(raw)) {
			return nil, fault.Internal(codeDepositUnread, "deposit %s has a gap at %d", row.ID, len(raw))
		}
		piece, err := s.blobs.Get(ctx, partRef(p))
		if err != nil {
			return nil, err
		}
		raw = append(raw, piece...)
	}
	return raw, nil
}

// judgement is what is found about one deposit.
type judgement struct {
	s            *Service
	row          db.Deposit
	raw          []byte
	document     document
	finding      finding
	bodies       []body
	origin       *foreignOrigin
	verification []byte
	problems     []depositProblem
}

func (j *judgement) refuse(code, format string, a ...any) {
	j.problems = append(j.problems, depositProblem{code, strings.ReplaceAll(fmt.Sprintf(format, a...), nul, replacement)}) // it may quote the content
}

func (j *judgement) judge(ctx context.Context) error {
	if unsafeFileName(j.row.FileName) {
		j.refuse(problemFileName, "file_name: %q has a path, control characters or turns the direction of writing: give the plain name", j.row.FileName)
	}
	if j.row.Kind == kindForeign {
		return j.judgePackage()
	}
	if j.row.Class == classPrivate || j.row.Class == classPublic {
		j.refuse(problemFatturaPA, "class: invoices of class %s come through the invoice service, which knows their receipts; one that was issued elsewhere is imported there", j.row.Class)
	}
	j.finding = recognise(j.raw, 0)
	f := j.finding.format
	switch {
	case !f.admitted:
		j.refuse(problemFormat, "the content is %s: %s", f.name, f.note)
	case !f.fits(j.row.FileName):
		j.refuse(problemName, "file_name: %q does not name what the content is, %s (%s)", j.row.FileName, f.name, strings.Join(f.extensions, ", "))
	}
	for _, text := range j.finding.inside {
		j.refuse(problemInside, "%s", text)
	}
	j.bodies = []body{{Type: j.document.Type, Number: j.document.Number, Date: j.document.Date}}
	return j.findPrimary(ctx)
}

// findPrimary looks up the document that this one is attached to.
func (j *judgement) findPrimary(ctx context.Context) error {
	if j.document.Primary == "" {
		return nil
	}
	return j.s.db.Tx(ctx, j.row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		row, err := db.New(tx).HeldDeposit(ctx, db.HeldDepositParams{TenantID: j.row.TenantID, ClientKey: j.document.Primary})
		if errors.Is(err, pgx.ErrNoRows) {
			j.refuse(problemPrimary, "document.primary_key: nothing was taken in under %q: hand the main document over first", j.document.Primary)
			return nil
		}
		j.document.PrimarySum = base64Of(row.Sha256)
		return err
	})
}

// unsafeFileName: a name that would lead somewhere else, or show something else than it is.
func unsafeFileName(name string) bool {
	return name == "." || name == ".." || path.Base(name) != name || strings.ContainsAny(name, `/\`) || strings.ContainsFunc(name, func(r rune) bool {
		return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\uFFFD'
	})
}

// receiveAll takes chunks until the caller has said that there are no more.
func (r *receiving) receiveAll(ctx context.Context, next func() (*conservationv1.DepositChunk, error)) error {
	for {
		c, err := next()
		if errors.Is(err, io.EOF) {
			return r.flush(ctx)
		}
		if err != nil {
			return err
		}
		err = r.take(ctx, c)
		if err != nil {
			return err
		}
	}
}
