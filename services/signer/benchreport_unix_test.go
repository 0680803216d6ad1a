//go:build unix

package signer_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/timestamppb"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/cms/cmstest"
)

// usage is processor time.
type usage struct {
	service, vault, postgres time.Duration
	machine, possible        time.Duration // of all processes, and of all processors
}

func (u usage) plus(o usage) usage {
	return usage{u.service + o.service, u.vault + o.vault, u.postgres + o.postgres, u.machine + o.machine, u.possible + o.possible}
}

func (u usage) minus(o usage) usage {
	return usage{u.service - o.service, u.vault - o.vault, u.postgres - o.postgres, u.machine - o.machine, u.possible - o.possible}
}

func row(name string, value float64, unit, target string) {
	fmt.Printf("%-88s %12.2f %-14s (target %s)\n", name, value, unit, target)
}

// BenchmarkReport is what `make bench-signer` shows. Each part is by itself too, such as
// ARGS='-bench Report/vault'. What is compared is measured in turns, in one run.
func BenchmarkReport(b *testing.B) {
	for _, part := range []struct {
		name   string
		report func(*testing.B)
	}{{"formats", reportFormats}, {"large", reportLarge}, {"stream", reportStream}, {"vault", reportVault}, {"persons", reportPersons}} {
		b.Run(part.name, func(b *testing.B) {
			for range b.N {
				part.report(b)
			}
		})
	}
}

// turns runs functions in turns for a while and gives the median time of each: a machine that slows down
// slows all of them down.
func turns(b *testing.B, times int, atLeast time.Duration, each ...func() error) []time.Duration {
	b.Helper()
	took := make([][]time.Duration, len(each))
	for end := time.Now().Add(atLeast); time.Now().Before(end) || len(took[0]) < times; {
		for i, f := range each {
			began := time.Now()
			require.NoError(b, f())
			took[i] = append(took[i], time.Since(began))
		}
	}
	out := make([]time.Duration, len(each))
	for i, list := range took {
		slices.Sort(list)
		out[i] = list[len(list)/2]
	}
	return out
}

// reportFormats makes and judges the p7m of a 10 kB invoice. The making is measured without the key's
// operation, whose value is known; judging against the bare verification and the hash of the same bytes.
func reportFormats(b *testing.B) {
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
	p7m, err := p.Assemble(content, value)
	require.NoError(b, err)
	bare, err := pair.Key.Sign(nil, sum[:], crypto.SHA256)
	require.NoError(b, err)
	public, ok := pair.Cert.PublicKey.(*rsa.PublicKey)
	require.True(b, ok)
	took := turns(b, 5, 1500*time.Millisecond,
		func() error {
			sum := sha256.Sum256(content)
			p, err := cades.Prepare(sum[:], who, o)
			if err == nil {
				_, err = p.Assemble(content, value)
			}
			return err
		},
		func() error {
			sum := sha256.Sum256(content)
			return rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], bare)
		},
		func() error {
			_, report, err := cades.Verify(p7m, cades.VerifyOptions{})
			if err == nil && !report.Signers[0].Intact() {
				err = errors.New("it does not hold")
			}
			return err
		})
	row("signer: CAdES of 10 kB, all but the key's operation", float64(took[0].Nanoseconds())/1e3, "µs", "< 100")
	row("signer: RSA-3072 verification and SHA-256 of 10 kB, bare", float64(took[1].Nanoseconds())/1e3, "µs", "-")
	row("signer: verification of that p7m against the bare", float64(took[2])/float64(took[1]), "times", "<= 1.5")
}

// largeSize is that of the large document.
const largeSize = 200 << 20

// reportLarge signs and judges 200 MB in the library: the bytes are in memory for all, plain SHA-256
// included, so that no disk is measured.
func reportLarge(b *testing.B) {
	pki := cmstest.New(b)
	pair := pki.Issue(b, "Alfa", cmstest.RSA(b))
	who := cades.Signer{Chain: pair.Chain, Key: pair.Key}
	content := bytes.Repeat([]byte("0123456789abcdef"), largeSize/16)
	var der bytes.Buffer
	der.Grow(largeSize + 1<<16)
	o := cades.Options{SigningTime: cmstest.Now}
	require.NoError(b, cades.SignStream(context.Background(), &der, bytes.NewReader(content), who, o))
	ber := inChunks(content, der.Bytes(), 1000)
	judge := func(file []byte) func() error {
		return func() error {
			sd, err := cms.ParseStream(bytes.NewReader(file), cms.Limits{})
			if err == nil && !cades.Judge(sd, cades.VerifyOptions{}).Signers[0].Intact() {
				err = errors.New("it does not hold")
			}
			return err
		}
	}
	sign := func() error {
		return cades.SignStream(context.Background(), io.Discard, bytes.NewReader(content), who, o)
	}
	acts := []func() error{func() error { sha256.Sum256(content); return nil }, sign, judge(der.Bytes()), judge(ber)}
	took := turns(b, 5, 5*time.Second, acts...)
	row("signer: plain SHA-256", largeSize/1e6/took[0].Seconds(), "MB/s", "-")
	for i, name := range []string{"", "signing a 200 MB p7m", "judging a 200 MB p7m, DER", "judging a 200 MB p7m, BER in chunks of 1000"} {
		if i == 0 {
			continue
		}
		row("signer: "+name+", of plain SHA-256", 100*float64(took[0])/float64(took[i]), "%", "> 70")
		row("signer: "+name+", memory allocated in all", allocated(b, acts[i]), "MB", "< 32")
	}
}

