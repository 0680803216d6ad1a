package e2e

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/tests/harness"
)

// TestDisposal takes documents of long ago (invoices that came in a batch, certified mail of a mailbox that was restored) from the
// exchange to the archive and from there through list, authorisation, two persons and destruction. Every service of the platform
// answers, and nobody plays one. Then no file of any store tells of them, in whatever it is packed, and what stands is whole; what
// shared an archive with them goes with the last that needed it. A received invoice stands: whatever date its seller writes, its term
// begins in one of the last ten years.
func TestDisposal(t *testing.T) {
	inBothModes(t, func(t *testing.T, p *harness.Platform) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		require.NoError(t, p.TrustCertifiedMail(ctx))
		c, err := p.Onboard(ctx, 1)
		require.NoError(t, err)
		s := &scarto{terminal: terminal{t, p, c.Key, c.Tenant}, ctx: ctx, c: c, dir: t.TempDir(),
			gone: fmt.Sprintf("zappaterra%d", p.Number(1)), next: fmt.Sprintf("restaforte%d", p.Number(1)), stays: fmt.Sprintf("rimanente%d", p.Number(1))}
		s.issue()
		s.receive()
		s.restore()
		s.preserve()
		s.show()
		require.NotEmpty(t, s.tell(s.gone))
		before := s.digests()

		s.dispose(s.packages["2012"], s.packages["PEC"])
		s.reported(before)
		require.Empty(t, s.tell(s.gone, s.batch), "what tells of the destroyed, but for the archive that another invoice came in")
		require.Contains(t, s.tell(s.gone), s.batch, "which that one needs")
		s.tombstones()

		s.dispose(s.packages["2013"])
		require.Empty(t, s.tell(s.gone), "the archive went with the last invoice that came in it")
		require.Empty(t, s.tell(s.next))
		require.NotEmpty(t, s.tell(s.stays))
		require.Contains(t, s.does("inbound", "download", s.inbound, "--kind", "content"), s.stays)
		s.verifies()
		parked, err := c.Parked(ctx)
		require.NoError(t, err)
		require.Empty(t, parked)
	})
}

// scarto is a customer with documents whose time is over.
type scarto struct {
	terminal
	ctx               context.Context
	c                 *harness.Customer
	dir               string
	gone, next, stays string // names that documents have: those that are destroyed first, then, and never
	elsewhere         string // a tenant who has one of them too, and destroys nothing

	batch     string // the file in the platform's store that two invoices came in
	invoices  map[string]string
	inbound   string
	message   string // in {mailbox}/{message} form
	packages  map[string]string
	disposals []string
}

func (s *scarto) file(name string) string { return filepath.Join(s.dir, name) }

func (s *scarto) eventually(what string, fn func() bool) {
	s.t.Helper()
	require.Eventually(s.t, fn, 2*time.Minute, 250*time.Millisecond, what) // each look is a program
}

// json is what a command prints with --format json.
func (s *scarto) json(into any, arguments ...string) {
	s.t.Helper()
	require.NoError(s.t, json.Unmarshal([]byte(s.does(append(arguments, "--format", "json")...)), into), arguments)
}

// issue uploads a batch of two invoices of different years and sees both delivered.
func (s *scarto) issue() {
	s.t.Helper()
	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	for year, buyer := range map[string]string{"2012": s.gone, "2013": s.next} {
		w, err := z.Create(buyer + ".xml")
		require.NoError(s.t, err)
		_, err = w.Write(fatturapatest.Invoice(fatturapatest.Options{
			Numero: "D-" + year, Data: year + "-05-04", CodiceDestinatario: "SBXRC00",
			Cedente:     fatturapatest.Party{Paese: "IT", Codice: s.c.VAT, Denominazione: "Customer"},
			Cessionario: fatturapatest.Party{Paese: "IT", Codice: fatturapatest.VATNumber(77), Denominazione: buyer},
		}))
		require.NoError(s.t, err)
	}
	require.NoError(s.t, z.Close())
	require.NoError(s.t, os.WriteFile(s.file("old.zip"), archive.Bytes(), 0o600))
	s.batch = fmt.Sprintf("%x", sha256.Sum256(archive.Bytes()))
	s.does("batch", "upload", s.file("old.zip"), "--company", "main", "--wait")
	var list struct {
		Invoices []struct {
			Name, State  string
			PreserveTime string `json:"preserve_time"`
			Bodies       []struct{ Number string }
		}
	}
	s.eventually("delivered and in custody", func() bool {
		s.json(&list, "invoice", "ls")
		done := len(list.Invoices) == 2
		for _, i := range list.Invoices {
			done = done && i.State == "INVOICE_STATE_DELIVERED" && i.PreserveTime != ""
		}
		return done
	})
	s.invoices = map[string]string{}
	for _, i := range list.Invoices {
		s.invoices[strings.TrimPrefix(i.Bodies[0].Number, "D-")] = i.Name
	}
}

