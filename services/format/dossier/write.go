package dossier

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"
)

// Names of the members beside the documents.
const (
	TrailName        = "audit.json"
	SealName         = "audit.json.p7s"
	StampName        = "audit.json.tsr"
	CertificatesName = "certificates.pem"
	SumsName         = "SHA256SUMS"
	ManualName       = "VERIFY.txt"
)

// Dossier is what goes into the ZIP.
type Dossier struct {
	// Trail is audit.json as it was sealed; Documents are those that it names.
	Trail     []byte
	Documents []Document
	// Open gives the bytes of a document's file.
	Open func(File) ([]byte, error)
	// Seal is a detached CAdES over Trail, DER; nil: there is none.
	Seal []byte
	// Stamp is an RFC 3161 response over Seal, or over Trail where there is no seal; nil: there is none.
	Stamp []byte
	// Certificates are those of the chains, for whoever looks for issuers. They prove nothing by themselves.
	Certificates []*x509.Certificate
	Time         time.Time // of the members
}

// Path of a document's file in the ZIP: folder/NN-name, with ending for what is made of it.
func Path(folder string, position int, name, ending string) string {
	return fmt.Sprintf("%s/%02d-%s%s", folder, position, name, ending)
}

// Write writes the ZIP.
func Write(w io.Writer, d Dossier) error {
	z := &archive{zip: zip.NewWriter(w), time: d.Time.UTC().Truncate(time.Second)}
	for _, doc := range d.Documents {
		for _, f := range files(doc) {
			content, err := d.Open(f)
			if err != nil {
				return err
			}
			if err := z.add(f.Path, content); err != nil {
				return err
			}
		}
	}
	var certificates bytes.Buffer
	for _, c := range d.Certificates {
		fmt.Fprintf(&certificates, "# %s\n", strings.Map(printable, c.Subject.String()))
		if err := pem.Encode(&certificates, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}); err != nil {
			return fmt.Errorf("dossier: %w", err)
		}
	}
	for _, m := range []struct {
		name    string
		content []byte
	}{{TrailName, d.Trail}, {SealName, d.Seal}, {StampName, d.Stamp}, {CertificatesName, certificates.Bytes()}, {ManualName, manual(d)}} {
		if len(m.content) == 0 {
			continue
		}
		if err := z.add(m.name, m.content); err != nil {
			return err
		}
	}
	if err := z.add(SumsName, []byte(z.sums.String())); err != nil {
		return err
	}
	if err := z.zip.Close(); err != nil {
		return fmt.Errorf("dossier: %w", err)
	}
	return nil
}

func printable(r rune) rune {
	if r < 0x20 || r == 0x7f {
		return -1
	}
	return r
}

func files(d Document) []File {
	if d.Signed == nil {
		return []File{d.Original}
	}
	return []File{d.Original, *d.Signed}
}

type archive struct {
	zip  *zip.Writer
	time time.Time
	sums strings.Builder
}

func (z *archive) add(name string, content []byte) error {
	out, err := z.zip.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: z.time})
	if err == nil {
		_, err = out.Write(content)
	}
	if err != nil {
		return fmt.Errorf("dossier: %s: %w", name, err)
	}
	sum := sha256.Sum256(content)
	fmt.Fprintf(&z.sums, "%s  %s\n", hex.EncodeToString(sum[:]), name)
	return nil
}

// quoted is a name for a shell.
func quoted(name string) string { return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'" }

// inXML counts the signatures of an XML document: those that are children of its root.
func inXML(d Dossier, doc Document) (n int) {
	content, err := d.Open(*doc.Signed)
	if err != nil {
		return 0 // adding it to the ZIP tells
	}
	depth := 0
	for tokens := xml.NewDecoder(bytes.NewReader(content)); ; {
		token, err := tokens.Token()
		if err != nil {
			return n
		}
		switch e := token.(type) {
		case xml.StartElement:
			if depth++; depth == 2 && e.Name.Local == "Signature" && e.Name.Space == "http://www.w3.org/2000/09/xmldsig#" {
				n++
			}
		case xml.EndElement:
			depth--
		}
	}
}

// manual says how to verify the dossier without us.
func manual(d Dossier) []byte {
	var b strings.Builder
	p := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	p("How to verify this file without asking anybody.\n")
	p("Run the commands in the folder into which it was unpacked. ROOTS.pem are the certificates that YOU trust, got")
	p("from their authority or from a trusted list; %s holds those that the signatures name, and proves", CertificatesName)
	p("nothing by itself.\n")
	p("1. The files are the ones that were packed:\n\n    sha256sum -c %s\n", SumsName)
	if len(d.Seal) > 0 {
		p("2. The audit trail is sealed:\n")
		p("    openssl cms -verify -cades -binary -inform DER -in %s -content %s -CAfile ROOTS.pem -purpose any -out /dev/null\n", SealName, TrailName)
	} else {
		p("2. The audit trail is NOT sealed: its lines hold together, and nobody vouches for the whole.\n")
	}
	if len(d.Stamp) > 0 {
		of := TrailName
		if len(d.Seal) > 0 {
			of = SealName
		}
		p("3. It existed at the time of the time-stamp (ROOTS.pem holds the authority's root too):\n")
		p("    openssl ts -verify -in %s -data %s -CAfile ROOTS.pem\n", StampName, of)
	} else {
		p("3. There is no time-stamp.\n")
	}
	p("4. The documents are signed:\n")
	for _, doc := range d.Documents {
		if doc.Signed == nil {
			p("    %s carries no signature.", doc.Original.Path)
			continue
		}
		switch doc.Form {
		case "PADES":
			p("    pdfsig %s", quoted(doc.Signed.Path))
		case "XADES_ENVELOPED":
			for i := range max(1, inXML(d, doc)) { // xmlsec1 looks at one signature a run
				p("    xmlsec1 --verify --id-attr:Id 'http://uri.etsi.org/01903/v1.3.2#:SignedProperties' --id-attr:Id 'http://www.w3.org/2000/09/xmldsig#:KeyInfo'"+
					" --node-xpath \"(/*/*[local-name()='Signature'])[%d]\" --trusted-pem ROOTS.pem %s", i+1, quoted(doc.Signed.Path))
			}
		case "CADES_PARALLEL":
			p("    openssl cms -verify -cades -binary -inform DER -in %s -CAfile ROOTS.pem -purpose any -out /dev/null", quoted(doc.Signed.Path))
		default:
			p("    openssl cms -verify -cades -binary -inform DER -in %s -CAfile ROOTS.pem -purpose any -out signed.content", quoted(doc.Signed.Path))
			p("    cmp signed.content %s", quoted(doc.Original.Path))
		}
	}
	p("\n5. The lines of the audit trail: each \"sha256\" is the SHA-256 of its \"body\" (canonical JSON, RFC 8785), each")
	p("\"previous\" that of the line before, \"head\" that of the last; \"sequence\" counts from 1. A line that was signed names")
	p("what was seen, the challenge, the authorization and the certificate.\n")
	p("All of it at once: ceralacca verify --roots ROOTS.pem FILE.zip (0 passed, 1 failed, 3 indeterminate).")
	return []byte(b.String())
}