func allocated(b *testing.B, act func() error) float64 {
	b.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	require.NoError(b, act())
	runtime.ReadMemStats(&after)
	return float64(after.TotalAlloc-before.TotalAlloc) / 1e6
}

// inChunks is an attached file in BER: indefinite lengths, the content in pieces of one size.
func inChunks(content, der []byte, size int) []byte {
	var out bytes.Buffer
	out.Grow(len(der) + 6*(len(content)/size+10))
	out.Write([]byte{0x30, 0x80, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0xd, 1, 7, 2, 0xa0, 0x80, 0x30, 0x80, 2, 1, 1,
		0x31, 0xd, 0x30, 0xb, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 0x30, 0x80, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0xd, 1, 7, 1, 0xa0, 0x80, 0x24, 0x80})
	for rest := content; len(rest) > 0; {
		n := min(len(rest), size)
		out.Write([]byte{4, 0x82, byte(n >> 8), byte(n)})
		out.Write(rest[:n])
		rest = rest[n:]
	}
	out.Write(make([]byte, 6))
	out.Write(der[bytes.Index(der, content[:64])+len(content):])
	out.Write(make([]byte, 6))
	return out.Bytes()
}

// reportStream sends 200 MB through the gRPC stream and takes the content back: all of it is encrypted twice, written to a
// file and read again, beside being judged. Client and service are one process, whose memory is looked at another time,
// since whoever looks collects garbage all the while.
func reportStream(b *testing.B) {
	h := open(b)
	p7m := largeP7M(b)
	api := signv1.NewVerificationServiceClient(h.Tenant("signer", "acme", "documents.verify"))
	through := func() error {
		require.Equal(b, largeSize, sendToVerify(b, api, p7m))
		return nil
	}
	took := turns(b, 3, 0, func() error { sha256.Sum256(p7m); return nil }, through)
	row("signer: 200 MB p7m through Verify, content taken back", float64(len(p7m))/1e6/took[1].Seconds(), "MB/s each way", "-")
	row("signer: 200 MB p7m through Verify, content taken back, of plain SHA-256", 100*float64(took[0])/float64(took[1]), "%", "-")
	runtime.GC()
	stop, most := watchHeap()
	require.NoError(b, through())
	stop()
	row("signer: 200 MB p7m through Verify, most memory alive above rest", most()/1e6, "MB", "< 32")
}

func largeP7M(t testing.TB) []byte {
	t.Helper()
	pki := cmstest.New(t)
	pair := pki.Issue(t, "Alfa", cmstest.NewECDSA(t))
	content := bytes.Repeat([]byte("0123456789abcdef"), largeSize/16)
	var out bytes.Buffer
	out.Grow(largeSize + 1<<16)
	require.NoError(t, cades.SignStream(context.Background(), &out, bytes.NewReader(content), cades.Signer{Chain: pair.Chain, Key: pair.Key}, cades.Options{SigningTime: cmstest.Now}))
	return out.Bytes()
}

// largeBER is a file of largeP7M with its content in chunks.
func largeBER(der []byte) []byte {
	at := bytes.Index(der, []byte("0123456789abcdef0123456789abcdef"))
	return inChunks(der[at:at+largeSize], der, 1000)
}

// watchHeap looks at what is alive in the heap, every few milliseconds, after a collection: the files that the
// caller holds would let garbage grow to twice their size. most is the growth.
func watchHeap() (stop func(), most func() float64) {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	first, top := m.HeapAlloc, uint64(0)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			case <-time.After(10 * time.Millisecond):
				runtime.GC()
				runtime.ReadMemStats(&m)
				top = max(top, m.HeapAlloc)
			}
		}
	}()
	return func() { close(done); <-ended }, func() float64 { return float64(max(top, first) - first) }
}

// sendToVerify sends a file and counts the content that comes back.
func sendToVerify(b testing.TB, api signv1.VerificationServiceClient, file []byte) int {
	b.Helper()
	stream, err := api.Verify(context.Background())
	require.NoError(b, err)
	require.NoError(b, stream.Send(&signv1.VerifyRequest{Part: &signv1.VerifyRequest_Head{Head: &signv1.VerifyHead{Parent: "tenants/acme", ReturnContent: true}}}))
	for len(file) > 0 {
		n := min(len(file), 256<<10)
		require.NoError(b, stream.Send(&signv1.VerifyRequest{Part: &signv1.VerifyRequest_FileChunk{FileChunk: file[:n]}}))
		file = file[n:]
	}
	require.NoError(b, stream.CloseSend())
	total := 0
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return total
		}
		require.NoError(b, err)
		if r := m.GetReport(); r != nil {
			require.True(b, r.GetSignatures()[0].GetIntact())
		}
		total += len(m.GetContentChunk())
	}
}

