package pecgateway

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/encoding/protojson"

	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
)

const logPage = 1000

// logExport is what is written of the log: how many entries, from which to which number, with which hash.
type logExport struct {
	entries     int64
	first, last int64
	size        int64
	sum         hash.Hash
}

// Write counts and hashes.
func (e *logExport) Write(p []byte) (int, error) {
	e.size += int64(len(p))
	return e.sum.Write(p)
}

// writeLog writes the log as CSV, oldest first. A page is a transaction of its own: what is written meanwhile comes at
// the end.
func (s *Service) writeLog(ctx context.Context, req *pecv1.ExportLogRequest, w io.Writer) (*logExport, error) {
	tenant := strings.Split(req.GetParent(), "/")[1]
	e := &logExport{sum: sha256.New()}
	out := csv.NewWriter(io.MultiWriter(w, e))
	out.UseCRLF = true
	err := out.Write([]string{"number", "time", "event", "type", "message_id", "reference", "provider_id", "sender", "recipients", "subject", "certified_time", "proof",
		"detail", "message", "receipt"})
	var after *spot[int64]
	for more := true; err == nil && more; more = after != nil {
		var rows []logRow
		err = s.db.View(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
			boxes, err := s.reachable(ctx, tx, req.GetParent())
			if err != nil || len(boxes) == 0 {
				after = nil
				return err
			}
			search, err := searchLog(req.GetFilter(), tenant, boxes)
			if err != nil {
				return err
			}
			rows, after, err = readLog(ctx, tx, search, after, true, logPage)
			return err
		})
		for i := range rows {
			if err == nil {
				err = out.Write(rows[i].line(tenant))
			}
			e.count(rows[i].number)
		}
	}
	out.Flush()
	return e, errors.Join(err, out.Error())
}

// count notes an entry. Entries are in the order of their times, which need not be that of their numbers.
func (e *logExport) count(number int64) {
	if e.entries == 0 {
		e.first = number
	}
	e.entries, e.first, e.last = e.entries+1, min(e.first, number), max(e.last, number)
}

// logStream sends what is written to it; the name of the file goes with the first piece.
type logStream struct {
	stream pecv1.PecDeskService_ExportLogServer
	name   string
}

func (l *logStream) Write(p []byte) (int, error) {
	err := l.stream.Send(&pecv1.ExportLogResponse{FileName: l.name, Data: p})
	l.name = ""
	return len(p), err
}

// ExportLog streams the log, signed if asked. Faults: Precondition LOG_NOT_SIGNED.
func (s *Service) ExportLog(req *pecv1.ExportLogRequest, stream pecv1.PecDeskService_ExportLogServer) error {
	ctx, now := stream.Context(), s.now().UTC()
	name := "log-" + now.Format("20060102T150405Z")
	if !req.GetSigned() {
		out := bufio.NewWriterSize(&logStream{stream, name + ".csv"}, chunk)
		_, err := s.writeLog(ctx, req, out)
		return errors.Join(err, out.Flush())
	}
	if s.cfg.Desk.LogCredential == "" {
		return fault.Precondition("LOG_NOT_SIGNED", "the platform has no credential to sign logs with (pec-gateway.desk.log_credential): ask for the log as it is")
	}
	out := bufio.NewWriterSize(&logStream{stream, name + ".zip"}, chunk)
	z := zip.NewWriter(out)
	err := s.writeSignedLog(ctx, req, z, name+".csv", now)
	if err != nil {
		return err
	}
	return errors.Join(z.Close(), out.Flush())
}

// manifest says what a log is. It is what is signed: a log may be too large to be signed itself.
type manifest struct {
	Kind        string          `json:"kind"`
	Mailboxes   string          `json:"mailboxes"`
	Filter      json.RawMessage `json:"filter"`
	Time        time.Time       `json:"time"`
	File        string          `json:"file"`
	Size        int64           `json:"size"`
	SHA256      string          `json:"sha256"`
	Entries     int64           `json:"entries"`
	FirstNumber int64           `json:"first_number"`
	LastNumber  int64           `json:"last_number"`
}

