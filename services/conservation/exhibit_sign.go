package conservation

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/format/pdd"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
)

// holdTime is what the keeping of a signature may take.
const holdTime = 10 * time.Second

// finish writes the index of everything that the ZIP holds.
func (b *builder) finish() error {
	index, err := b.index()
	if err == nil {
		err = b.write(pdd.IndexFile, index)
	}
	if err != nil {
		return err
	}
	err = b.zip.Close()
	if err != nil {
		return fmt.Errorf("conservation: zip: %w", err)
	}
	return nil
}

// holdUnsigned builds a distribution and keeps it as it is to be signed, before the signer is asked: built anew, it would hold what the log proves
// then, and each attempt would be another signature. Of many attempts the first one counts.
func (s *Service) holdUnsigned(ctx context.Context, row db.Distribution) error {
	file, err := s.build(ctx, row)
	if err != nil {
		return err
	}
	defer drop(file)
	ref, err := s.storeFor(ctx, row, file)
	if err != nil {
		return err
	}
	return s.db.Tx(ctx, row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		return db.New(tx).HoldDistribution(ctx, db.HoldDistributionParams{ID: row.ID, Sha256: ref.SHA256[:], Size: &ref.Size})
	})
}

// storeFor puts a file of a distribution into the platform's store. It is noted before, so that the eraser finds it whatever happens after.
func (s *Service) storeFor(ctx context.Context, row db.Distribution, from io.ReadSeeker) (blob.Ref, error) {
	_, err := from.Seek(0, io.SeekStart)
	sum, size := sha256.New(), int64(0)
	if err == nil {
		size, err = io.Copy(sum, from)
	}
	if err == nil {
		_, err = from.Seek(0, io.SeekStart)
	}
	if err != nil {
		return blob.Ref{}, fmt.Errorf("conservation: distribution: %w", err)
	}
	err = s.noteFor(ctx, row, sum.Sum(nil), size)
	if err != nil {
		return blob.Ref{}, err
	}
	return s.blobs.PutReader(ctx, row.TenantID, from)
}

func (s *Service) noteFor(ctx context.Context, row db.Distribution, sum []byte, size int64) error {
	return s.db.Tx(ctx, row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		return db.New(tx).NoteDistributionBlob(ctx, db.NoteDistributionBlobParams{Distribution: row.ID, TenantID: row.TenantID, Sha256: sum, Size: size, At: pg.Time(s.now())})
	})
}

// close writes what comes after the signature.
func (b *builder) close(index, p7m, tsr []byte) error {
	sums := ""
	for _, f := range []struct {
		name    string
		content []byte
	}{{pdd.IndexFile, index}, {pdd.SignedFile, p7m}, {pdd.StampFile, tsr}} {
		sum := sha256.Sum256(f.content)
		sums += hex.EncodeToString(sum[:]) + "  " + f.name + "\n"
	}
	err := b.write(pdd.StampFile, tsr)
	if err == nil {
		err = b.write(pdd.SumsFile, []byte(sums))
	}
	if err != nil {
		return err
	}
	err = b.zip.Close()
	if err != nil {
		return fmt.Errorf("conservation: zip: %w", err)
	}
	return nil
}

// goOn signs and stamps a distribution that is held.
func (s *Service) goOn(ctx context.Context, row db.Distribution) (*os.File, error) {
	err := s.noteFor(ctx, row, row.HeldSha256, *row.HeldSize) // a process of a release before notes nothing
	if err != nil {
		return nil, err
	}
	held, err := s.spoolBlob(ctx, refOf(row.TenantID, row.HeldSha256, row.HeldSize))
	if err != nil {
		return nil, err
	}
	defer drop(held)
	return s.bind(ctx, row, held, *row.HeldSize)
}

// bind gives a distribution its signature and its time stamp. Its files are copied as they lie in the ZIP that was built.
func (s *Service) bind(ctx context.Context, row db.Distribution, built *os.File, size int64) (*os.File, error) {
	z, err := zip.NewReader(built, size)
	if err != nil {
		return nil, fmt.Errorf("conservation: zip: %w", err)
	}
	content := map[string][]byte{}
	for _, e := range z.File {
		if _, name, _ := strings.Cut(e.Name, "/"); name == pdd.IndexFile || name == pdd.SignedFile {
			content[name], err = contentOf(e)
			if err != nil {
				return nil, fmt.Errorf("conservation: zip %s: %w", e.Name, err)
			}
		}
	}
	index, p7m := content[pdd.IndexFile], content[pdd.SignedFile] // releases before held what was signed in the ZIP
	if index == nil {
		return nil, fault.Internal("DISTRIBUTION_UNINDEXED", "what is held of distribution %s has no index", row.ID)
	}
	inside := p7m != nil
	if !inside {
		p7m, err = s.signDistribution(ctx, row, index)
		if err != nil {
			return nil, err
		}
	}
	signed := sha256.Sum256(p7m)
	tsr, _, err := s.stampDigest(ctx, signed[:])
	if err != nil {
		if !inside && row.SignedSha256 == nil {
			err = s.holdSignature(ctx, row, p7m, err)
		}
		return nil, err
	}
	file, err := scratch()
	if err != nil {
		return nil, err
	}
	b := &builder{s: s, row: row, file: file, zip: zip.NewWriter(file)}
	b.compress()
	for _, e := range z.File {
		if err == nil {
			err = b.zip.Copy(e)
		}
	}
	if err == nil && !inside {
		err = b.write(pdd.SignedFile, p7m)
	}
	if err == nil {
		err = b.close(index, p7m, tsr)
	}
	if err != nil {
		drop(file)
		return nil, fmt.Errorf("conservation: distribution %s: %w", row.ID, err)
	}
	return file, nil
}

// signDistribution has the index signed, unless that was done. The same index has one signature, however often it is asked for.
func (s *Service) signDistribution(ctx context.Context, row db.Distribution, index []byte) ([]byte, error) {
	if row.SignedSha256 != nil {
		return s.blobs.Get(ctx, refOf(row.TenantID, row.SignedSha256, row.SignedSize))
	}
	sum := sha256.Sum256(index)
	return s.signContent(ctx, row.TenantID, distributionName(row.TenantID, row.ID), mimeXML, uuid.NewSHA1(distributionSpace, append(row.ID[:], sum[:]...)), index)
}

// holdSignature keeps what is signed and cannot be stamped, since the signer keeps it for a while only. It gives the reason, which is why.
func (s *Service) holdSignature(ctx context.Context, row db.Distribution, p7m []byte, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), holdTime) // also when the process is being stopped
	defer cancel()
	ref, err := s.storeFor(ctx, row, bytes.NewReader(p7m))
	if err == nil {
		err = s.db.Tx(ctx, row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
			return db.New(tx).HoldSignature(ctx, db.HoldSignatureParams{ID: row.ID, Sha256: ref.SHA256[:], Size: &ref.Size})
		})
	}
	if err != nil {
		return fmt.Errorf("conservation: hold a signed distribution (%w): %w", why, err)
	}
	return why
}

func contentOf(e *zip.File) ([]byte, error) {
	r, err := e.Open()
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(r)
	return raw, errors.Join(err, r.Close())
}
