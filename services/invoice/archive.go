package invoice

import (
	"archive/zip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"sort"
	"strings"
	"sync"
	"unicode"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/invoice/internal/db"
)

// Bounds of an uploaded archive. The list of members is kept in memory while the archive is worked on.
const (
	maxArchive   = 1_500_000_000
	maxDirectory = 32 << 20
	maxMembers   = 100_000
	// maxInflation is how many times larger than the archive its members may be in all: invoices shrink to a
	// tenth or a thirtieth, bombs to a thousandth.
	maxInflation = 200
	inflationMin = 64 << 20
)

// member is one entry of an archive as its list tells it. state is WAITING for what has to be read, else it
// is the outcome already.
type member struct {
	name          string // as it is shown: valid UTF-8 without control characters
	size          int64
	state         invoicev1.BatchFileState
	code, message string
}

// openArchive reads the list of members. The fault is Invalid and says why the archive cannot be used;
// faults of the blob store pass unchanged.
func openArchive(r io.ReaderAt, size int64) (*zip.Reader, error) {
	directory, err := directorySize(r, size)
	if err != nil {
		return nil, err
	}
	if directory > maxDirectory {
		return nil, fault.Invalid("ARCHIVE_TOO_MANY", "the list of members has %d bytes, at most %d are read: split the archive", directory, maxDirectory)
	}
	z, err := zip.NewReader(r, size)
	switch {
	case stored(err) != nil:
		return nil, stored(err)
	case err != nil:
		return nil, fault.Invalid("ARCHIVE_UNREADABLE", "this is no ZIP archive, or it was cut or damaged (%v): make it again", err)
	case len(z.File) == 0:
		return nil, fault.Invalid("ARCHIVE_EMPTY", "the archive holds nothing: put the invoices into it")
	case len(z.File) > maxMembers:
		return nil, fault.Invalid("ARCHIVE_TOO_MANY", "the archive has %d members, at most %d are taken: split it", len(z.File), maxMembers)
	}
	total, limit := uint64(0), uint64(max(size*maxInflation, inflationMin))
	for _, f := range z.File {
		if f.UncompressedSize64 > limit-min(total, limit) {
			return nil, fault.Invalid("ARCHIVE_BOMB", "unpacked the archive would be more than %d times larger than it is: it holds something else than invoices", maxInflation)
		}
		total += f.UncompressedSize64
	}
	return z, nil
}

// directorySize finds how long the list of members says it is; 0 when there is no end record to ask.
// spec: APPNOTE 4.3.14 to 4.3.16
func directorySize(r io.ReaderAt, size int64) (uint64, error) {
	const end, wide, locator = 22, 56, 20 // bytes of the records at the end
	tail := make([]byte, min(size, 1<<16+end+wide+locator))
	_, err := r.ReadAt(tail, size-int64(len(tail)))
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	directory := uint64(0)
	if i := strings.LastIndex(string(tail), "PK\x05\x06"); i >= 0 && i+end <= len(tail) {
		directory = uint64(binary.LittleEndian.Uint32(tail[i+12:]))
	}
	if i := strings.LastIndex(string(tail), "PK\x06\x06"); directory == 1<<32-1 && i >= 0 && i+wide <= len(tail) {
		directory = binary.LittleEndian.Uint64(tail[i+40:])
	}
	return directory, nil
}

// listArchive judges each member by the list alone: what is no file, what cannot be read and what must not
// be. Every member of the list is in the answer, in its order.
func listArchive(z *zip.Reader) ([]member, error) {
	overlaps, err := overlapping(z)
	if err != nil {
		return nil, err
	}
	list := make([]member, len(z.File))
	seen := make(map[string]int, len(z.File))
	for i, f := range z.File {
		m := &list[i]
		m.name, m.size = shownName(f.Name), int64(min(f.UncompressedSize64, 1<<62)) //nolint:gosec // bounded
		m.state, m.code, m.message = byEntry(f)
		waits := m.state == invoicev1.BatchFileState_BATCH_FILE_STATE_WAITING
		first, repeated := seen[f.Name]
		switch {
		case waits && repeated:
			m.refuse("ARCHIVE_ENTRY_REPEATED", fmt.Sprintf("the archive has this name twice, first as file %d: which one is meant cannot be known; give each its own name", first))
		case waits && overlaps[i]:
			m.refuse("ARCHIVE_ENTRY_OVERLAP", "its data lie inside those of another member: no archiver writes that; make the archive again")
		}
		if !repeated {
			seen[f.Name] = i
		}
	}
	return list, nil
}

func (m *member) refuse(code, message string) {
	m.state, m.code, m.message = invoicev1.BatchFileState_BATCH_FILE_STATE_REFUSED, code, message
}

