package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/format/signature"
	"ceralacca.dev/services/format/sincro"
	"ceralacca.dev/services/format/tsp"
)

// description is what inspect says of one file; the parts that do not apply are absent.
type description struct {
	File       string                 `json:"file"`
	Kind       string                 `json:"kind"`
	Size       int                    `json:"size"`
	SHA256     string                 `json:"sha256"`
	Signatures []signatureDescription `json:"signatures,omitempty"`
	TimeStamp  *stampDescription      `json:"time_stamp,omitempty"`
	Invoice    *invoiceDescription    `json:"invoice,omitempty"`
	Message    *messageDescription    `json:"message,omitempty"`
	Package    *packageDescription    `json:"package,omitempty"`
	Stamps     []stampLine            `json:"time_stamps,omitempty"`
	Details    []named                `json:"details,omitempty"` // of the other kinds
	Problems   []string               `json:"problems,omitempty"`
}

type signatureDescription struct {
	Form        string            `json:"form,omitempty"` // CAdES or XAdES, of an invoice
	Signer      string            `json:"signer"`
	Issuer      string            `json:"issuer"`
	Level       string            `json:"level"`
	Algorithm   string            `json:"algorithm"`
	SigningTime time.Time         `json:"signing_time"`
	Checks      map[string]string `json:"checks"`
	Holds       bool              `json:"holds"` // of the checks that could be made, none failed
}

type stampDescription struct {
	Time      time.Time `json:"time"`
	Policy    string    `json:"policy"`
	Serial    string    `json:"serial"`
	Algorithm string    `json:"algorithm"`
	Digest    string    `json:"digest"`
	Authority string    `json:"authority"`
	Holds     string    `json:"holds,omitempty"` // yes, or why not; only with --data
}

type invoiceDescription struct {
	Format        string               `json:"format"`
	Seller        string               `json:"seller"`
	Buyer         string               `json:"buyer"`
	RecipientCode string               `json:"recipient_code"`
	Bodies        []bodyDescription    `json:"bodies"`
	Findings      []findingDescription `json:"findings,omitempty"`
}

type bodyDescription struct {
	Type   string `json:"type"`
	Number string `json:"number"`
	Date   string `json:"date"`
	Total  string `json:"total"`
	Lines  int    `json:"lines"`
}

type findingDescription struct {
	Code     string `json:"code"`
	Severity string `json:"severity"`
	Message  string `json:"message"`
	XPath    string `json:"xpath,omitempty"`
	Line     int    `json:"line,omitempty"`
}