// receive has SdI bring an invoice that says to be of the same year.
func (s *scarto) receive() {
	s.t.Helper()
	_, err := s.p.Sandbox.Deliver(s.ctx, client.DeliveryRequest{RecipientCode: "CERALAC", File: fatturapatest.Invoice(fatturapatest.Options{
		Numero: "R-2012", Data: "2012-06-07", CodiceDestinatario: "CERALAC",
		Cedente:     fatturapatest.Party{Paese: "IT", Codice: fatturapatest.VATNumber(78), Denominazione: s.stays},
		Cessionario: fatturapatest.Party{Paese: "IT", Codice: s.c.VAT, Denominazione: "Customer"},
	})})
	require.NoError(s.t, err)
	s.inbound = awaitInbound(s.ctx, s.t, s.c).GetName()
}

// restore takes over a mailbox of 2012 that another provider of this service exported, and hands its message over to the archive.
func (s *scarto) restore() {
	s.t.Helper()
	other, err := s.p.Onboard(s.ctx, 2)
	require.NoError(s.t, err)
	theirs := terminal{s.t, s.p, other.Key, other.Tenant}
	s.elsewhere = last(other.Tenant)
	old, err := other.CertifiedMailbox(s.ctx)
	require.NoError(s.t, err)
	require.NoError(s.t, s.p.Sandbox.ForgePEC(s.ctx, client.PECForge{Mailbox: old.GetAddress(), Tipo: "accettazione", MsgID: s.gone + "@alfa.test", Recipient: s.gone + "@beta.test", How: "valid"}))
	s.eventually("it came", func() bool {
		return strings.Contains(theirs.does("pec", "message", "ls", old.GetAddress()), "ACCEPTANCE")
	})
	theirs.does("pec", "archive", "export", old.GetAddress(), "-f", s.file("mailbox.zip"))
	aged(s.t, s.file("mailbox.zip"), "2012-03-04T05:06:07Z")

	box, err := s.c.CertifiedMailbox(s.ctx)
	require.NoError(s.t, err)
	s.does("pec", "mailbox", "suspend", box.GetAddress())
	require.Equal(s.t, "1", field(s.t, s.does("pec", "archive", "restore", box.GetAddress(), s.file("mailbox.zip")), "restored"))
	s.does("pec", "mailbox", "resume", box.GetAddress())
	found := regexp.MustCompile(`(?m)^([0-9a-f-]{36}) .* ACCEPTANCE .* proven `).FindStringSubmatch(s.does("pec", "message", "ls", box.GetAddress()))
	require.NotNil(s.t, found)
	s.message = box.GetAddress() + "/" + found[1]
	s.does("pec", "preserve", box.GetAddress(), found[1])
}

