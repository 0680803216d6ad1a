// Package vault keeps the objects of the archive under names of their own: written once, read back
// before they count, never replaced but by the repair of a damaged copy, which keeps the damaged bytes.
//
// It owns how an object lies on a disk or in a bucket. It refuses to delete: there is no such function, and
// the credentials of the service need no right to it. It knows nothing of tenants, units or packages, and
// nothing of other replicas: whoever holds two vaults decides what that is worth.
package vault

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"regexp"
	"sync"
	"time"

	"ceralacca.dev/services/internal/fault"
)

// Object names bytes: where they are and what they must be.
type Object struct {
	Key    string
	Size   int64 // bytes
	SHA256 [sha256.Size]byte
}

// Lock is how long the store itself refuses to remove an object, where it can (S3 Object Lock; a folder
// cannot).
type Lock struct {
	Until time.Time // zero: no lock
	// Final locks cannot be shortened by anybody, the owner of the account included (COMPLIANCE); others
	// can by whoever has that right (GOVERNANCE).
	Final bool
}

// Entry is an object as a listing shows it.
type Entry struct {
	Key  string
	Size int64
}

// Vault is a write-once store. Both implementations pass the same conformance suite.
//
// Faults: NotFound OBJECT_NOT_FOUND; Conflict OBJECT_CONFLICT when the key holds other bytes; Internal
// OBJECT_DAMAGED when what is read is not what it must be; Unavailable VAULT_UNAVAILABLE for everything
// that may pass; Invalid KEY_INVALID.
type Vault interface {
	// Put stores o.Size bytes of r durably and reads them back from where they are: what was not read back
	// was not stored. The same object again is a no-op.
	Put(ctx context.Context, o Object, r io.ReaderAt, lock Lock) error
	// Open streams an object and verifies it: instead of io.EOF the last Read gives OBJECT_DAMAGED when
	// it is not the one that o names.
	Open(ctx context.Context, o Object) (io.ReadCloser, error)
	// Replace puts good bytes in the place of a damaged or missing copy and keeps the damaged one where no
	// reader finds it by its key. It tells where; empty when there was none.
	Replace(ctx context.Context, o Object, r io.ReaderAt, lock Lock) (quarantine string, err error)
	// List gives the objects below a prefix in the order of their keys.
	List(ctx context.Context, prefix string) iter.Seq2[Entry, error]
	// Check says whether the vault can be used now.
	Check(ctx context.Context) error
	// String is where it is, for operators.
	String() string
}

var keyPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$`)

func checkKey(key string) error {
	if len(key) > 500 || !keyPattern.MatchString(key) {
		return fault.Invalid("KEY_INVALID", "object key %q: names of letters, digits, '.', '_' and '-' between slashes, at most 500 characters", key)
	}
	return nil
}

func notFound(key string) error {
	return fault.NotFound("OBJECT_NOT_FOUND", "there is no object %s", key)
}

func conflict(key string) error {
	return fault.Conflict("OBJECT_CONFLICT", "object %s is there with other bytes; nothing was replaced", key)
}

func damaged(key, format string, a ...any) error {
	return fault.Internal("OBJECT_DAMAGED", "object %s is damaged: %s", key, fmt.Sprintf(format, a...))
}

func unavailable(err error, format string, a ...any) error {
	return fault.Unavailable("VAULT_UNAVAILABLE", "%s", fmt.Sprintf(format, a...)).With(err)
}

// Damaged says that err means wrong or missing bytes, and not a store that is away.
func Damaged(err error) bool {
	return errors.Is(err, fault.Internal("OBJECT_DAMAGED", "")) || errors.Is(err, fault.NotFound("OBJECT_NOT_FOUND", ""))
}

// Judge says what it means that an object could not be read. An error of the store that ends with it is passed on; an object that
// cannot be read twice while its vault can be used is damaged, as one with wrong bytes is: a sector that is gone does not come back,
// and whoever took it for a vault that is away would wait for it for ever. nil: it could be read now.
func Judge(ctx context.Context, v Vault, o Object, cause error) error {
	if !isUnavailable(cause) || ctx.Err() != nil || v.Check(ctx) != nil {
		return cause
	}
	again := Verify(ctx, v, o)
	if !isUnavailable(again) || ctx.Err() != nil || v.Check(ctx) != nil {
		return again
	}
	return unreadable(o.Key, v, again)
}

func isUnavailable(err error) bool { return errors.Is(err, fault.Unavailable("VAULT_UNAVAILABLE", "")) }

func unreadable(key string, v Vault, err error) error {
	return fault.Internal("OBJECT_DAMAGED", "object %s is damaged: it cannot be read, and %s can be used: %s", key, v, fault.Of(err).Error()).With(err)
}

// Conflicting says that err means a key that holds other bytes.
func Conflicting(err error) bool { return errors.Is(err, fault.Conflict("OBJECT_CONFLICT", "")) }

// verifier hashes what it passes on and refuses to end on other bytes than those that the object names.
type verifier struct {
	o    Object
	src  io.ReadCloser
	hash hash.Hash
	size int64
	fail func(error) error
	done error
}

func verifying(o Object, src io.ReadCloser, fail func(error) error) *verifier {
	return &verifier{o: o, src: src, hash: sha256.New(), fail: fail}
}

func (v *verifier) Read(p []byte) (int, error) {
	if v.done != nil {
		return 0, v.done
	}
	n, err := v.src.Read(p)
	v.hash.Write(p[:n])
	v.size += int64(n)
	switch {
	case v.size > v.o.Size:
		v.done = damaged(v.o.Key, "it is longer than %d bytes", v.o.Size)
	case err == io.EOF && v.size < v.o.Size:
		v.done = damaged(v.o.Key, "it ends after %d of %d bytes", v.size, v.o.Size)
	case err == io.EOF && [sha256.Size]byte(v.hash.Sum(nil)) != v.o.SHA256:
		v.done = damaged(v.o.Key, "its SHA-256 is %s", hex.EncodeToString(v.hash.Sum(nil)))
	case err == io.EOF:
		v.done = io.EOF
	case err != nil:
		v.done = v.fail(err)
	}
	return n, v.done
}

func (v *verifier) Close() error { return v.src.Close() }

// Verify reads an object to its end.
func Verify(ctx context.Context, v Vault, o Object) error {
	r, err := v.Open(ctx, o)
	if err != nil {
		return err
	}
	err = drain(r)
	if closeErr := r.Close(); err == nil && closeErr != nil {
		err = unavailable(closeErr, "close %s", o.Key)
	}
	return err
}

// pieces are what drain reads into. io.Discard brings 8 KiB of its own, which costs as many system calls as hashing.
var pieces = sync.Pool{New: func() any { return new([256 << 10]byte) }}

// drain reads r to its end.
func drain(r io.Reader) error {
	piece, _ := pieces.Get().(*[256 << 10]byte)
	defer pieces.Put(piece)
	for {
		_, err := r.Read(piece[:])
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// section reads r from its beginning, and stops when ctx ends.
func section(ctx context.Context, o Object, r io.ReaderAt) io.Reader {
	return &stopping{ctx, io.NewSectionReader(r, 0, o.Size)}
}

type stopping struct {
	ctx context.Context //nolint:containedctx // of one copy
	r   io.Reader
}

func (s *stopping) Read(p []byte) (int, error) {
	err := s.ctx.Err()
	if err != nil {
		return 0, err
	}
	return s.r.Read(p)
}

// Digest reads an object of which only key and size are known, and gives its SHA-256.
func Digest(ctx context.Context, v Vault, e Entry) (sum [sha256.Size]byte, err error) {
	h, n := sha256.New(), int64(0)
	r, err := v.Open(ctx, Object{Key: e.Key, Size: e.Size})
	if err == nil {
		n, err = io.Copy(h, r)
		if closeErr := r.Close(); err == nil && closeErr != nil {
			err = unavailable(closeErr, "close %s", e.Key)
		}
	}
	if isUnavailable(err) && ctx.Err() == nil && v.Check(ctx) == nil {
		err = unreadable(e.Key, v, err)
	}
	// Nothing has the digest of zeros, so that the reading ends in a refusal: the bytes are there all the same.
	if err != nil && (n != e.Size || !Damaged(err)) {
		return sum, err
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}
