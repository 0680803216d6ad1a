package sincro_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"ceralacca.dev/services/format/sincro"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func sample() sincro.Index {
	tenant := sincro.Agent{
		Type: sincro.LegalPerson, IDs: []sincro.AgentID{{Value: "VATIT-01234567897"}},
		FormalName: `Alfa & "Figli" <di prova> S.r.l.`,
		Documents:  []sincro.RelevantDocument{{Text: "Contratto di servizio"}},
	}
	return sincro.Index{
		Language:    "it",
		ID:          sincro.ID{Scheme: "uuid", Value: "0b9a5c1e-0000-4000-8000-000000000001"},
		Application: sincro.Application{Name: "prova", Version: "1", Producer: "nessuno"},
		Sources: []sincro.Source{{
			Derivation: sincro.OneToMany, ID: sincro.ID{Scheme: "local", Value: "altro"},
			Path: "origine/IdC.xml", Hash: sincro.HashOf(sha256.Sum256([]byte("origine"))),
		}},
		Volume: sincro.Volume{
			ID: sincro.ID{Scheme: "uuid", Value: "0b9a5c1e-0000-4000-8000-000000000002"}, Label: "2026 FISC 1",
			Sources: []sincro.VolumeSource{{ID: sincro.ID{Scheme: "a", Value: "b"}, PIndex: sincro.ID{Scheme: "c", Value: "d"}}},
			Group:   &sincro.Group{ID: sincro.ID{Scheme: "local", Value: "t/2026"}, Label: "Periodo d'imposta 2026"},
		},
		Process: sincro.Process{
			Submitter: tenant,
			Holders:   []sincro.Holder{{Agent: tenant, Role: sincro.Produttore}},
			Signers: []sincro.Signer{{Role: "Responsabile del servizio di conservazione", Agent: sincro.Agent{
				Type: sincro.NaturalPerson, IDs: []sincro.AgentID{{Value: "TINIT-RSSMRA80A01H501U", Expansion: "x", Authority: "y"}},
				FirstName: "Maria", LastName: "Rossi",
				Documents: []sincro.RelevantDocument{{Text: "Atto di nomina", Hash: "aGFzaA==", HashFunction: sincro.SHA256, URI: "nomina.pdf"}},
			}}},
			Time: time.Date(2026, 11, 21, 18, 30, 0, 250e6, time.UTC),
			Laws: "Linee guida AgID; DMEF 17 giugno 2014",
		},
	}
}

func unit(n int) sincro.FileGroup {
	name := fmt.Sprintf("u%06d", n)
	file := func(base string) sincro.File {
		return sincro.File{
			Encoding: sincro.Binary, Format: "application/xml", Extension: "xml",
			ID:   sincro.ID{Scheme: "local", Value: name + "/" + base},
			Path: "units/" + name + "/" + base, Hash: sincro.HashOf(sha256.Sum256([]byte(name + base))),
		}
	}
	receipt := file("r01_RC.xml")
	receipt.Relations = []sincro.Relation{{Type: "ricevuta", Values: []string{name + "/doc.xml"}}}
	receipt.Previous = &sincro.PreviousHash{Hash: receipt.Hash, Related: "indice precedente"}
	meta := file("metadati.xml")
	return sincro.FileGroup{
		ID: sincro.ID{Scheme: "local", Value: name}, Label: "FISC", Files: []sincro.File{file("doc.xml"), receipt},
		Relations: []sincro.Relation{{Type: "integra", Values: []string{"u1", "u2"}}},
		Metadata: &sincro.Metadata{
			Schema: "DocumentoInformatico.xsd", Encoding: sincro.Binary, Format: "application/xml", Extension: "xml",
			ID: meta.ID, Path: meta.Path, Hash: meta.Hash,
		},
	}
}

func units(n int) iter.Seq2[sincro.FileGroup, error] {
	return func(yield func(sincro.FileGroup, error) bool) {
		for i := range n {
			if !yield(unit(i+1), nil) {
				return
			}
		}
	}
}

func write(t testing.TB, ix sincro.Index, groups iter.Seq2[sincro.FileGroup, error]) []byte {
	var out bytes.Buffer
	require.NoError(t, sincro.Write(&out, ix, groups))
	return out.Bytes()
}

