package invoice

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"context"
	"encoding/csv"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"path"
	"strconv"
	"strings"
	"time"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/invoice/internal/db"
)

// zipExport writes the documents: for each invoice a folder with what was sent (or the original, while
// nothing was) and the receipts, and at the end index.csv with one line for each file.
type zipExport struct {
	blobs blob.Store
	zip   *zip.Writer
	index *zipIndex
}

func newZipExport(blobs blob.Store, out io.Writer) (*zipExport, error) {
	index, err := newZipIndex()
	if err != nil {
		return nil, err
	}
	return &zipExport{blobs: blobs, zip: zip.NewWriter(out), index: index}, nil
}

// zipIndex is index.csv, packed while it grows: some thirty bytes for each file are all that an export
// keeps in memory.
type zipIndex struct {
	packed bytes.Buffer
	flate  *flate.Writer
	sum    uint32
	size   uint64
	csv    *csv.Writer
}

func newZipIndex() (*zipIndex, error) {
	x := &zipIndex{}
	var err error
	x.flate, err = flate.NewWriter(&x.packed, flate.DefaultCompression)
	if err != nil {
		return nil, fmt.Errorf("invoice: index of the export: %w", err)
	}
	if _, err := io.WriteString(x, byteOrderMark); err != nil {
		return nil, err
	}
	x.csv = csv.NewWriter(x)
	x.csv.UseCRLF = true
	return x, x.csv.Write([]string{"path", "kind", "receipt_type", "media_type", "size", "sha256", "invoice", "state",
		"document_type", "number", "issue_date", "seller", "buyer", "sdi_id", "external_id"})
}

// Write packs bytes of the index.
func (x *zipIndex) Write(p []byte) (int, error) {
	x.sum, x.size = crc32.Update(x.sum, crc32.IEEETable, p), x.size+uint64(len(p))
	return x.flate.Write(p)
}

func (z *zipExport) add(ctx context.Context, e *exported) error {
	first := body{}
	if len(e.bodies) > 0 {
		first = e.bodies[0]
	}
	folder := e.row.CompanyID + "/" + first.Date + "_" + e.row.ID.String() + "/"
	taken := map[string]bool{}
	for _, d := range sentAndReceipts(e) {
		content, err := readBlob(ctx, z.blobs, d.Uri)
		if err != nil {
			return err
		}
		name := memberName(d.FileName)
		if name == "" || taken[strings.ToLower(name)] {
			name = d.ID + "_" + name
		}
		taken[strings.ToLower(name)] = true
		w, err := z.zip.CreateHeader(&zip.FileHeader{Name: folder + name, Method: zip.Deflate, Modified: d.CreateTime.UTC().Truncate(time.Second)})
		if err != nil {
			return fmt.Errorf("invoice: export: %w", err)
		}
		if _, err := w.Write(content); err != nil {
			return err
		}
		ref := blob.Of(e.row.TenantID, content)
		err = z.index.csv.Write(cells(folder+name, strings.TrimPrefix(invoicev1.DocumentKind(d.Kind).String(), "DOCUMENT_KIND_"), d.ReceiptType,
			d.MediaType, strconv.Itoa(len(content)), hex.EncodeToString(ref.SHA256[:]), nameOf(e.row).String(), stateName(e.row),
			first.Type, first.Number, first.Date, e.row.SellerName, e.row.BuyerName, e.row.SdiID, e.row.ExternalID))
		if err != nil {
			return err
		}
	}
	return nil
}

func (z *zipExport) close() error {
	x := z.index
	x.csv.Flush()
	if err := x.csv.Error(); err != nil {
		return err
	}
	if err := x.flate.Close(); err != nil {
		return err
	}
	w, err := z.zip.CreateRaw(&zip.FileHeader{Name: "index.csv", Method: zip.Deflate, CRC32: x.sum,
		CompressedSize64: uint64(x.packed.Len()), UncompressedSize64: x.size})
	if err != nil {
		return fmt.Errorf("invoice: index of the export: %w", err)
	}
	if _, err := x.packed.WriteTo(w); err != nil {
		return err
	}
	return z.zip.Close()
}

// sentAndReceipts lists what belongs into an export: the file that was sent, else the signed one, else the
// original; then the receipts.
func sentAndReceipts(e *exported) []db.ListDocumentsRow {
	var sent *db.ListDocumentsRow
	var out []db.ListDocumentsRow
	for i := range e.documents {
		d := e.documents[i]
		d.FileName = fileName(e.row.ID.String(), e.row.FileName, d.MediaType, d.FileName)
		switch {
		case d.Kind == int16(invoicev1.DocumentKind_DOCUMENT_KIND_RECEIPT):
			out = append(out, d)
		case d.Uri == e.row.TransmittedUri, sent == nil,
			sent.Uri != e.row.TransmittedUri && d.Kind == int16(invoicev1.DocumentKind_DOCUMENT_KIND_SIGNED):
			sent = &d
		}
	}
	if sent == nil {
		return out
	}
	if sent.Uri == e.row.TransmittedUri && e.row.FileName != "" {
		sent.FileName = e.row.FileName
	}
	return append([]db.ListDocumentsRow{*sent}, out...)
}

// memberName is the last part of a name, safe to unpack.
func memberName(name string) string {
	base := shownName(path.Base(strings.NewReplacer(`\`, "/", ":", "_").Replace(name)))
	if base == "." || base == ".." || base == "/" {
		return ""
	}
	return base
}

func stateName(row *db.Invoice) string {
	return strings.TrimPrefix(invoicev1.InvoiceState(row.State).String(), "INVOICE_STATE_")
}
