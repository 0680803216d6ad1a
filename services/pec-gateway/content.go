package pecgateway

import (
	"archive/zip"
	"context"
	"io"
	"strings"

	"github.com/jackc/pgx/v5"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// piece is a file in a message with its number.
type piece struct {
	shown *pecv1.MessagePart
	part  *pec.Part
}

const (
	maxPieces = 1000
	headBytes = 80 // of a file, to see what it is
)

// partsOf lists the files of the envelope and of the original inside, in this order.
func partsOf(r *pec.Reading) []piece {
	var out []piece
	add := func(root *pec.Part, original bool) {
		for _, a := range root.Attachments() {
			if len(out) >= maxPieces {
				return
			}
			head := make([]byte, headBytes)
			n, _ := io.ReadFull(a.Part.Open(), head)
			danger := pec.Danger(or(a.Sent, a.Name), head[:n])
			if danger == "" {
				danger = pec.DangerInside(head[:n], a.Part.Open())
			}
			out = append(out, piece{part: a.Part, shown: &pecv1.MessagePart{
				Number: int32(len(out) + 1), FileName: a.Name, MediaType: trim(a.Part.MediaType, 200), Size: a.Size,
				Danger: danger, Original: original, SentName: sentName(a.Raw),
			}})
		}
	}
	add(r.Root, false)
	if original, err := r.OriginalMessage(); err == nil && original != nil {
		add(original, true)
	}
	return out
}

// sentName is a name with whatever characters it has, NUL too: it goes out and is stored nowhere.
func sentName(raw string) string {
	const most = 2000
	raw = strings.ToValidUTF8(raw, "\uFFFD")
	return strings.ToValidUTF8(raw[:min(most, len(raw))], "")
}

// chunk is how many bytes travel in one answer.
const chunk = 64 << 10

// GetMessageContent streams the bytes of a message or of a part of it. Faults: NotFound PART_NOT_FOUND,
// Precondition DOCUMENT_DESTROYED.
func (s *Service) GetMessageContent(req *pecv1.GetMessageContentRequest, stream pecv1.PecService_GetMessageContentServer) error {
	ctx := stream.Context()
	row, err := s.rowOf(ctx, req.GetName())
	if err != nil {
		return err
	}
	sp, err := s.fromArchive(ctx, row.ContentUri)
	if err != nil {
		return err
	}
	defer sp.close()
	name, mediaType, r, err := s.pick(sp, row, req)
	if err != nil {
		return err
	}
	first := &pecv1.GetMessageContentResponse{FileName: name, MediaType: mediaType}
	buf := make([]byte, chunk)
	for sent := false; ; sent = true {
		n, err := io.ReadFull(r, buf)
		if n > 0 || !sent {
			first.Data = buf[:n]
			if sendErr := stream.Send(first); sendErr != nil {
				return sendErr
			}
			first = &pecv1.GetMessageContentResponse{}
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *Service) rowOf(ctx context.Context, name string) (row db.Message, err error) {
	err = s.db.View(ctx, strings.Split(name, "/")[1], func(ctx context.Context, tx pgx.Tx) error {
		var err error
		_, row, err = s.standing(ctx, tx, name)
		return err
	})
	return row, err
}

// pick finds what of the message is asked for.
func (s *Service) pick(sp *spool, row db.Message, req *pecv1.GetMessageContentRequest) (name, mediaType string, r io.Reader, err error) {
	if req.GetWhat() == nil {
		return row.ID.String() + ".eml", "message/rfc822", io.NewSectionReader(sp, 0, sp.size), nil
	}
	none := func(what string) error {
		return fault.NotFound("PART_NOT_FOUND", "%s has no %s", req.GetName(), what)
	}
	reading, err := pec.Read(sp, sp.size, pec.Limits{Size: s.cfg.MaxMessage})
	if err != nil {
		return "", "", nil, fault.Precondition(codeUnreadable, "the message cannot be read, only fetched as a whole: %v", err)
	}
	switch what := req.GetWhat().(type) {
	case *pecv1.GetMessageContentRequest_Original:
		original, err := reading.OriginalMessage()
		if err != nil || original == nil {
			return "", "", nil, none("original inside")
		}
		return "postacert.eml", "message/rfc822", original.Raw(), nil
	case *pecv1.GetMessageContentRequest_Certification:
		if len(reading.DaticertXML) == 0 {
			return "", "", nil, none("daticert.xml")
		}
		return "daticert.xml", "application/xml", strings.NewReader(string(reading.DaticertXML)), nil
	case *pecv1.GetMessageContentRequest_Part:
		for _, p := range partsOf(reading) {
			if p.shown.GetNumber() == what.Part {
				return p.shown.GetFileName(), p.shown.GetMediaType(), p.part.Open(), nil
			}
		}
	case *pecv1.GetMessageContentRequest_Text:
		text, err := reading.PlainText()
		return row.ID.String() + ".txt", "text/plain; charset=utf-8", strings.NewReader(text), err
	}
	return "", "", nil, none("such part")
}

// GetMessageEvidence streams a ZIP that proves a message without us.
func (s *Service) GetMessageEvidence(req *pecv1.GetMessageEvidenceRequest, stream pecv1.PecService_GetMessageEvidenceServer) error {
	ctx := stream.Context()
	e, err := s.collect(ctx, req.GetName())
	if err != nil {
		return err
	}
	out := &evidenceStream{stream: stream, name: "evidence-" + e.row.ID.String() + ".zip"}
	z := zip.NewWriter(out)
	err = s.writeEvidence(ctx, z, e)
	if err != nil {
		return err
	}
	err = z.Close()
	if err != nil {
		return err
	}
	return out.flush()
}

// evidenceStream sends what is written in chunks.
type evidenceStream struct {
	stream pecv1.PecService_GetMessageEvidenceServer
	name   string
	buf    []byte
}

func (w *evidenceStream) Write(p []byte) (int, error) {
	w.buf = append(w.buf, p...)
	if len(w.buf) >= chunk {
		return len(p), w.flush()
	}
	return len(p), nil
}

func (w *evidenceStream) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	err := w.stream.Send(&pecv1.GetMessageEvidenceResponse{FileName: w.name, Data: w.buf})
	w.buf, w.name = w.buf[:0:0], ""
	return err
}
