package pecgateway

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// evidence is one message with everything that speaks about it.
type evidence struct {
	row         db.Message
	receipts    []db.Message // of a sent message
	reports     map[string][]db.Report
	authorities []db.TrustAuthority
	vouchings   map[string]db.Vouching // by name: those that reports speak of
}

// collect reads what belongs to a message. Faults: Precondition MESSAGE_UNREADABLE for one that could
// not be read: its bytes come from GetMessageContent.
func (s *Service) collect(ctx context.Context, name string) (*evidence, error) {
	e := &evidence{reports: map[string][]db.Report{}, vouchings: map[string]db.Vouching{}}
	err := s.db.View(ctx, strings.Split(name, "/")[1], func(ctx context.Context, tx pgx.Tx) error {
		var err error
		_, e.row, err = s.standing(ctx, tx, name)
		if err != nil {
			return err
		}
		e.receipts, err = q(tx).ReceiptsOf(ctx, db.ReceiptsOfParams{TenantID: e.row.TenantID, AboutID: &e.row.ID})
		if err != nil {
			return err
		}
		e.receipts = slices.DeleteFunc(e.receipts, func(r db.Message) bool { return destruction(r) != nil })
		for _, r := range append([]db.Message{e.row}, e.receipts...) {
			e.reports[r.ID.String()], err = q(tx).ListReports(ctx, db.ListReportsParams{TenantID: r.TenantID, MessageID: r.ID})
			if err != nil {
				return err
			}
		}
		e.authorities, err = q(tx).ListAuthorities(ctx)
		if err != nil {
			return err
		}
		return e.collectVouchings(ctx, tx)
	})
	if err == nil && e.row.QuarantineCode != "" && e.row.QuarantineCode != codeRejected {
		err = fault.Precondition(codeUnreadable, "the message could not be read, so there is no evidence about it: fetch its bytes")
	}
	return e, err
}

// collectVouchings reads what became of the words that reports name.
func (e *evidence) collectVouchings(ctx context.Context, tx pgx.Tx) error {
	for _, reports := range e.reports {
		for _, r := range reports {
			w := wordIn(r.Report)
			if w == nil || e.vouchings[w.Vouching].VouchedBy != "" {
				continue
			}
			id, err := uuid.Parse(w.Vouching[strings.LastIndex(w.Vouching, "/")+1:])
			if err != nil {
				return err
			}
			e.vouchings[w.Vouching], err = q(tx).GetVouching(ctx, db.GetVouchingParams{TenantID: e.row.TenantID, ID: id})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// bundle writes the ZIP and remembers the hash of each file.
type bundle struct {
	z    *zip.Writer
	at   time.Time // of packing: an entry without one is of day 0 of month 0
	sums []string
}

func (b *bundle) add(name string, r io.Reader) error {
	w, err := b.z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: b.at})
	if err != nil {
		return err
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(w, h), r)
	b.sums = append(b.sums, hex.EncodeToString(h.Sum(nil))+"  "+name)
	return err
}

// writeEvidence writes the message, the receipts about it, the reports, the authorities behind the
// signatures, and how to verify all this with openssl and sha256sum.
func (s *Service) writeEvidence(ctx context.Context, z *zip.Writer, e *evidence) error {
	b := &bundle{z: z, at: s.now()}
	var steps []string
	err := s.addMessage(ctx, b, e, e.row, "message", &steps)
	if err != nil {
		return err
	}
	for i, r := range e.receipts {
		err = s.addMessage(ctx, b, e, r, fmt.Sprintf("receipt-%02d-%s", i+1, or(r.Tipo, "message")), &steps)
		if err != nil {
			return err
		}
	}
	var roots strings.Builder
	for _, a := range e.authorities {
		fmt.Fprintf(&roots, "# %s\n%s", a.Subject, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate}))
	}
	for _, f := range []struct{ name, text string }{{"authorities.pem", roots.String()}, {"VERIFY.txt", verifyText(e, steps)}} {
		err = b.add(f.name, strings.NewReader(f.text))
		if err != nil {
			return err
		}
	}
	w, err := z.CreateHeader(&zip.FileHeader{Name: "SHA256SUMS", Method: zip.Deflate, Modified: b.at})
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, strings.Join(b.sums, "\n")+"\n")
	return err
}

// addMessage writes one message with its certification data, its original and its reports.
func (s *Service) addMessage(ctx context.Context, b *bundle, e *evidence, row db.Message, name string, steps *[]string) error {
	sp, err := s.fromArchive(ctx, row.ContentUri)
	if err != nil {
		return err
	}
	defer sp.close()
	err = b.add(name+".eml", io.NewSectionReader(sp, 0, sp.size))
	if err != nil {
		return err
	}
	r, err := pec.Read(sp, sp.size, pec.Limits{Size: s.cfg.MaxMessage})
	if err != nil {
		return nil // the bytes are there, and nothing else is known
	}
	var cuts []string
	if len(r.DaticertXML) > 0 {
		file := name + "-daticert.xml"
		err = b.add(file, strings.NewReader(string(r.DaticertXML)))
		if err != nil {
			return err
		}
		cuts = append(cuts, cutStep(r, r.DaticertPart, name, file))
	}
	if original, err := r.OriginalMessage(); err == nil && original != nil {
		file := name + "-postacert.eml"
		err = b.add(file, original.Raw())
		if err != nil {
			return err
		}
		cuts = append(cuts, cutStep(r, r.Original, name, file))
	}
	reports := e.reports[row.ID.String()]
	for i, rep := range reports {
		var pretty any
		if err := json.Unmarshal(rep.Report, &pretty); err != nil {
			return err
		}
		text, err := json.MarshalIndent(pretty, "", "  ")
		if err != nil {
			return err
		}
		err = b.add(fmt.Sprintf("%s-report-%d.json", name, i+1), strings.NewReader(string(text)+"\n"))
		if err != nil {
			return err
		}
	}
	if len(reports) == 0 || r.P7S == nil {
		return nil
	}
	last := reports[len(reports)-1]
	if !last.Proven {
		// The commands of the guide stop at the first that fails: what nobody claims to hold is no part of them.
		*steps = append(*steps, fmt.Sprintf("# %s.eml is not proven (%s): %s-report-%d.json says why. What openssl says of it:\n# %s",
			name, last.Status, name, len(reports), opensslStep(name, last))+e.takenBack(reports))
		return nil
	}
	*steps = append(*steps, strings.Join(append([]string{byWord(name, len(reports), last, row.Doubts) + opensslStep(name, last)}, cuts...), "\n"))
	return nil
}