func read(doc []byte) (sincro.Index, []sincro.FileGroup, error) {
	var groups []sincro.FileGroup
	ix, err := sincro.Read(bytes.NewReader(doc), func(g sincro.FileGroup) error {
		groups = append(groups, g)
		return nil
	})
	return ix, groups, err
}

func TestWriteGolden(t *testing.T) {
	got := write(t, sample(), units(2))
	golden := filepath.Join("testdata", "pindex.xml")
	if *update {
		require.NoError(t, os.WriteFile(golden, got, 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
	require.Equal(t, got, write(t, sample(), units(2)), "two builds of the same package differ")
}

func TestReadGivesWhatWasWritten(t *testing.T) {
	ix, groups, err := read(write(t, sample(), units(3)))
	require.NoError(t, err)
	require.Equal(t, sample(), ix)
	require.Equal(t, []sincro.FileGroup{unit(1), unit(2), unit(3)}, groups)
}

// schema is the reference copy of the standard's schema, when this checkout has it at its side.
func schema(t *testing.T) string {
	path, err := filepath.Abs("../../../../shared/reference/conservation/xsd/sincro/PIndex-2020_parer.xsd")
	require.NoError(t, err)
	_, err = os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		t.Log("no reference schema beside this checkout: the document is only parsed, not validated")
		return ""
	}
	require.NoError(t, err)
	return path
}

func lint(t *testing.T, doc []byte) {
	bin, err := exec.LookPath("xmllint")
	require.NoError(t, err, "run make prepare, or apt-get install -y libxml2-utils")
	file := filepath.Join(t.TempDir(), "PIndex.xml")
	require.NoError(t, os.WriteFile(file, doc, 0o600))
	args := []string{"--nonet", "--noout"}
	if xsd := schema(t); xsd != "" {
		args = append(args, "--schema", xsd)
	}
	out, err := exec.Command(bin, append(args, file)...).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

func TestSchemaAcceptsWhatIsWritten(t *testing.T) {
	lint(t, write(t, sample(), units(200)))
	minimal := sample()
	minimal.Sources, minimal.Volume.Group, minimal.Volume.Sources, minimal.Volume.Label, minimal.Process.Laws = nil, nil, nil, "", ""
	g := unit(1)
	g.Metadata, g.Relations, g.Label, g.Files[1].Previous, g.Files[0].Extension = nil, nil, "", nil, ""
	lint(t, write(t, minimal, one(g)))
	stamped := sample()
	stamped.Process.TimeStampURI, stamped.Process.TimeStampEncoding, stamped.Process.TimeStampFormat = "PIndex.xml.p7m.tsr", sincro.Binary, "application/timestamp-reply"
	lint(t, write(t, stamped, units(1)))
}

func one(g sincro.FileGroup) iter.Seq2[sincro.FileGroup, error] {
	return func(yield func(sincro.FileGroup, error) bool) { yield(g, nil) }
}

func TestWriteRefusesWhatTheStandardDoesNotAdmit(t *testing.T) {
	cases := map[string]struct {
		change func(*sincro.Index, *sincro.FileGroup)
		path   string
	}{
		"no scheme":           {func(x *sincro.Index, _ *sincro.FileGroup) { x.ID.Scheme = "" }, "SelfDescription.ID@scheme"},
		"language":            {func(x *sincro.Index, _ *sincro.FileGroup) { x.Language = "i t" }, "PIndex@language"},
		"derivation":          {func(x *sincro.Index, _ *sincro.FileGroup) { x.Sources[0].Derivation = "copy" }, "SelfDescription.PIndexSource[0]@derivation"},
		"agent id":            {func(x *sincro.Index, _ *sincro.FileGroup) { x.Process.Submitter.IDs[0].Value = "01234567897" }, "Process.Submitter.AgentID"},
		"agent type":          {func(x *sincro.Index, _ *sincro.FileGroup) { x.Process.Holders[0].Type = "company" }, "Process.Holder[0]@agentType"},
		"no deed":             {func(x *sincro.Index, _ *sincro.FileGroup) { x.Process.Signers[0].Documents = nil }, "Process.AuthorizedSigner[0]"},
		"role":                {func(x *sincro.Index, _ *sincro.FileGroup) { x.Process.Holders[0].Role = "owner" }, "Process.Holder[0]@holderRole"},
		"no holder":           {func(x *sincro.Index, _ *sincro.FileGroup) { x.Process.Holders = nil }, "Process"},
		"no time":             {func(x *sincro.Index, _ *sincro.FileGroup) { x.Process.Time = time.Time{} }, "Process.TimeReference"},
		"two names":           {func(x *sincro.Index, _ *sincro.FileGroup) { x.Process.Signers[0].FormalName = "X" }, "Process.AuthorizedSigner[0].AgentName"},
		"control character":   {func(x *sincro.Index, _ *sincro.FileGroup) { x.Volume.Label = "a\x01b" }, "PVolume.Label"},
		"not UTF-8":           {func(x *sincro.Index, _ *sincro.FileGroup) { x.Volume.Label = "a\xff" }, "PVolume.Label"},
		"no file":             {func(_ *sincro.Index, g *sincro.FileGroup) { g.Files = nil }, "FileGroup[u000001]"},
		"path climbs":         {func(_ *sincro.Index, g *sincro.FileGroup) { g.Files[0].Path = "units/../../etc/passwd" }, "FileGroup[u000001].File[0].Path"},
		"absolute path":       {func(_ *sincro.Index, g *sincro.FileGroup) { g.Files[0].Path = "/etc/passwd" }, "FileGroup[u000001].File[0].Path"},
		"encoding":            {func(_ *sincro.Index, g *sincro.FileGroup) { g.Files[1].Encoding = "quotedprintable" }, "FileGroup[u000001].File[1]@encoding"},
		"no hash":             {func(_ *sincro.Index, g *sincro.FileGroup) { g.Files[0].Hash.Value = "" }, "FileGroup[u000001].File[0].Hash"},
		"relation to nothing": {func(_ *sincro.Index, g *sincro.FileGroup) { g.Relations[0].Values = nil }, "FileGroup[u000001].Relation[0]"},
		"metadata path":       {func(_ *sincro.Index, g *sincro.FileGroup) { g.Metadata.Path = "" }, "FileGroup[u000001].MoreInfo.Path"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			ix, g := sample(), unit(1)
			c.change(&ix, &g)
			err := sincro.Write(&bytes.Buffer{}, ix, one(g))
			var field *sincro.FieldError
			require.ErrorAs(t, err, &field)
			require.Equal(t, c.path, field.Path)
		})
	}
}

func TestWritePassesOnWhatFails(t *testing.T) {
	broken := errors.New("database is gone")
	err := sincro.Write(&bytes.Buffer{}, sample(), func(yield func(sincro.FileGroup, error) bool) { yield(sincro.FileGroup{}, broken) })
	require.ErrorIs(t, err, broken)
	require.Error(t, sincro.Write(&bytes.Buffer{}, sample(), units(0)), "an index of nothing")
	g := unit(1)
	g.Metadata.Embedded = true
	require.ErrorIs(t, sincro.Write(&bytes.Buffer{}, sample(), one(g)), sincro.ErrEmbedded)
	require.ErrorIs(t, sincro.Write(full{}, sample(), units(1)), errFull)
}

var errFull = errors.New("no space left")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestReadRefuses(t *testing.T) {
	good := string(write(t, sample(), units(1)))
	cases := map[string]string{
		"empty":             "",
		"truncated":         good[:len(good)/2],
		"not XML":           "PIndex",
		"DTD":               strings.Replace(good, "<sincro:PIndex", `<!DOCTYPE a [<!ENTITY e "x">]><sincro:PIndex`, 1),
		"other namespace":   strings.ReplaceAll(good, "sincro-v2", "sincro-v3"),
		"other root":        strings.ReplaceAll(good, "sincro:PIndex ", "sincro:QIndex "),
		"schema version":    strings.Replace(good, `sincroVersion="2.0"`, `sincroVersion="3.0"`, 1),
		"no process":        good[:strings.Index(good, "<sincro:Process>")] + "</sincro:PIndex>",
		"no groups":         good[:strings.Index(good, "<sincro:FileGroup>")] + good[strings.Index(good, "<sincro:Process>"):],
		"text between":      strings.Replace(good, "<sincro:Process>", "hello<sincro:Process>", 1),
		"something after":   good + "<a/>",
		"groups after":      strings.Replace(good, "</sincro:PIndex>", "<sincro:FileGroup/></sincro:PIndex>", 1),
		"path that climbs":  strings.Replace(good, ">units/u000001/doc.xml<", ">../doc.xml<", 1),
		"time out of form":  strings.Replace(good, "2026-11-21T18:30:00.25Z", "yesterday", 1),
		"undeclared entity": strings.Replace(good, "Maria", "&maria;", 1),
	}
	for name, doc := range cases {
		t.Run(name, func(t *testing.T) {
			_, _, err := read([]byte(doc))
			var syntax *sincro.SyntaxError
			var field *sincro.FieldError
			require.Error(t, err)
			require.True(t, errors.As(err, &syntax) || errors.As(err, &field), "%v", err)
		})
	}
	_, _, err := read([]byte(`<IdC xmlns="http://www.uni.com/U3011/sincro/"/>`))
	require.ErrorIs(t, err, sincro.ErrIdC2010)
	stop := errors.New("enough")
	_, err = sincro.Read(strings.NewReader(good), func(sincro.FileGroup) error { return stop })
	require.ErrorIs(t, err, stop)
}

func TestReadsForeignPrefixAndEmbeddedMetadata(t *testing.T) {
	doc := strings.ReplaceAll(string(write(t, sample(), units(1))), "sincro:", "p:")
	doc = strings.Replace(doc, "xmlns:sincro=", "xmlns:p=", 1)
	from, to := strings.Index(doc, "<p:ExternalMetadata"), strings.Index(doc, "</p:ExternalMetadata>")
	doc = doc[:from] + "<p:EmbeddedMetadata><x xmlns=''><y/></x></p:EmbeddedMetadata>" + doc[to+len("</p:ExternalMetadata>"):]
	ix, groups, err := read([]byte(doc))
	require.NoError(t, err)
	require.Equal(t, sample(), ix)
	require.True(t, groups[0].Metadata.Embedded)
}

func TestAnyTextSurvivesTheRoundTrip(t *testing.T) {
	text := rapid.StringOfN(rapid.RuneFrom([]rune("aZ é€😀&<>\"'\t\n\r]]>\u0085\u2028\u202e")), 1, 40, -1)
	rapid.Check(t, func(r *rapid.T) {
		ix, g := sample(), unit(1)
		ix.Volume.Label = text.Draw(r, "label")
		ix.Process.Signers[0].Role = text.Draw(r, "attribute")
		g.Relations[0].Values = []string{text.Draw(r, "value")}
		var out bytes.Buffer
		err := sincro.Write(&out, ix, one(g))
		if err != nil {
			r.Fatal(err)
		}
		got, groups, err := read(out.Bytes())
		if err != nil {
			r.Fatal(err)
		}
		if got.Volume.Label != ix.Volume.Label || got.Process.Signers[0].Role != ix.Process.Signers[0].Role || groups[0].Relations[0].Values[0] != g.Relations[0].Values[0] {
			r.Fatalf("changed on the way: %q", out.String())
		}
	})
}

func FuzzRead(f *testing.F) {
	var doc bytes.Buffer
	require.NoError(f, sincro.Write(&doc, sample(), units(2)))
	f.Add(doc.Bytes())
	f.Add([]byte(`<IdC xmlns="http://www.uni.com/U3011/sincro/"/>`))
	f.Add([]byte(`<?xml version="1.0"?><p:PIndex xmlns:p="http://www.uni.com/U3011/sincro-v2/" p:language="it"/>`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		ix, groups, err := read(raw)
		if err != nil {
			return
		}
		var again bytes.Buffer
		err = sincro.Write(&again, ix, func(yield func(sincro.FileGroup, error) bool) {
			for _, g := range groups {
				if !yield(g, nil) {
					return
				}
			}
		})
		if errors.Is(err, sincro.ErrEmbedded) {
			return
		}
		require.NoError(t, err, "what was read as good cannot be written")
		ix2, groups2, err := read(again.Bytes())
		require.NoError(t, err)
		require.Equal(t, ix, ix2)
		require.Equal(t, groups, groups2)
	})
}

func BenchmarkWrite10k(b *testing.B) {
	list := make([]sincro.FileGroup, 10_000)
	for i := range list {
		list[i] = unit(i + 1)
	}
	for b.Loop() {
		var out countWriter
		err := sincro.Write(&out, sample(), func(yield func(sincro.FileGroup, error) bool) {
			for _, g := range list {
				if !yield(g, nil) {
					return
				}
			}
		})
		require.NoError(b, err)
		b.SetBytes(int64(out))
	}
}

type countWriter int64

func (c *countWriter) Write(p []byte) (int, error) {
	*c += countWriter(len(p))
	return len(p), nil
}