// aged makes an exported mailbox one of another time.
func aged(t *testing.T, name, at string) {
	t.Helper()
	raw, err := os.ReadFile(name)
	require.NoError(t, err)
	in, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	require.NoError(t, err)
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, f := range in.File {
		r, err := f.Open()
		require.NoError(t, err)
		content, err := io.ReadAll(r)
		require.NoError(t, err)
		if f.Name == "index.jsonl" {
			content = regexp.MustCompile(`"time":"[^"]*"`).ReplaceAll(content, []byte(`"time":"`+at+`"`))
			require.Contains(t, string(content), at)
		}
		member, err := w.Create(f.Name)
		require.NoError(t, err)
		_, err = member.Write(content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	require.NoError(t, os.WriteFile(name, out.Bytes(), 0o600))
}

type unitLine struct{ Name, State, Subject, Package string }

func (s *scarto) units() (list []unitLine) {
	s.t.Helper()
	var page struct{ Units []unitLine }
	s.json(&page, "archive", "units")
	return page.Units
}

// preserve exports what waits, seals it, and keeps what its owner keeps: the log's key, a checkpoint and the receipts.
func (s *scarto) preserve() {
	s.t.Helper()
	s.eventually("in custody", func() bool { return len(s.units()) == 4 })
	s.does("conserve", "export", "-o", s.file("export of what waits"))
	s.packages = map[string]string{}
	for name, of := range map[string][2]string{"2012": {"2012", "FISC"}, "2013": {"2013", "FISC"}, "PEC": {"2012", "PEC"}} {
		s.packages[name] = field(s.t, s.does("conserve", "close", "--year", of[0], "--class", of[1]), "name")
	}
	for _, pkg := range s.packages {
		s.eventually("sealed", func() bool { return field(s.t, s.does("archive", "get", pkg), "state") == "SEALED" })
	}
	s.does("conserve", "log", "-o", s.file("log.key"))
	s.does("conserve", "checkpoint", "-o", s.file("first.checkpoint"))
	for _, u := range s.units() {
		s.eventually("a receipt", func() bool {
			_, _, code := s.run("conserve", "receipt", last(u.Name), "-o", s.file(last(u.Name)+".receipt"))
			return code == 0
		})
	}
}

// show makes of the documents what those make who look at them: an export, a package for whoever asks, a report on each.
func (s *scarto) show() {
	s.t.Helper()
	s.does("conserve", "export", "-o", s.file("export"))
	s.does("conserve", "exhibit", "year=2012", "or", "year=2013", "--purpose", "Verifica", "-o", s.file("PdD.zip"))
	for _, u := range s.units() {
		s.does("conserve", "integrity", last(u.Name), "-o", s.file("integrity.p7m"))
	}
}

// dispose takes packages from the list to the signed report. Nothing of the store goes before every service has answered.
func (s *scarto) dispose(packages ...string) {
	s.t.Helper()
	name := field(s.t, s.does("conserve", "scarto", "propose"), "name")
	s.disposals = append(s.disposals, name)
	authorize := []string{"conserve", "scarto", "authorize", name, "--person", "Anna Conti", "--reference", "prot. 7/2026", "--date", "2026-01-15"}
	for _, pkg := range packages {
		authorize = append(authorize, "--package", pkg)
	}
	s.does(authorize...)
	operator := terminal{s.t, s.p, s.p.OperatorKey, s.tenant}
	second := terminal{s.t, s.p, field(s.t, operator.does("key", "create", "--owner", "operators/second"), "key"), s.tenant}
	operator.does("conserve", "scarto", "release", name, "--person", "Uno Alfa")
	said, err := s.p.Erase(s.ctx)
	require.NoError(s.t, err)
	require.Contains(s.t, said, "0 packages destroyed", "one person alone releases nothing")
	operator.refused(4, "SAME_PERSON", "conserve", "scarto", "release", name, "--person", "Due Beta")
	second.does("conserve", "scarto", "release", name, "--person", "Due Beta")
	s.eventually("destroyed and reported", func() bool {
		_, err := s.p.Erase(s.ctx)
		if err != nil {
			s.t.Log(err) // what waits for the service
		}
		return field(s.t, s.does("conserve", "scarto", "get", name), "state") == "PARTIAL"
	})
	s.eventually("signed", func() bool {
		_, _, code := s.run("conserve", "scarto", "report", name, "-o", s.file("report.p7m"))
		return code == 0
	})
}

// digests are those of what the services had of the documents that are destroyed first.
func (s *scarto) digests() map[string]string {
	s.t.Helper()
	sums := map[string]string{}
	add := func(what, b64 string) {
		raw, err := base64.StdEncoding.DecodeString(b64)
		require.NoError(s.t, err)
		require.Len(s.t, raw, sha256.Size, what)
		sums[fmt.Sprintf("%x", raw)] = what
	}
	type blob struct{ Sha256 string }
	var invoice struct {
		Documents []struct{ Name, Sha256 string }
	}
	s.json(&invoice, "invoice", "get", s.invoices["2012"])
	require.Len(s.t, invoice.Documents, 3)
	for _, d := range invoice.Documents {
		add(d.Name, d.Sha256)
	}
	var message struct{ Content blob }
	s.json(&message, "pec", "message", "get", s.message)
	add("message", message.Content.Sha256)
	mailbox, err := os.ReadFile(s.file("mailbox.zip"))
	require.NoError(s.t, err)
	sums[fmt.Sprintf("%x", sha256.Sum256(mailbox))] = "mailbox archive"
	return sums
}

// reported: the signed report names what went, of which services, and what is held and why.
func (s *scarto) reported(before map[string]string) {
	s.t.Helper()
	raw, err := os.ReadFile(s.file("report.p7m"))
	require.NoError(s.t, err)
	content := openssl(s.t, raw, "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", "IN", "-CAfile", s.p.SdI.CAFile, "-purpose", "any")
	type line struct {
		SHA256, What, Reason string
		Of                   []string
	}
	var report struct {
		Packages []struct {
			Package, Outcome string
			Destroyed, Held  []line
		}
	}
	require.NoError(s.t, json.Unmarshal(content, &report))
	outcomes, services, destroyed, held := map[string]string{}, map[string]bool{}, map[string]bool{}, map[string]string{}
	for _, p := range report.Packages {
		outcomes[p.Package] = p.Outcome
		for _, l := range p.Destroyed {
			destroyed[l.SHA256] = true
			for _, of := range l.Of {
				services[of] = true
			}
		}
		for _, l := range p.Held {
			if l.What == "revocation" { // what an issuer said serves packages that were sealed within minutes, of documents it tells nothing
				require.Equal(s.t, []string{"conservation"}, l.Of)
				require.Regexp(s.t, "^needed by [0-9]+ others that stand, in conservation: ", l.Reason)
				continue
			}
			held[l.SHA256] = l.Reason
		}
	}
	require.Equal(s.t, map[string]string{s.packages["2012"]: "DESTROYED", s.packages["PEC"]: "DESTROYED", s.packages["2013"]: "KEPT"}, outcomes)
	require.Equal(s.t, []string{"conservation", "invoice", "pec-gateway", "sdi-gateway", "signer"}, slices.Sorted(maps.Keys(services)))
	require.Equal(s.t, map[string]string{s.batch: "needed by 1 others that stand, in invoice: erased when the last of them is destroyed"}, held)
	for sum, what := range before {
		require.True(s.t, destroyed[sum], "the report says that it was erased: %s", what)
		require.Empty(s.t, s.named(sum), "it is in no store: %s", what)
	}
	require.NotEmpty(s.t, s.named(s.batch))
	require.NotContains(s.t, strings.ToLower(string(content)), s.gone)
}

// files visits the files of a store, but for those of the tenant whose mailbox was exported.
func (s *scarto) files(store string, visit func(path string)) {
	s.t.Helper()
	require.NoError(s.t, filepath.WalkDir(store, func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // it went meanwhile
			return nil
		case err != nil:
			return err
		case e.IsDir() && e.Name() == s.elsewhere:
			return fs.SkipDir
		case e.Type().IsRegular():
			visit(path)
		}
		return nil
	}))
}

