package ers_test

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/ers"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The committed records were built once; every later version must go on verifying them.
func TestGoldenRecords(t *testing.T) {
	group := docs("fascicolo", 2)
	names := []string{"initial", "restamped", "rehashed"}
	if *update {
		c := newClerk(t, 9)
		r := c.seal(t, crypto.SHA256, ers.Initial(group...), ers.Initial(docs("altro", 1)...), ers.Initial(docs("terzo", 1)...))[0]
		for i, name := range names {
			if i > 0 {
				c.now = c.now.AddDate(1, 0, 0)
			}
			switch name {
			case "restamped":
				r = c.seal(t, crypto.SHA256, ers.Restamp(r), ers.Initial(docs("nuovo", 1)...))[0]
			case "rehashed":
				r = c.seal(t, crypto.SHA512, ers.Initial(docs("nuovo", 1)...), ers.Rehash(r, group...))[1]
			}
			require.NoError(t, os.MkdirAll("testdata", 0o755))
			require.NoError(t, os.WriteFile(filepath.Join("testdata", name+".ers"), r.Raw, 0o600))
		}
		ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.pki.Root.Raw})
		require.NoError(t, os.WriteFile(filepath.Join("testdata", "root.pem"), ca, 0o600))
	}
	ca, err := os.ReadFile(filepath.Join("testdata", "root.pem"))
	require.NoError(t, err, "run with -update")
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(ca))
	for i, name := range names {
		raw, err := os.ReadFile(filepath.Join("testdata", name+".ers"))
		require.NoError(t, err)
		r, err := ers.Parse(raw)
		require.NoError(t, err)
		rep, err := r.Verify(group, ers.VerifyOptions{Roots: roots, Whole: true, At: cmstest.Now.AddDate(5, 0, 0)})
		require.NoError(t, err, name)
		require.Equal(t, cmstest.Now, rep.Since)
		require.Len(t, rep.Stamps, i+1)
		_, err = r.Verify(docs("fascicolo", 1), ers.VerifyOptions{Whole: true})
		require.Equal(t, ers.FaultGroup, faultOf(t, err))
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"initial", "restamped", "rehashed"} {
		raw, err := os.ReadFile(filepath.Join("testdata", name+".ers"))
		require.NoError(f, err)
		f.Add(raw)
	}
	group := docs("fascicolo", 2)
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := ers.Parse(raw)
		if err != nil {
			return
		}
		if rep, err := r.Verify(group, ers.VerifyOptions{Whole: true}); err == nil && !rep.Since.Equal(cmstest.Now) {
			t.Fatalf("proved that the data existed at %s", rep.Since)
		}
		if _, err := ers.NewBatch(crypto.SHA256, []ers.Subject{ers.Restamp(r)}); err != nil {
			_ = err.Error()
		}
	})
}

func BenchmarkBuild(b *testing.B) {
	c := newClerk(b, 5)
	var subjects []ers.Subject
	for i := range 10_000 {
		subjects = append(subjects, ers.Initial(docs(fmt.Sprint(i), 2)...))
	}
	batch, err := ers.NewBatch(crypto.SHA256, subjects)
	require.NoError(b, err)
	token := c.stamp(b, crypto.SHA256, batch.Root())
	size := 0
	for b.Loop() {
		batch, err := ers.NewBatch(crypto.SHA256, subjects)
		if err != nil {
			b.Fatal(err)
		}
		sealed, err := batch.Seal(token)
		if err != nil {
			b.Fatal(err)
		}
		size = 0
		for i := range subjects {
			der, err := sealed.Record(i)
			if err != nil {
				b.Fatal(err)
			}
			size += len(der)
		}
	}
	b.ReportMetric(float64(b.N*len(subjects))/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(size)/float64(len(subjects)), "record-B")
}

func BenchmarkVerify(b *testing.B) {
	r, group := aged(b)
	b.Run("parse", func(b *testing.B) {
		for b.Loop() {
			if _, err := ers.Parse(r.Raw); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(r.Raw)), "record-B")
	})
	b.Run("verify-4-stamps", func(b *testing.B) {
		for b.Loop() {
			if _, err := r.Verify(group, ers.VerifyOptions{Whole: true}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