type messageDescription struct {
	Type     string   `json:"type"`
	Schema   string   `json:"schema"`
	SdIID    string   `json:"sdi_id"`
	About    string   `json:"about"`
	Errors   []string `json:"errors,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

func (c *cli) inspectCommand() *cobra.Command {
	var caFile, dataFile string
	cmd := verb("inspect FILE", "Describe a file offline, whatever it is: invoice, message of SdI, signature, time stamp, mail, certificate, package", args("FILE"), func(_ context.Context, given []string) error {
		raw, err := c.readUpTo(given[0], largestPackage)
		if err != nil {
			return err
		}
		i := inspection{at: c.now()}
		if caFile != "" {
			i.roots, err = c.loadRoots(caFile)
			if err != nil {
				return err
			}
		}
		if dataFile != "" {
			i.data, err = c.readUpTo(dataFile, largestPackage)
			if err != nil {
				return usage("--data: %w", err)
			}
		}
		d := i.describe(filepath.Base(given[0]), raw)
		if c.format == formatJSON {
			printJSON(c.out, d)
		} else {
			c.showDescription(d)
		}
		if d.bad() {
			return quietError(exitRefused)
		}
		return nil
	})
	cmd.Long = cmd.Short + `.

An invoice is checked as the platform checks it. Signatures are judged as far as the file allows; with --roots also
their chain, at today's date. A time stamp is compared with the stamped file given by --data. In a package every digest,
the index, its signature and its time stamp are compared.

Kinds: invoices and messages of SdI (.xml, archives), .p7m and .p7s, signed XML and PDF, .tsr, .tsq, .tsd, .m7m, mail and
certified mail (.eml), certificates and requests, revocation lists, OCSP responses, trusted lists, encrypted files,
evidence records, receipts of a log, preservation packages and their index. Bytes decide, not names. Exit code 1 when something does not hold or the file is none
of these.`
	cmd.Flags().StringVar(&caFile, "roots", "", "certificates to trust, PEM")
	cmd.Flags().StringVar(&dataFile, "data", "", "the file that a time stamp is about")
	return cmd
}

func (c *cli) loadRoots(file string) (*x509.CertPool, error) {
	pem, err := c.readFlag("--roots", file, largestFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, usage("--roots: %s holds no PEM certificate", file)
	}
	return pool, nil
}

// stampHolds is said of a time stamp that is over the bytes that it should be over.
const stampHolds = "yes"

// inspection is what a file is judged by.
type inspection struct {
	at    time.Time
	roots *x509.CertPool
	data  []byte // what a time stamp, or a signature without its content, is about
}

func (d *description) bad() bool {
	if len(d.Problems) > 0 || d.TimeStamp != nil && d.TimeStamp.Holds != "" && d.TimeStamp.Holds != stampHolds {
		return true
	}
	for _, s := range d.Stamps {
		if !s.Holds {
			return true
		}
	}
	for _, s := range d.Signatures {
		if !s.Holds {
			return true
		}
	}
	if d.Invoice != nil {
		for _, f := range d.Invoice.Findings {
			if f.Severity == string(fatturapa.SeverityError) {
				return true
			}
		}
	}
	return false
}

// describe decides by the bytes what the file is; its name is only shown.
func (i *inspection) describe(name string, raw []byte) *description {
	sum := sha256.Sum256(raw)
	d := &description{File: name, Size: len(raw), SHA256: hex.EncodeToString(sum[:])}
	token, err := tsp.ParseToken(raw)
	switch {
	case err == nil:
		i.stamp(d, token)
	case cms.Looks(raw):
		i.signed(d, raw)
	case bytes.HasPrefix(raw, []byte("PK\x03\x04")):
		i.zip(d, name, raw)
	case !i.other(d, raw):
		i.xml(d, name, raw)
	}
	return d
}

func (i *inspection) stamp(d *description, token *tsp.Token) {
	d.Kind = "time stamp (RFC 3161)"
	s := &stampDescription{
		Time: token.Info.Time, Policy: token.Info.Policy.String(), Serial: token.Info.Serial.String(),
		Algorithm: token.Info.Hash.String(), Digest: hex.EncodeToString(token.Info.Digest),
	}
	for _, cert := range token.Signed.Certificates {
		if !cert.IsCA {
			s.Authority = cert.Subject.String()
		}
	}
	if i.data != nil {
		h := token.Info.Hash.New()
		h.Write(i.data)
		s.Holds = stampHolds
		err := token.Verify(tsp.VerifyOptions{Digest: h.Sum(nil), Roots: i.roots})
		if err != nil {
			s.Holds = plain(err)
		}
	}
	d.TimeStamp = s
}

func (i *inspection) signed(d *description, raw []byte) {
	d.Kind = "signed file (CMS)"
	sd, report, err := cades.Verify(raw, cades.VerifyOptions{Roots: i.roots, TSARoots: i.roots, At: i.at, Content: bytes.NewReader(i.data)})
	if err != nil {
		d.Problems = append(d.Problems, plain(err))
		return
	}
	for n := range report.Signers {
		d.Signatures = append(d.Signatures, describeSigner(&report.Signers[n]))
	}
	if len(report.Signers) == 0 {
		d.Problems = append(d.Problems, "the file holds no signature")
	}
	if sd.Detached {
		return
	}
	inner := i.describe(strings.TrimSuffix(d.File, filepath.Ext(d.File)), sd.Content())
	d.Kind += " with " + inner.Kind
	d.Invoice, d.Message, d.Package = inner.Invoice, inner.Message, inner.Package
	// Of what is inside, a document that is none of ours is no problem of the signature.
	d.Signatures = append(d.Signatures, inner.Signatures...)
}

func describeSigner(r *cades.SignerReport) signatureDescription {
	s := signatureDescription{
		Level: string(r.Level), Algorithm: r.Algorithm + " with " + r.Hash, SigningTime: r.SigningTime, Checks: map[string]string{}, Holds: r.Err() == nil,
	}
	if r.Certificate != nil {
		s.Signer, s.Issuer = r.Certificate.Subject.String(), r.Certificate.Issuer.String()
	}
	for _, check := range r.Checks() {
		s.Checks[check.Name] = strings.TrimSuffix(string(check.Verdict)+": "+check.Reason, ": ")
	}
	return s
}

func (i *inspection) xml(d *description, name string, raw []byte) {
	file, err := fatturapa.Parse(raw)
	if err == nil {
		d.Kind = "invoice " + file.Formato()
		d.Invoice = i.invoice(file)
		if file.Signed {
			i.signedXML(d, raw)
		}
		return
	}
	message, messageErr := sdi.ParseMessage(name, raw)
	if messageErr == nil {
		d.Kind = "message of SdI"
		d.Message = describeMessage(message)
		return
	}
	if bytes.Contains(raw[:min(len(raw), 4096)], []byte("PIndex")) {
		p, problems := describeIndex(raw, func(string, sincro.Hash) string { return "" })
		if p != nil {
			d.Kind, d.Package, d.Problems = "index of a preservation package (SInCRO)", p, problems
			return
		}
	}
	if i.otherXML(d, raw) {
		return
	}
	d.Kind = "unknown"
	if !bytes.HasPrefix(bytes.TrimSpace(raw), []byte("<")) {
		d.Problems = append(d.Problems, "this is no file of a kind that this tool knows: invoices, messages of SdI, signed and stamped files, mail, packages, receipts of the log")
		return
	}
	d.Problems = append(d.Problems, "no invoice: "+plain(err), "no message of SdI: "+plain(messageErr))
}

// signedXML judges the signatures inside an invoice.
func (i *inspection) signedXML(d *description, raw []byte) {
	read, err := signature.Read(raw, signature.Options{At: i.at, Roots: i.roots})
	if err != nil {
		d.Problems = append(d.Problems, plain(err))
		return
	}
	for n := range read.Report.Signatures {
		d.Signatures = append(d.Signatures, describeSignature(&read.Report.Signatures[n]))
	}
	d.Problems = append(d.Problems, read.Report.Warnings...)
}

func describeSignature(s *signature.Signature) signatureDescription {
	out := signatureDescription{Form: s.Form, Signer: s.Signer(), Level: s.Level, Algorithm: s.Algorithm, SigningTime: s.SigningTime,
		Checks: map[string]string{}, Holds: s.Holds()}
	if s.Certificate != nil {
		out.Issuer = s.Certificate.Issuer.String()
	}
	for _, check := range s.Checks {
		out.Checks[check.Name] = strings.TrimSuffix(string(check.Verdict)+": "+check.Reason, ": ")
	}
	return out
}

// plain is an error without the name of the library that it comes from.
func plain(err error) string {
	text := err.Error()
	for _, library := range []string{"signature: ", "fatturapa: ", "sdi: ", "cades: ", "cms: ", "tsp: ", "custody: ", "validation: "} {
		text = strings.TrimPrefix(text, library)
	}
	return text
}

// zip is a preservation package, or else an attestation of SdI.
func (i *inspection) zip(d *description, name string, raw []byte) {
	d.Kind = "archive"
	b, err := openBag(raw)
	if err != nil {
		d.Problems = append(d.Problems, err.Error())
		return
	}
	if b != nil {
		i.archive(d, b)
		return
	}
	message, err := sdi.ParseMessage(name, raw)
	if err != nil {
		d.Problems = append(d.Problems, "no preservation package (it has no bagit.txt), and no attestation of SdI: "+plain(err))
		return
	}
	d.Kind = "message of SdI in an archive"
	d.Message = describeMessage(message)
}

func (i *inspection) invoice(file *fatturapa.File) *invoiceDescription {
	out := &invoiceDescription{
		Format: file.Formato(), RecipientCode: file.Header.DatiTrasmissione.CodiceDestinatario,
		Seller: subject(file.Header.CedentePrestatore.DatiAnagrafici), Buyer: subject(file.Header.CessionarioCommittente.DatiAnagrafici),
	}
	for _, b := range file.Bodies {
		general := b.DatiGenerali.DatiGeneraliDocumento
		out.Bodies = append(out.Bodies, bodyDescription{
			Type: general.TipoDocumento, Number: general.Numero, Date: string(general.Data), Lines: len(b.DatiBeniServizi.DettaglioLinee),
			Total: strings.TrimSpace(general.ImportoTotaleDocumento.String() + " " + general.Divisa),
		})
	}
	for _, f := range fatturapa.Check(file, fatturapa.Options{At: i.at}).Findings {
		out.Findings = append(out.Findings, findingDescription{Code: f.Code, Severity: string(f.Severity), Message: f.Message.EN, XPath: f.XPath, Line: f.Line})
	}
	return out
}

func subject(a fatturapa.DatiAnagrafici) string {
	name := strings.TrimSpace(a.Anagrafica.Denominazione + " " + a.Anagrafica.Nome + " " + a.Anagrafica.Cognome)
	return strings.TrimSpace(name + " " + a.IdFiscaleIVA.IdPaese + a.IdFiscaleIVA.IdCodice + " " + a.CodiceFiscale)
}

func describeMessage(m *sdi.Message) *messageDescription {
	out := &messageDescription{
		Type: string(m.Type()), Schema: m.Schema.String(), SdIID: m.Head().IdentificativoSdI, About: m.Head().NomeFile, Warnings: m.Warnings,
	}
	if ns, ok := m.Contenuto.(*sdi.NotificaScarto); ok {
		for _, e := range ns.ListaErrori {
			out.Errors = append(out.Errors, e.Codice+" "+e.Descrizione)
		}
	}
	return out
}

func (c *cli) showDescription(d *description) {
	c.fields("file", d.File, "kind", d.Kind, "size", strconv.Itoa(d.Size), "sha256", d.SHA256)
	for n, s := range d.Signatures {
		holds := "holds"
		if !s.Holds {
			holds = "DOES NOT HOLD"
		}
		fmt.Fprintf(c.out, "\nsignature %d %s\n", n+1, holds)
		c.fields("signer", s.Signer, "issuer", s.Issuer, "level", s.Level, "algorithm", s.Algorithm, "signing time", s.SigningTime.Format(time.RFC3339))
		var rows [][]string
		for _, name := range slices.Sorted(maps.Keys(s.Checks)) {
			rows = append(rows, []string{"  " + name, s.Checks[name]})
		}
		columns(c.out, rows)
	}
	c.showOther(d)
	if t := d.TimeStamp; t != nil {
		fmt.Fprintln(c.out)
		c.fields("time", t.Time.Format(time.RFC3339Nano), "authority", t.Authority, "policy", t.Policy, "serial", t.Serial,
			"algorithm", t.Algorithm, "digest", t.Digest, "holds", t.Holds)
	}
	if i := d.Invoice; i != nil {
		fmt.Fprintln(c.out)
		c.fields("format", i.Format, "seller", i.Seller, "buyer", i.Buyer, "recipient code", i.RecipientCode)
		var rows [][]string
		for _, b := range i.Bodies {
			rows = append(rows, []string{b.Type, b.Number, b.Date, b.Total, fmt.Sprint(b.Lines)})
		}
		c.table([]string{"TYPE", "NUMBER", "DATE", "TOTAL", "LINES"}, rows)
		for _, f := range i.Findings {
			fmt.Fprintf(c.out, "%s %s: %s (%s, line %d)\n", f.Severity, f.Code, f.Message, f.XPath, f.Line)
		}
	}
	if m := d.Message; m != nil {
		fmt.Fprintln(c.out)
		c.fields("type", m.Type, "schema", m.Schema, "SdI id", m.SdIID, "about", m.About, "errors", strings.Join(m.Errors, "; "), "read with tolerance", strings.Join(m.Warnings, "; "))
	}
	if p := d.Package; p != nil {
		fmt.Fprintln(c.out)
		c.fields("package", p.ID, "label", p.Label, "producer", p.Producer, "units", p.Units, "files", p.Files, "checked", p.Checked)
	}
	for _, p := range d.Problems {
		fmt.Fprintln(c.errOut, "ceralacca:", p)
	}
}