// byEntry is the outcome that the entry itself decides.
func byEntry(f *zip.File) (state invoicev1.BatchFileState, code, message string) {
	const (
		waiting = invoicev1.BatchFileState_BATCH_FILE_STATE_WAITING
		refused = invoicev1.BatchFileState_BATCH_FILE_STATE_REFUSED
		ignored = invoicev1.BatchFileState_BATCH_FILE_STATE_IGNORED
	)
	mode := f.Mode()
	switch what := systemFile(f.Name); {
	case mode.IsDir() || strings.HasSuffix(f.Name, "/"):
		return ignored, "", "a folder"
	case what != "":
		return ignored, "", what
	case !safeName(f.Name):
		return refused, "ARCHIVE_ENTRY_NAME", "the name leads out of the archive, or is none: use plain relative names"
	case mode&fs.ModeSymlink != 0:
		return refused, "ARCHIVE_ENTRY_LINK", "a link to another file: put the file itself into the archive"
	case !mode.IsRegular():
		return refused, "ARCHIVE_ENTRY_LINK", "a device or another special file: put plain files into the archive"
	case f.Flags&1 != 0:
		return refused, "ARCHIVE_ENTRY_ENCRYPTED", "encrypted: only plain archives are read; make the archive again without a password"
	case f.Method != zip.Store && f.Method != zip.Deflate:
		return refused, "ARCHIVE_ENTRY_METHOD", fmt.Sprintf("packed with method %d: only stored and deflated members are read", f.Method)
	case f.UncompressedSize64 > maxContent && !endsLikeInvoice(f.Name) && !isArchiveName(f.Name):
		return ignored, "", kindByName(f.Name)
	case isArchiveName(f.Name):
		return refused, codeNested, nestedMessage
	case f.UncompressedSize64 > maxContent:
		return refused, "INVOICE_TOO_LARGE", tooLargeMessage(f.UncompressedSize64)
	}
	return waiting, "", ""
}

const (
	codeNested    = "ARCHIVE_NESTED"
	nestedMessage = "an archive inside the upload: unpack it, or upload it as a batch of its own"
)

func tooLargeMessage(size uint64) string {
	return fmt.Sprintf("the file has %d bytes and SdI takes at most %d: split the lot or shrink the attachments", size, maxContent)
}

// overlapping marks the members whose data lie inside those of another: that is how small archives become
// huge ones.
func overlapping(z *zip.Reader) (map[int]bool, error) {
	type span struct {
		at         int
		start, end int64
	}
	spans := make([]span, 0, len(z.File))
	for i, f := range z.File {
		start, err := f.DataOffset()
		if stored(err) != nil {
			return nil, stored(err)
		}
		if err != nil || f.CompressedSize64 > maxArchive {
			continue // reading it fails, with a message of its own
		}
		spans = append(spans, span{i, start, start + int64(f.CompressedSize64)}) //nolint:gosec // bounded
	}
	sort.Slice(spans, func(i, j int) bool { return spans[i].start < spans[j].start })
	marked := map[int]bool{}
	end := int64(0)
	for _, s := range spans {
		if s.start < end && s.end > s.start {
			marked[s.at] = true
		}
		end = max(end, s.end)
	}
	return marked, nil
}

// readMember unpacks one member. refusal says why it cannot be read; err is of the blob store.
func readMember(f *zip.File) (content []byte, refusal *fault.Fault, err error) {
	damaged := func(err error) (*fault.Fault, error) {
		if stored(err) != nil {
			return nil, stored(err)
		}
		return fault.Invalid("ARCHIVE_ENTRY_DAMAGED", "cannot be unpacked (%v): make the archive again", err), nil
	}
	r, err := f.Open()
	if err != nil {
		refusal, err = damaged(err)
		return nil, refusal, err
	}
	defer r.Close()
	content = make([]byte, 0, int(min(f.UncompressedSize64, maxContent))+1)
	for {
		n, err := r.Read(content[len(content):cap(content)])
		content = content[:len(content)+n]
		switch {
		case errors.Is(err, io.EOF):
			return content, nil, nil
		case err != nil:
			refusal, err = damaged(err)
			return nil, refusal, err
		case len(content) > maxContent || uint64(len(content)) > f.UncompressedSize64:
			return nil, fault.Invalid("ARCHIVE_BOMB", "unpacked it is longer than the %d bytes that the archive says: make the archive again", f.UncompressedSize64), nil
		case len(content) == cap(content):
			content = slices.Grow(content, 1)
		}
	}
}