// named are the files of the platform's store that are called so.
func (s *scarto) named(sum string) (found []string) {
	s.t.Helper()
	s.files(s.p.Stores()[0], func(path string) {
		if filepath.Base(path) == sum {
			found = append(found, path)
		}
	})
	return found
}

// tell are the files of all stores that say a word, in whatever they are packed, but for those that are called so.
func (s *scarto) tell(word string, but ...string) (found []string) {
	s.t.Helper()
	for _, dir := range s.p.Stores() {
		s.files(dir, func(path string) {
			if slices.Contains(but, filepath.Base(path)) {
				return
			}
			raw, err := os.ReadFile(path)
			require.True(s.t, err == nil || errors.Is(err, fs.ErrNotExist), err)
			if says(raw, strings.ToLower(word), 0) {
				found = append(found, filepath.Base(path))
			}
		})
	}
	return found
}

// encoded is what may be base64 in a message or a file.
var encoded = regexp.MustCompile(`(?:[A-Za-z0-9+/]{40,}={0,2}\r?\n?)+[A-Za-z0-9+/]*={0,2}`)

// says looks for a word in a file, in what a ZIP has, and in what is in base64.
func says(raw []byte, word string, depth int) bool {
	if bytes.Contains(bytes.ToLower(raw), []byte(word)) {
		return true
	}
	if depth > 6 {
		return false
	}
	if bytes.HasPrefix(raw, []byte("PK")) {
		z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
		if err != nil {
			return false
		}
		for _, f := range z.File {
			r, err := f.Open()
			if err != nil {
				continue
			}
			content, err := io.ReadAll(r)
			if err == nil && (strings.Contains(strings.ToLower(f.Name), word) || says(content, word, depth+1)) {
				return true
			}
		}
		return false
	}
	for _, part := range encoded.FindAll(raw, -1) {
		content, err := base64.StdEncoding.DecodeString(strings.NewReplacer("\r", "", "\n", "").Replace(string(part)))
		if err == nil && says(content, word, depth+1) {
			return true
		}
	}
	return false
}