func (s *Service) writeSignedLog(ctx context.Context, req *pecv1.ExportLogRequest, z *zip.Writer, file string, now time.Time) error {
	w, err := z.CreateHeader(&zip.FileHeader{Name: file, Method: zip.Deflate, Modified: now})
	if err != nil {
		return err
	}
	e, err := s.writeLog(ctx, req, w)
	if err != nil {
		return err
	}
	filter := []byte("{}")
	if req.GetFilter() != nil {
		filter, err = protojson.Marshal(req.GetFilter())
		if err != nil {
			return err
		}
	}
	text, err := json.MarshalIndent(manifest{Kind: "ceralacca.pec.log/1", Mailboxes: req.GetParent(), Filter: filter, Time: now, File: file, Size: e.size,
		SHA256: hex.EncodeToString(e.sum.Sum(nil)), Entries: e.entries, FirstNumber: e.first, LastNumber: e.last}, "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	p7m, err := s.signManifest(ctx, strings.Split(req.GetParent(), "/")[1], req.GetParent()+"/log", text)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{"manifest.json", text}, {"manifest.json.p7m", p7m}, {"VERIFY.txt", []byte(verifyLog)}} {
		w, err := z.CreateHeader(&zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: now})
		if err == nil {
			_, err = w.Write(f.data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

const verifyLog = `The log of certified mail as the platform had it, to be verified without the platform.

1. The manifest is signed (CAdES). AUTHORITIES.pem are the authorities of qualified trust service providers that you
   trust; take them from the trusted list of the Union:

   openssl cms -verify -binary -inform DER -in manifest.json.p7m -CAfile AUTHORITIES.pem -purpose any -out signed-manifest.json
   cmp signed-manifest.json manifest.json

2. The log is the one that the manifest names: its SHA-256 and its size are those in the manifest.

   sha256sum log-*.csv

3. Each entry that a provider certifies ("proven") has a receipt. What proves that one is in the evidence of the message
   (ceralacca pec message evidence): the log says that it was received, the receipt says what happened.
`

// manifestSpace makes the request id of a signature from what is signed.
var manifestSpace = uuid.MustParse("7f1f8a0e-35a5-4b0c-9a5c-6f7c2b1f4f5d")

// signManifest has the signer sign, and reads the answer back before it counts: the bytes inside have to be the manifest,
// and the signature has to hold.
func (s *Service) signManifest(ctx context.Context, tenant, subject string, text []byte) ([]byte, error) {
	ref, err := s.blobs.Put(ctx, tenant, text)
	if err != nil {
		return nil, err
	}
	answer, err := s.signer.SignBlob(ctx, &signv1.SignBlobRequest{
		Parent: "tenants/" + tenant, Credential: s.cfg.Desk.LogCredential, Subject: subject,
		Content:   &eventv1.Blob{Uri: ref.URI(), Sha256: ref.SHA256[:], Size: ref.Size, MediaType: "application/json"},
		RequestId: uuid.NewSHA1(manifestSpace, ref.SHA256[:]).String(),
	})
	if errors.Is(err, fault.NotFound("CREDENTIAL_NOT_FOUND", "")) {
		return nil, fault.Precondition("LOG_NOT_SIGNED", "the signer has no credential %s: mend pec-gateway.desk.log_credential", s.cfg.Desk.LogCredential).With(err)
	}
	if err != nil {
		return nil, fmt.Errorf("pec-gateway: signer: %w", err)
	}
	signed, err := blob.ParseURI(answer.GetSigned().GetUri())
	if err != nil {
		return nil, fmt.Errorf("pec-gateway: signer's answer: %w", err)
	}
	p7m, err := s.blobs.Get(ctx, signed)
	if err != nil {
		return nil, err
	}
	sd, report, err := cades.Verify(p7m, cades.VerifyOptions{})
	if err == nil {
		err = report.Err()
	}
	if err != nil {
		return nil, fault.Internal("SIGNATURE_NOT_VERIFIED", "the signer's answer does not verify").With(err)
	}
	if !bytes.Equal(sd.Content(), text) {
		return nil, fault.Internal("SIGNATURE_NOT_VERIFIED", "the signer signed something else than the manifest")
	}
	return p7m, nil
}
