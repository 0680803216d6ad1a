// Package blob keeps bytes under their SHA-256: written once, never changed,
// read back only if the hash still matches. Events and rows carry a [Ref];
// the bytes travel through here.
//
// It refuses to name things (a reference is tenant, hash and size), to
// overwrite anything but damage with what its name promises, and to delete: what was stored as evidence stays until the
// service that owns the retention removes it with the means of the store.
package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"ceralacca.dev/services/internal/fault"
)

// Ref names stored bytes. Equal bytes of one tenant have equal references;
// tenants never share a blob, so that a tenant's data can leave as a whole.
type Ref struct {
	Tenant string
	SHA256 [32]byte
	Size   int64 // bytes
}

// Store keeps blobs. Both implementations pass the same conformance suite.
//
// Faults: NotFound BLOB_NOT_FOUND; Internal BLOB_CORRUPT when the stored bytes
// no longer have their hash; Unavailable BLOB_STORE_UNAVAILABLE for everything
// that may pass (disk full, network away).
type Store interface {
	// Put stores data durably (it survives a power cut once Put returned)
	// and returns its reference. Storing the same bytes again changes their mark
	// and nothing else.
	Put(ctx context.Context, tenant string, data []byte) (Ref, error)
	// PutReader is Put for a stream of unknown length; nothing is stored
	// when r fails before its end.
	PutReader(ctx context.Context, tenant string, r io.Reader) (Ref, error)
	// Open streams a blob. The hash is verified while reading: instead of
	// io.EOF the last Read returns BLOB_CORRUPT when it does not match.
	Open(ctx context.Context, ref Ref) (io.ReadCloser, error)
	// Get reads a whole blob and verifies its hash.
	Get(ctx context.Context, ref Ref) ([]byte, error)
	// Mark tells how the bytes lie there now. It changes with every Put of the
	// same bytes: who found that nobody needs them removes what has the mark
	// which it saw before it asked, and never what was stored since.
	Mark(ctx context.Context, ref Ref) (Mark, error)
	// Mend puts bytes in the place of those that the store does not give back
	// as they came: r has to have the hash and the size of ref, otherwise the
	// fault is Invalid BLOB_DIFFERS and nothing changes.
	Mend(ctx context.Context, ref Ref, r io.Reader) error
	// Check reports whether the store can be written now (readiness).
	Check(ctx context.Context) error
}

// Mark is the state of stored bytes; see Store.
type Mark struct {
	Text string // to be compared only
	// Age is for how long they have lain there, by the clock of the store.
	Age time.Duration
	// Size in bytes, for who knows the hash alone.
	Size int64
}

// Of computes the reference of data without storing it.
func Of(tenant string, data []byte) Ref {
	return Ref{Tenant: tenant, SHA256: sha256.Sum256(data), Size: int64(len(data))}
}

// Hex is the hash in lower-case hexadecimal.
func (r Ref) Hex() string { return hex.EncodeToString(r.SHA256[:]) }

// IsZero reports whether the reference names nothing.
func (r Ref) IsZero() bool { return r == Ref{} }

const uriPrefix = "blob:tenants/"

// URI is the reference as text: blob:tenants/<tenant>/<hex sha256>?size=<bytes>.
func (r Ref) URI() string {
	return uriPrefix + r.Tenant + "/" + r.Hex() + "?size=" + strconv.FormatInt(r.Size, 10)
}

// String is URI, for logs.
func (r Ref) String() string { return r.URI() }

// ParseURI reads what URI writes and nothing else. The fault is Invalid
// BLOB_URI_INVALID and says which part is wrong.
func ParseURI(uri string) (Ref, error) {
	rest, ok := strings.CutPrefix(uri, uriPrefix)
	if !ok {
		return Ref{}, badURI(uri, "it must begin with "+uriPrefix)
	}
	tenant, rest, ok := strings.Cut(rest, "/")
	if !ok || !tenantName.MatchString(tenant) {
		return Ref{}, badURI(uri, "the tenant is missing or has characters outside a-z, A-Z, 0-9, - and _")
	}
	sum, rest, ok := strings.Cut(rest, "?size=")
	raw, err := hex.DecodeString(sum)
	if !ok || err != nil || len(raw) != sha256.Size || strings.ToLower(sum) != sum {
		return Ref{}, badURI(uri, "the hash must be 64 lower-case hexadecimal digits followed by ?size=")
	}
	size, err := strconv.ParseInt(rest, 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != rest {
		return Ref{}, badURI(uri, "the size must be a decimal number of bytes")
	}
	return Ref{Tenant: tenant, SHA256: [32]byte(raw), Size: size}, nil
}

func badURI(uri, why string) error {
	const shown = 200
	if len(uri) > shown {
		uri = uri[:shown] + "..."
	}
	return fault.Invalid("BLOB_URI_INVALID", "blob URI %q: %s", uri, why)
}

// tenantName is strict because the tenant becomes a folder or a key prefix.
var tenantName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`)

func checkTenant(tenant string) error {
	if !tenantName.MatchString(tenant) {
		return fault.Invalid("BLOB_TENANT_INVALID",
			"blob tenant %q: 1 to 63 characters of a-z, A-Z, 0-9, - and _, beginning with a letter or digit", tenant)
	}
	return nil
}

func notFound(ref Ref) error {
	return fault.NotFound("BLOB_NOT_FOUND", "no blob %s", ref.URI())
}

func corrupt(ref Ref, why string) error {
	return fault.New(fault.KindInternal, "BLOB_CORRUPT", "blob %s is damaged in the store: %s", ref.URI(), why)
}

func unavailable(err error, doing string) error {
	return fault.Unavailable("BLOB_STORE_UNAVAILABLE", "the blob store cannot %s now", doing).With(err)
}

// readAll reads and verifies a whole blob from an opened, verifying reader.
func readAll(ref Ref, r io.ReadCloser) ([]byte, error) {
	defer r.Close()
	var buf bytes.Buffer
	buf.Grow(int(min(ref.Size, 64<<20)) + bytes.MinRead)
	if _, err := buf.ReadFrom(r); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// verifier hashes what it passes on and refuses to end on other bytes than the
// reference names.
type verifier struct {
	ref   Ref
	src   io.ReadCloser
	hash  hash.Hash
	size  int64
	fault func(error) error // maps a read error of the store
	done  error
}

func verifying(ref Ref, src io.ReadCloser, mapErr func(error) error) *verifier {
	return &verifier{ref: ref, src: src, hash: sha256.New(), fault: mapErr}
}

func (v *verifier) Read(p []byte) (int, error) {
	if v.done != nil {
		return 0, v.done
	}
	n, err := v.src.Read(p)
	v.hash.Write(p[:n])
	v.size += int64(n)
	switch {
	case v.size > v.ref.Size:
		v.done = corrupt(v.ref, "it is longer than its reference says")
	case err == io.EOF && v.size < v.ref.Size:
		v.done = corrupt(v.ref, "it ends after "+strconv.FormatInt(v.size, 10)+" bytes")
	case err == io.EOF && !bytes.Equal(v.hash.Sum(nil), v.ref.SHA256[:]):
		v.done = corrupt(v.ref, "its SHA-256 is "+hex.EncodeToString(v.hash.Sum(nil)))
	case err == io.EOF:
		v.done = io.EOF
	case err != nil:
		v.done = v.fault(err)
	}
	return n, v.done
}

func (v *verifier) Close() error { return v.src.Close() }
