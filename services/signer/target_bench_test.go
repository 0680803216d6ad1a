package signer_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/timestamppb"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms/cmstest"
)

// The benchmarks of this file stand for a target each; "target" in a metric's name says which.

// BenchmarkCAdESWithoutKey makes the p7m of a 10 kB invoice of which the signature value is known.
// Target of what is written: under 100 µs. checked adds the verification of the value, an operation
// with the (public) key that each signature gets.
func BenchmarkCAdESWithoutKey(b *testing.B) {
	pki := cmstest.New(b)
	pair := pki.Issue(b, "Alfa", cmstest.RSA(b))
	who := cades.Signer{Chain: pair.Chain, Key: pair.Key}
	content := []byte(strings.Repeat("<Riga>dieci</Riga>", 570))
	o := cades.Options{SigningTime: cmstest.Now}
	sum := sha256.Sum256(content)
	p, err := cades.Prepare(sum[:], who, o)
	require.NoError(b, err)
	value, err := p.Sign(context.Background(), who.Key)
	require.NoError(b, err)
	for name, checked := range map[string]bool{"written": false, "checked": true} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				sum := sha256.Sum256(content)
				p, err := cades.Prepare(sum[:], who, o)
				if err == nil && checked {
					err = p.Check(value)
				}
				if err != nil {
					b.Fatal(err)
				}
				if _, err = p.Assemble(content, value); err != nil {
					b.Fatal(err)
				}
			}
			unit := "µs/signature(target<100)"
			if checked {
				unit = "µs/signature"
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/1000/float64(b.N), unit)
		})
	}
}

// BenchmarkVerifyAgainstBare judges a p7m of 10 kB, and does the bare RSA verification and hashing
// of the same bytes. Target: at most 1.5 times the bare.
func BenchmarkVerifyAgainstBare(b *testing.B) {
	pki := cmstest.New(b)
	pair := pki.Issue(b, "Alfa", cmstest.RSA(b))
	content := []byte(strings.Repeat("<Riga>dieci</Riga>", 570))
	p7m, err := cades.Sign(context.Background(), content, cades.Signer{Chain: pair.Chain, Key: pair.Key}, cades.Options{SigningTime: cmstest.Now})
	require.NoError(b, err)
	sum := sha256.Sum256(content)
	value, err := pair.Key.Sign(nil, sum[:], crypto.SHA256)
	require.NoError(b, err)
	public, ok := pair.Cert.PublicKey.(*rsa.PublicKey)
	require.True(b, ok)
	var bare, ours time.Duration
	for b.Loop() {
		began := time.Now()
		sum := sha256.Sum256(content)
		if err := rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], value); err != nil {
			b.Fatal(err)
		}
		bare += time.Since(began)
		began = time.Now()
		_, report, err := cades.Verify(p7m, cades.VerifyOptions{})
		if err != nil || !report.Signers[0].Intact() {
			b.Fatal(err)
		}
		ours += time.Since(began)
	}
	b.ReportMetric(float64(ours)/float64(bare), "times-bare(target<=1.5)")
}

// BenchmarkLargeDocument signs 200 MB in a stream. Target: over 70% of plain SHA-256, memory flat. The
// stream is read twice: DER wants the digest before the bytes.
func BenchmarkLargeDocument(b *testing.B) {
	pki := cmstest.New(b)
	pair := pki.Issue(b, "Alfa", cmstest.RSA(b))
	who := cades.Signer{Chain: pair.Chain, Key: pair.Key}
	content := bytes.Repeat([]byte("0123456789abcdef"), 200<<20/16)
	var plain, ours time.Duration
	var before, after runtime.MemStats
	for b.Loop() {
		began := time.Now()
		h := sha256.New()
		_, _ = io.Copy(h, bytes.NewReader(content))
		h.Sum(nil)
		plain += time.Since(began)
		runtime.ReadMemStats(&before)
		began = time.Now()
		if err := cades.SignStream(context.Background(), io.Discard, bytes.NewReader(content), who, cades.Options{SigningTime: cmstest.Now}); err != nil {
			b.Fatal(err)
		}
		ours += time.Since(began)
		runtime.ReadMemStats(&after)
	}
	b.ReportMetric(100*float64(plain)/float64(ours), "%-of-SHA-256(target>70)")
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/(1<<20), "MiB-allocated(target<32)")
}

// BenchmarkAgainstVault has a batch of documents signed by mandate, and as many digests by Vault in
// batches of 16, two at a time. Target: at least 85% of Vault's rate.
func BenchmarkAgainstVault(b *testing.B) {
	const batch = 500
	for name, key := range map[string]signv1.KeyType{"P-256": p256, "RSA-3072": rsa3072} {
		b.Run(name, func(b *testing.B) {
			h := open(b)
			cred := h.credential(b, company, automatic, key).GetName()
			api := signv1.NewDocumentServiceClient(h.Tenant("signer", "acme", "documents.sign", "credentials.write"))
			now := time.Now()
			m, err := api.CreateMandate(context.Background(), &signv1.CreateMandateRequest{Parent: cred, Mandate: &signv1.Mandate{
				Description: "bench", Forms: []signv1.SignatureForm{detached}, MaxDocuments: 1e9, MaxPerDay: 1e7,
				StartTime: timestamppb.New(now.Add(-time.Hour)), EndTime: timestamppb.New(now.Add(time.Hour)),
			}})
			require.NoError(b, err)
			direct := h.vaultBatches(b, cred, key)
			direct(batch) // the connections are there for both
			var ours, theirs time.Duration
			round := 0
			for b.Loop() {
				round++
				r := &signv1.SignDocumentsRequest{Credential: cred, Mandate: m.GetName(), Form: detached, RequestId: uuid.NewString()}
				for i := range batch {
					r.Documents = append(r.Documents, &signv1.DocumentToSign{Source: &signv1.DocumentToSign_Content{Content: fmt.Appendf(nil, "%d %d", round, i)}})
				}
				began := time.Now()
				if _, err := api.SignDocuments(context.Background(), r); err != nil {
					b.Fatal(err)
				}
				ours += time.Since(began)
				began = time.Now()
				direct(batch)
				theirs += time.Since(began)
			}
			b.ReportMetric(batch*float64(b.N)/ours.Seconds(), "signatures/s")
			b.ReportMetric(batch*float64(b.N)/theirs.Seconds(), "vault-signatures/s")
			b.ReportMetric(100*float64(theirs)/float64(ours), "%-of-Vault(target>=85)")
		})
	}
}

// vaultBatches signs n digests with the key of a credential, without us.
func (h *house) vaultBatches(b *testing.B, cred string, key signv1.KeyType) func(n int) {
	b.Helper()
	client, err := h.vault.Client()
	require.NoError(b, err)
	path := "transit/sign/ceralacca-" + strings.Split(cred, "/")[5]
	input := make([]map[string]any, 16)
	for i := range input {
		sum := sha256.Sum256([]byte{byte(i)})
		input[i] = map[string]any{"input": base64.StdEncoding.EncodeToString(sum[:])}
	}
	return func(n int) {
		var g errgroup.Group
		g.SetLimit(2)
		for left := n; left > 0; left -= len(input) {
			g.Go(func() error {
				body := map[string]any{"batch_input": input[:min(left, len(input))], "key_version": 1, "prehashed": true, "hash_algorithm": "sha2-256"}
				if key == rsa3072 {
					body["signature_algorithm"] = "pkcs1v15"
				}
				_, err := client.Logical().Write(path, body)
				return err
			})
		}
		require.NoError(b, g.Wait())
	}
}
