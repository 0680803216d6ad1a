package conservation

import (
	"archive/zip"
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
	"ceralacca.dev/services/internal/fault"
)

// holdTime is what the keeping of a signed distribution may take.
const holdTime = 10 * time.Second

// finish writes the index of everything that the ZIP holds, its signature and its time stamp. What is signed and cannot be stamped is held: built
// anew it would hold what the log proves then, and each attempt would be another signature.
func (b *builder) finish(ctx context.Context) error {
	index, err := b.index()
	if err != nil {
		return err
	}
	sum := sha256.Sum256(index)
	p7m, err := b.s.signContent(ctx, b.row.TenantID, distributionName(b.row.TenantID, b.row.ID), mimeXML, uuid.NewSHA1(distributionSpace, append(b.row.ID[:], sum[:]...)), index)
	if err != nil {
		return err
	}
	err = b.write(pdd.IndexFile, index)
	if err == nil {
		err = b.write(pdd.SignedFile, p7m)
	}
	if err != nil {
		return err
	}
	signed := sha256.Sum256(p7m)
	tsr, _, err := b.s.stampDigest(ctx, signed[:])
	if err == nil {
		return b.close(index, p7m, tsr)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), holdTime) // also when the process is being stopped
	defer cancel()
	held := b.hold(ctx)
	if held != nil {
		return fmt.Errorf("conservation: hold a signed distribution (%w): %w", err, held)
	}
	return err
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

// hold stores the ZIP as it is, with index and signature.
func (b *builder) hold(ctx context.Context) error {
	err := b.zip.Close()
	if err == nil {
		_, err = b.file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return fmt.Errorf("conservation: zip: %w", err)
	}
	ref, err := b.s.blobs.PutReader(ctx, b.row.TenantID, b.file)
	if err != nil {
		return err
	}
	return b.s.db.Tx(ctx, b.row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		return db.New(tx).HoldDistribution(ctx, db.HoldDistributionParams{ID: b.row.ID, Sha256: ref.SHA256[:], Size: &ref.Size})
	})
}

// goOn stamps a distribution that is signed. Its files are copied as they lie in the ZIP that was held.
func (s *Service) goOn(ctx context.Context, row db.Distribution) (*os.File, error) {
	held, err := s.spoolBlob(ctx, refOf(row.TenantID, row.HeldSha256, row.HeldSize))
	if err != nil {
		return nil, err
	}
	defer drop(held)
	z, err := zip.NewReader(held, *row.HeldSize)
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
	if len(content) != 2 {
		return nil, fault.Internal("DISTRIBUTION_UNSIGNED", "what is held of distribution %s has no signature", row.ID)
	}
	signed := sha256.Sum256(content[pdd.SignedFile])
	tsr, _, err := s.stampDigest(ctx, signed[:])
	if err != nil {
		return nil, err
	}
	file, err := scratch()
	if err != nil {
		return nil, err
	}
	b := &builder{s: s, row: row, file: file, zip: zip.NewWriter(file)}
	for _, e := range z.File {
		if err == nil {
			err = b.zip.Copy(e)
		}
	}
	if err == nil {
		err = b.close(content[pdd.IndexFile], content[pdd.SignedFile], tsr)
	}
	if err != nil {
		drop(file)
		return nil, fmt.Errorf("conservation: distribution %s: %w", row.ID, err)
	}
	return file, nil
}

func contentOf(e *zip.File) ([]byte, error) {
	r, err := e.Open()
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(r)
	return raw, errors.Join(err, r.Close())
}
