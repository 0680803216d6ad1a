package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/custody"
	"ceralacca.dev/services/format/revocation"
	"ceralacca.dev/services/format/sincro"
	"ceralacca.dev/services/format/tsp"
)

// packageDescription is what inspect says of a preservation package or of its index.
type packageDescription struct {
	ID       string `json:"id"`
	Producer string `json:"producer,omitempty"`
	Label    string `json:"label,omitempty"`
	Units    int    `json:"units"`
	Files    int    `json:"files"`
	// Checked says what was compared; only of a whole package.
	Checked string `json:"checked,omitempty"`
	// Revocation says what the package brings of it, of its signature and of its time stamp.
	Revocation []string `json:"revocation,omitempty"`
}

// largestEntry bounds what is unpacked of one entry of a package.
const largestEntry = 1 << 30

// bag is an unpacked package: the digest of every file, and the bytes of those that say how it belongs together.
type bag struct {
	sums map[string]string // path in the bag -> SHA-256, hex
	kept map[string][]byte
}

// openBag reads a ZIP; nil when it is no bag (RFC 8493).
func openBag(raw []byte) (*bag, error) {
	archive, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return nil, fmt.Errorf("no readable ZIP (%w): it is another kind of file, or was cut: fetch it again", err)
	}
	if !slices.ContainsFunc(archive.File, func(f *zip.File) bool { return path.Base(f.Name) == "bagit.txt" }) {
		return nil, nil // of another archive the names are nobody's business here
	}
	_, members, err := custody.Members(raw)
	if err != nil {
		return nil, err
	}
	b := &bag{sums: map[string]string{}, kept: map[string][]byte{}}
	for name, entry := range members {
		err = b.add(name, entry)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", entry.Name, err)
		}
	}
	if b.kept["bagit.txt"] == nil {
		return nil, errors.New("bagit.txt is not where a bag has it, in the one folder of the archive")
	}
	return b, nil
}

func (b *bag) add(name string, entry *zip.File) error {
	f, err := entry.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	var content bytes.Buffer
	into := io.Discard
	if !strings.HasPrefix(name, "data/") || strings.HasPrefix(name, "data/PIndex.xml") {
		into = &content
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(sum, into), io.LimitReader(f, largestEntry+1))
	if err != nil {
		return err
	}
	if n > largestEntry {
		return fmt.Errorf("it is larger than %d MiB", largestEntry>>20)
	}
	b.sums[name] = hex.EncodeToString(sum.Sum(nil))
	if into != io.Discard {
		b.kept[name] = content.Bytes()
	}
	return nil
}

// manifest compares the files with a list of digests, both ways.
func (b *bag) manifest(name string, listed func(file string) bool) []string {
	raw, ok := b.kept[name]
	if !ok {
		return []string{"the package has no " + name}
	}
	var problems []string
	seen := map[string]bool{}
	for line := range strings.Lines(string(raw)) {
		want, file, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		file = strings.TrimLeft(file, " *")
		seen[file] = true
		switch got, there := b.sums[file]; {
		case !there:
			problems = append(problems, fmt.Sprintf("%s lists %s, which is not there", name, file))
		case got != strings.ToLower(want):
			problems = append(problems, fmt.Sprintf("%s was changed: its SHA-256 is not the one in %s", file, name))
		}
	}
	for file := range b.sums {
		if listed(file) && !seen[file] {
			problems = append(problems, fmt.Sprintf("%s is not listed in %s", file, name))
		}
	}
	slices.Sort(problems)
	return problems
}