// byWord says of a message that counts by a person's word whose it is, why it was given, and what the command after it cannot show.
func byWord(name string, number int, rep db.Report, doubts []string) string {
	w := wordIn(rep.Report)
	if w == nil {
		return ""
	}
	doubtful := ""
	for _, d := range doubts {
		doubtful += "# Doubtful about it: " + remark(d) + "\n"
	}
	return fmt.Sprintf("# %[1]s.eml is NOT proven by itself: it came after the certificate of its signer had ended, and counts by a person's word\n"+
		"# (%[1]s-report-%[2]d.json has it). %[3]s\n# Nothing shows %[4]s.\n"+
		"# The command asks whether it was right at the moment that the signature states of itself.\n", name, number, remark(w.says()), remark(w.NotShown)) + doubtful
}

// takenBack names the word that a message counted by and does not any more.
func (e *evidence) takenBack(reports []db.Report) string {
	for i := len(reports) - 1; i >= 0; i-- {
		w := wordIn(reports[i].Report)
		if w == nil {
			continue
		}
		out := "\n# It counted by a person's word once. " + remark(w.says())
		if v := e.vouchings[w.Vouching]; v.EndTime != nil {
			out += fmt.Sprintf("\n# %s took it back on %s: %s", remark(v.EndedBy), v.EndTime.UTC().Format(time.RFC3339), remark(v.EndReason))
		}
		return out
	}
	return ""
}

// remark makes one line of what people wrote: a shell runs the guide.
func remark(s string) string { return strings.Join(strings.Fields(trim(s, 2000)), " ") }

// opensslStep is the command that checks one message. The time is the one at which the certificates had
// to be valid: those that sign expire, and what they signed stays true.
func opensslStep(name string, rep db.Report) string {
	var rec record
	at := rep.CheckTime
	if json.Unmarshal(rep.Report, &rec) == nil && rec.Report != nil && !rec.JudgedAt.IsZero() {
		at = rec.JudgedAt
		if rec.Vouched != nil {
			at = rec.SigningTime
		}
	}
	return fmt.Sprintf("openssl cms -verify -inform SMIME -in %[1]s.eml -CAfile authorities.pem -purpose smimesign -attime %[2]d -out %[1]s.signed", name, at.Unix())
}

// cutStep is the command that cuts a part out of what openssl found signed and compares it with its file: the file alone is
// no provider's word.
func cutStep(r *pec.Reading, p *pec.Part, name, file string) string {
	if r.Signed == nil || p.BodyStart < r.Signed.Start || p.End > r.Signed.End {
		return fmt.Sprintf("# %s is no part of what is signed", file)
	}
	decode := ""
	switch p.Encoding {
	case "", "7bit", "8bit", "binary":
	case "base64":
		decode = " | tr -cd A-Za-z0-9+/= | base64 -d"
	case "quoted-printable":
		decode = " | python3 -m quopri -d"
	default:
		return fmt.Sprintf("# %s is in %s.signed, encoded as %q: compare it by hand", file, name, p.Encoding)
	}
	return fmt.Sprintf("tail -c +%d %s.signed | head -c %d%s | cmp - %s", p.BodyStart-r.Signed.Start+1, name, p.End-p.BodyStart, decode, file)
}

// verifyText is the guide: a shell runs it as it stands, and a person reads it.
func verifyText(e *evidence, steps []string) string {
	var t strings.Builder
	t.WriteString("# Evidence about one certified message, to be verified without the platform that kept it.\n" +
		"# sh -ex VERIFY.txt, in this folder, does it: the first thing that does not hold ends it.\n\n" +
		"# 1. The files are those that were packed.\n\nsha256sum -c SHA256SUMS\n\n" +
		"# 2. Each message is as its provider signed it, and the files beside it are cut out of what was signed.\n")
	for _, step := range steps {
		t.WriteString("\n" + step + "\n")
	}
	if len(steps) == 0 {
		t.WriteString("# (nothing here carries a provider's signature)\n")
	}
	t.WriteString("\n# authorities.pem holds the authorities that the platform trusted. Whoever doubts them compares them with those of\n" +
		"# the supervisory body. What the providers certify is in the *-daticert.xml files; the *-report-*.json files are what\n" +
		"# the platform found, and by which trust list.\n")
	if e.row.Direction == 2 {
		t.WriteString("# message.eml is what was handed over for sending: its Message-ID is the <msgid> that the receipts name.\n")
	}
	return t.String()
}