// tombstones: what is left says that it was there, by whose word it went, and nothing of anybody.
func (s *scarto) tombstones() {
	s.t.Helper()
	for _, words := range [][]string{
		{"invoice", "get", s.invoices["2012"]}, {"pec", "message", "get", s.message},
	} {
		out := s.does(append(words, "--format", "json")...)
		require.Contains(s.t, out, s.disposals[0], "it says by which disposal: %v", words)
		require.NotContains(s.t, strings.ToLower(out), s.gone, words)
	}
	s.refused(1, "DOCUMENT_DESTROYED", "invoice", "document", s.invoices["2012"], "original")
	s.refused(1, "DOCUMENT_DESTROYED", "pec", "message", "show", s.message)
	require.Contains(s.t, s.does("invoice", "document", s.invoices["2013"], "original"), s.next)
	for _, words := range [][]string{
		{"invoice", "ls"}, {"inbound", "ls"}, {"sdi", "ls"}, {"archive", "units"}, {"archive", "ls"}, {"conserve", "search", "year=2012"}, {"conserve", "scarto", "ls"},
		{"delivery", "ls"}, {"events", "ls"}, {"trace", s.invoices["2012"]},
	} {
		require.NotContains(s.t, strings.ToLower(s.does(append(words, "--format", "json")...)), s.gone, words)
	}
	require.Contains(s.t, s.does("conserve", "search", "year=2013"), "D-2013")
	destroyed := 0
	for _, u := range s.units() {
		if u.State == "UNIT_STATE_DESTROYED" {
			destroyed++
			s.refused(1, "UNIT_DESTROYED", "conserve", "integrity", last(u.Name))
			continue
		}
		require.Contains(s.t, []string{s.invoices["2013"], s.inbound}, u.Subject)
		s.does("conserve", "integrity", last(u.Name))
	}
	require.Equal(s.t, 2, destroyed)
	s.verifies()
}

// verifies: the log has what it had, and only grew, for who kept receipts of what was destroyed.
func (s *scarto) verifies() {
	s.t.Helper()
	out := s.does("conserve", "monitor", "--once", "--state", s.file("monitor"), "--log-key", s.file("log.key"), "--receipt", s.file("*.receipt"))
	require.Contains(s.t, out, "4 receipts in it")
	require.Contains(s.t, s.does("conserve", "checkpoint", "--since", s.file("first.checkpoint"), "--log-key", s.file("log.key"), "-o", s.file("later.checkpoint")), "good")
}