// stored is the fault of the blob store in an error of reading an archive; nil when the archive itself is
// the trouble.
func stored(err error) error {
	var f *fault.Fault
	if errors.As(err, &f) {
		return f
	}
	return nil
}

// partsReader reads an archive out of its pieces. It keeps a few pieces, since members are read in order.
type partsReader struct {
	ctx   context.Context //nolint:containedctx // io.ReaderAt has no context, and the reader lives for one run of a job
	blobs blob.Store
	parts []db.ListBatchPartsRow
	size  int64

	mu   sync.Mutex
	kept []keptPart
}

type keptPart struct {
	at      int
	content []byte
}

const keptParts = 3

func newPartsReader(ctx context.Context, blobs blob.Store, parts []db.ListBatchPartsRow) (*partsReader, error) {
	r := &partsReader{ctx: ctx, blobs: blobs, parts: parts}
	for _, p := range parts {
		if p.Start != r.size {
			return nil, fault.Internal("ARCHIVE_GAP", "the pieces of the archive have a gap at %d", r.size)
		}
		r.size += p.Size
	}
	return r, nil
}

// ReadAt implements io.ReaderAt.
func (r *partsReader) ReadAt(p []byte, at int64) (n int, err error) {
	if at < 0 {
		return 0, errors.New("invoice: read before the archive")
	}
	for n < len(p) && at < r.size {
		i := sort.Search(len(r.parts), func(i int) bool { return r.parts[i].Start+r.parts[i].Size > at })
		content, err := r.part(i)
		if err != nil {
			return n, err
		}
		copied := copy(p[n:], content[at-r.parts[i].Start:])
		n, at = n+copied, at+int64(copied)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (r *partsReader) part(i int) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for at, k := range r.kept {
		if k.at == i {
			if at > 0 { // the one used last is first
				copy(r.kept[1:at+1], r.kept[:at])
				r.kept[0] = k
			}
			return k.content, nil
		}
	}
	ref, err := blob.ParseURI(r.parts[i].Uri)
	if err != nil {
		return nil, err
	}
	content, err := r.blobs.Get(r.ctx, ref)
	if err != nil {
		return nil, fault.Of(err)
	}
	if int64(len(content)) != r.parts[i].Size {
		return nil, fault.Internal("BLOB_CORRUPT", "piece %d of the archive has %d bytes, not %d", i, len(content), r.parts[i].Size)
	}
	r.kept = slices.Insert(r.kept[:min(len(r.kept), keptParts-1)], 0, keptPart{i, content})
	return content, nil
}

// shownName makes a name that can be stored and printed.
func shownName(name string) string {
	const longest = 500
	name = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, strings.ToValidUTF8(name, string(unicode.ReplacementChar)))
	if len(name) > longest {
		name = strings.ToValidUTF8(name[:longest-3], "") + "..."
	}
	return name
}

// safeName reports whether a name stays where it is unpacked. Nothing here is ever unpacked to a file; what
// tries to leave is refused so that nobody else unpacks it either.
func safeName(name string) bool {
	name = strings.ReplaceAll(name, `\`, "/")
	if name == "" || strings.HasPrefix(name, "/") || strings.Contains(name, "\x00") || len(name) > 1 && name[1] == ':' {
		return false
	}
	return !slices.Contains(strings.Split(name, "/"), "..")
}

// systemFile says what a file is that a system has left there; empty for others.
func systemFile(name string) string {
	name = strings.ReplaceAll(name, `\`, "/")
	base := path.Base(name)
	switch {
	case slices.Contains(strings.Split(name, "/"), "__MACOSX"), strings.HasPrefix(base, "._"):
		return "data of macOS about a file, and no file itself"
	case base == ".DS_Store", strings.EqualFold(base, "Thumbs.db"), strings.EqualFold(base, "desktop.ini"):
		return "a file of the file manager"
	}
	return ""
}

func endsLikeInvoice(name string) bool {
	ending := strings.ToLower(path.Ext(name))
	return ending == ".xml" || ending == ".p7m"
}

func isArchiveName(name string) bool {
	return slices.Contains([]string{".zip", ".7z", ".rar", ".gz", ".tgz", ".bz2", ".xz", ".tar"}, strings.ToLower(path.Ext(name)))
}

// kindByName says what a file without an invoice is, as far as its name tells.
func kindByName(name string) string {
	switch ending := strings.ToLower(path.Ext(name)); ending {
	case ".pdf":
		return "a PDF: invoices are XML or .p7m"
	case ".xsl", ".xslt", ".css", ".html", ".htm":
		return "a style sheet or page, and no invoice"
	case "":
		return "neither XML nor a signed file"
	default:
		return "a file " + shownName(ending) + ": neither XML nor a signed file"
	}
}