// archive describes a preservation package: every digest, the index, its signature and its time stamp.
func (i *inspection) archive(d *description, b *bag) {
	d.Kind = "preservation package"
	d.Problems = append(d.Problems, b.manifest("manifest-sha256.txt", func(file string) bool { return strings.HasPrefix(file, "data/") })...)
	d.Problems = append(d.Problems, b.manifest("tagmanifest-sha256.txt", func(file string) bool {
		return !strings.HasPrefix(file, "data/") && !strings.HasPrefix(file, "tagmanifest-")
	})...)
	index, signed, stamp := b.kept["data/PIndex.xml"], b.kept["data/PIndex.xml.p7m"], b.kept["data/PIndex.xml.p7m.tsr"]
	named := map[string]bool{"data/PIndex.xml": true, "data/PIndex.xml.p7m": true, "data/PIndex.xml.p7m.tsr": true}
	p, problems := describeIndex(index, func(file string, hash sincro.Hash) string {
		name := path.Join("data", file)
		named[name] = true
		raw, err := base64.StdEncoding.DecodeString(hash.Value)
		switch {
		case b.sums[name] == "":
			return fmt.Sprintf("the index names %s, which is not there", name)
		case err != nil || hex.EncodeToString(raw) != b.sums[name]:
			return fmt.Sprintf("%s is not the file that the index names: its SHA-256 differs", name)
		}
		return ""
	})
	for _, name := range slices.Sorted(maps.Keys(b.sums)) {
		if p != nil && strings.HasPrefix(name, "data/") && !named[name] {
			problems = append(problems, name+" is not in the index")
		}
	}
	d.Package, d.Problems = p, append(d.Problems, problems...)
	token, err := tsp.ParseToken(stamp)
	if err != nil {
		d.Problems = append(d.Problems, "no readable time stamp: "+err.Error())
	} else {
		(&inspection{roots: i.roots, data: slices.Concat([]byte{}, signed)}).stamp(d, token)
		d.Kind = "preservation package"
	}
	at := i.at
	if d.TimeStamp != nil && d.TimeStamp.Holds == stampHolds {
		at = token.Info.Time // certificates end long before packages do
	}
	i.signedIndex(d, signed, index, at)
	if token != nil {
		i.revocation(d, b, signed, token)
	}
	if p != nil && !d.bad() {
		p.Checked = fmt.Sprintf("%d files against manifest and index, signature of the index, time stamp of the signed index", p.Files)
	}
}

// signedIndex judges the signature of an index. Nothing but a signed file that has this index in it will do, whatever else describe can tell
// of what lies in its place.
func (i *inspection) signedIndex(d *description, p7m, index []byte, at time.Time) {
	sd, report, err := cades.Verify(p7m, cades.VerifyOptions{Roots: i.roots, TSARoots: i.roots, At: at})
	if err != nil {
		d.Problems = append(d.Problems, "no readable signature of the index: "+plain(err))
		return
	}
	for n := range report.Signers {
		d.Signatures = append(d.Signatures, describeSigner(&report.Signers[n]))
	}
	switch {
	case len(report.Signers) == 0:
		d.Problems = append(d.Problems, "nobody signed the index")
	case sd.Detached || !bytes.Equal(index, sd.Content()):
		d.Problems = append(d.Problems, "what was signed is not the file beside it")
	}
}

// revocation judges the certificates of signature and time stamp by what issuers said of them when the package was sealed.
func (i *inspection) revocation(d *description, b *bag, signed []byte, token *tsp.Token) {
	at := token.Info.Time
	for _, of := range []struct {
		what, name string
		signed     func() (*cms.SignedData, error)
	}{
		{"signature of the index", "PIndex.xml.p7m", func() (*cms.SignedData, error) { return cms.Parse(signed) }},
		{"time stamp", "PIndex.xml.p7m.tsr", func() (*cms.SignedData, error) { return token.Signed, nil }},
	} {
		sd, err := of.signed()
		if err != nil {
			continue // said already
		}
		report := cades.Judge(sd, cades.VerifyOptions{})
		if len(report.Signers) == 0 || report.Signers[0].Certificate == nil {
			continue
		}
		name := "revocation/" + of.name
		holds, problem := revocation.Beside(b.kept[name+revocation.Lists], b.kept[name+revocation.Answers], revocation.Chain(report.Signers[0].Certificate, sd.Certificates, i.roots, at), at)
		if problem != "" {
			d.Problems = append(d.Problems, of.what+": "+problem)
		}
		if holds != "" && d.Package != nil {
			d.Package.Revocation = append(d.Package.Revocation, of.what+": "+holds)
		}
	}
}

// describeIndex reads a SInCRO index; check looks at each file that it names, metadata files too.
func describeIndex(raw []byte, check func(path string, hash sincro.Hash) string) (*packageDescription, []string) {
	p := &packageDescription{}
	var problems []string
	index, err := sincro.Read(bytes.NewReader(raw), func(g sincro.FileGroup) error {
		p.Units++
		p.Files += len(g.Files)
		for _, file := range g.Files {
			if problem := check(file.Path, file.Hash); problem != "" {
				problems = append(problems, problem)
			}
		}
		if m := g.Metadata; m != nil && !m.Embedded {
			if problem := check(m.Path, m.Hash); problem != "" {
				problems = append(problems, problem)
			}
		}
		return nil
	})
	if err != nil {
		return nil, append(problems, "no readable index: "+err.Error())
	}
	p.ID, p.Producer, p.Label = index.Volume.ID.Value, index.Application.Producer, index.Volume.Label
	return p, problems
}