var opensslLine = map[signv1.KeyType]*regexp.Regexp{
	rsa3072: regexp.MustCompile(`(?m)^rsa 3072 bits +\S+ +\S+ +([0-9.]+)`),
	p256:    regexp.MustCompile(`(?m)^ *256 bits ecdsa \(nistp256\) +\S+ +\S+ +([0-9.]+)`),
}

// opensslSpeed asks openssl how many signatures it makes a second on all processors.
func opensslSpeed(b *testing.B, name string, key signv1.KeyType) float64 {
	b.Helper()
	out, err := exec.CommandContext(b.Context(), "openssl", "speed", "-seconds", "2", "-multi", strconv.Itoa(runtime.NumCPU()), name).CombinedOutput()
	require.NoError(b, err, string(out))
	m := opensslLine[key].FindSubmatch(out)
	require.NotNil(b, m, string(out))
	v, err := strconv.ParseFloat(string(m[1]), 64)
	require.NoError(b, err)
	return v
}

// reportVault has two callers sign 500 documents each by mandate, and as many digests signed by Vault in
// batches of 16, two at a time, in turns. First Vault, the service and PostgreSQL have the processors together; then
// Vault has one of its own, as it does where it runs on other machines, and all else has another.
func reportVault(b *testing.B) {
	durable(b)
	h := open(b)
	for _, k := range []struct {
		name, openssl string
		key           signv1.KeyType
	}{{"RSA-3072", "rsa3072", rsa3072}, {"P-256", "ecdsap256", p256}} {
		b.Run(k.name, func(b *testing.B) {
			row("signer: "+k.name+", openssl speed on all processors", opensslSpeed(b, k.openssl, k.key), "signatures/s", "-")
			ours, direct := h.bothWays(b, k.key)
			h.compare(b, k.name+", shared processors", ours, direct)
			if apart(b, h) {
				h.compare(b, k.name+", Vault on a processor of its own", ours, direct)
				shared(b, h)
			}
		})
	}
}

// perTurn is how many signatures are made in one turn.
const perTurn = 1000

// compare prints both rates, their ratio, and what a signature through the service costs each of the three.
func (h *house) compare(b *testing.B, name string, ours, direct func() error) {
	b.Helper()
	var spent usage
	made := 0
	counted := func() error {
		before := h.usage(b)
		err := ours()
		spent = spent.plus(h.usage(b).minus(before))
		made += perTurn
		return err
	}
	took := turns(b, 3, 4*time.Second, counted, direct)
	row("signer: "+name+", through the service", perTurn/took[0].Seconds(), "signatures/s", "-")
	row("signer: "+name+", Vault called directly", perTurn/took[1].Seconds(), "signatures/s", "-")
	row("signer: "+name+", of Vault's own rate", 100*float64(took[1])/float64(took[0]), "%", ">= 85")
	for of, d := range map[string]time.Duration{"the service": spent.service, "Vault": spent.vault, "PostgreSQL": spent.postgres} {
		if d > 0 {
			row("signer: "+name+", processor of "+of, float64(d.Microseconds())/float64(made), "µs/signature", "-")
		}
	}
}

// bothWays makes a key, and signs perTurn times with it: through the service, and by Vault without us.
func (h *house) bothWays(b *testing.B, key signv1.KeyType) (ours, direct func() error) {
	b.Helper()
	cred := h.credential(b, company, automatic, key).GetName()
	api := signv1.NewDocumentServiceClient(h.Tenant("signer", "acme", "documents.sign", "credentials.write"))
	now := time.Now()
	m, err := api.CreateMandate(context.Background(), &signv1.CreateMandateRequest{Parent: cred, Mandate: &signv1.Mandate{
		Description: "bench", Forms: []signv1.SignatureForm{detached}, MaxDocuments: 1e9, MaxPerDay: 1e7,
		StartTime: timestamppb.New(now.Add(-time.Hour)), EndTime: timestamppb.New(now.Add(time.Hour)),
	}})
	require.NoError(b, err)
	one := func() error {
		r := &signv1.SignDocumentsRequest{Credential: cred, Mandate: m.GetName(), Form: detached, RequestId: uuid.NewString()}
		for i := range perTurn / 2 {
			r.Documents = append(r.Documents, &signv1.DocumentToSign{Source: &signv1.DocumentToSign_Content{Content: fmt.Appendf(nil, "%s %d", r.GetRequestId(), i)}})
		}
		_, err := api.SignDocuments(context.Background(), r)
		return err
	}
	ours = func() error {
		var both errgroup.Group
		both.Go(one)
		both.Go(one)
		return both.Wait()
	}
	batches := h.vaultBatches(b, cred, key)
	require.NoError(b, ours()) // the connections are there for both
	batches(perTurn / 2)
	return ours, func() error { batches(perTurn); return nil }
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
