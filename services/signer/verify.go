package signer

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"

	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/validation"
	show "ceralacca.dev/services/format/validation/verdict"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/guard"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/spool"
	"ceralacca.dev/services/signer/internal/online"
)

// VerificationConfig says by what files are judged that others signed.
type VerificationConfig struct {
	// RootsFile holds certificates to trust beside the trusted lists, PEM; what they issue is never
	// called qualified. Empty: none.
	RootsFile string `yaml:"roots_file"`
	// TrustLists are files and http(s) addresses of EU trusted lists: the list of the lists, such as
	// https://ec.europa.eu/tools/lotl/eu-lotl.xml (its pivots and the national lists are followed), or
	// national lists.
	TrustLists []string `yaml:"trust_lists"`
	// ListSignersFile holds the certificates that sign the list of the lists, PEM, as published in the
	// Official Journal; or who signs national lists that are used without it.
	ListSignersFile string `yaml:"list_signers_file"`
	// Territories are the national lists that are followed, such as IT; empty: all.
	Territories []string `yaml:"territories"`
	// ListDir keeps the last good copies of the lists, and their numbers, over a restart; replicas may share
	// it. Empty: memory only.
	ListDir string `yaml:"list_dir"`
	// RefreshEvery is the pause between looks for new lists.
	RefreshEvery time.Duration `yaml:"refresh_every"`
	// Online asks OCSP responders and fetches revocation lists; without it whatever a file does not
	// bring stays unknown.
	Online bool `yaml:"online"`
	// AllowNetworks are networks (CIDR) that may be called although they are not public.
	AllowNetworks []string `yaml:"allow_networks"`
	// FetchTimeout is for one question to the network, from name resolution to the last byte.
	FetchTimeout time.Duration `yaml:"fetch_timeout"`
	// MaxSize is the largest file, in bytes. A .p7m and a PDF are judged in pieces: what is over 1 MiB
	// waits on disk, and memory does not grow with it.
	MaxSize int64 `yaml:"max_size"`
	// MaxHeld is the largest file, in bytes, of a form that has to be held in memory, several times: XML, .tsd,
	// .m7m, Base64. Larger ones are INDETERMINATE.
	MaxHeld int64 `yaml:"max_held"`
	// SpoolDir is where files wait on disk while they are judged, without a name; empty: the system's
	// folder for temporary files.
	SpoolDir string `yaml:"spool_dir"`
	// Parallel is how many files are judged at the same time.
	Parallel int `yaml:"parallel"`
	// Timeout is for one file, its upload included.
	Timeout time.Duration `yaml:"timeout"`
}

func defaultVerification() VerificationConfig {
	return VerificationConfig{
		RefreshEvery: time.Hour, Online: true, FetchTimeout: 8 * time.Second, MaxSize: 256 << 20, MaxHeld: 16 << 20, Parallel: 2, Timeout: 2 * time.Minute,
	}
}

func (v *VerificationConfig) validate(bad func(when bool, path, format string, a ...any)) {
	for i, s := range v.AllowNetworks {
		_, err := netip.ParsePrefix(s)
		bad(err != nil, fmt.Sprintf("verification.allow_networks[%d]", i), "%q is no network: write it as 10.0.0.0/8", s)
	}
	bad(len(v.TrustLists) > 0 && v.ListSignersFile == "", "verification.list_signers_file", "is missing: without who signs them, lists prove nothing")
	bad(v.RefreshEvery < time.Minute, "verification.refresh_every", "must be 1m at least")
	bad(v.FetchTimeout < 100*time.Millisecond || v.FetchTimeout > time.Minute, "verification.fetch_timeout", "must be between 100ms and 1m")
	bad(v.MaxSize < 1<<10 || v.MaxSize > 1<<30, "verification.max_size", "must be between 1024 and 1073741824 bytes")
	bad(v.MaxHeld < 1<<10 || v.MaxHeld > 256<<20, "verification.max_held", "must be between 1024 and 268435456 bytes")
	bad(v.Parallel < 1 || v.Parallel > 64, "verification.parallel", "must be between 1 and 64")
	bad(v.Timeout < time.Second, "verification.timeout", "must be 1s at least")
}

const (
	maxRevocationList = 32 << 20
	maxTrustList      = 32 << 20
	revocationMemory  = 128 << 20
	// questions is how many fetches one file may cause.
	questions = 64
	// answerChunk is the size of the pieces that go back.
	answerChunk = 64 << 10
)

// verifier judges files.
type verifier struct {
	cfg    VerificationConfig
	roots  []*x509.Certificate
	client *online.Client
	lists  *online.Lists
	hand   chan struct{} // files in hand, their upload included
	slots  chan struct{} // files being judged
}

// inHand is how many files may be on their way for each that is judged at the same time.
const inHand = 4

func newVerifier(cfg VerificationConfig, now func() time.Time, log *slog.Logger) (*verifier, error) {
	roots, err := certificatesFrom("verification.roots_file", cfg.RootsFile)
	if err != nil {
		return nil, err
	}
	signers, err := certificatesFrom("verification.list_signers_file", cfg.ListSignersFile)
	if err != nil {
		return nil, err
	}
	reach, err := guard.New(cfg.AllowNetworks)
	if err != nil {
		return nil, err
	}
	client := online.New(online.Config{
		Guard: reach, Timeout: cfg.FetchTimeout, MaxCRL: maxRevocationList, MaxList: maxTrustList, Memory: revocationMemory, Now: now,
	})
	return &verifier{
		cfg: cfg, roots: roots, client: client, slots: make(chan struct{}, cfg.Parallel), hand: make(chan struct{}, inHand*cfg.Parallel),
		lists: online.NewLists(client, online.ListsConfig{Sources: cfg.TrustLists, Signers: signers, Territories: cfg.Territories, Dir: cfg.ListDir}, log),
	}, nil
}

func certificatesFrom(key, name string) ([]*x509.Certificate, error) {
	if name == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, run.BadField(key, "cannot be read: %v", err)
	}
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, raw = pem.Decode(raw); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, run.BadField(key, "%s: %v", name, err)
		}
		out = append(out, cert)
	}
	if len(out) == 0 {
		return nil, run.BadField(key, "%s holds no PEM certificate", name)
	}
	return out, nil
}

// judge gives the report of a file, and what must be known beside it.
func (v *verifier) judge(ctx context.Context, f *fileToVerify, now time.Time) (*validation.Report, []string, error) {
	select {
	case v.slots <- struct{}{}:
		defer func() { <-v.slots }()
	case <-ctx.Done():
		return nil, nil, fault.Exhausted(time.Second, "VERIFICATION_BUSY", "other files took all of %s: try again", v.cfg.Timeout).With(ctx.Err())
	}
	o := validation.Options{At: now, Roots: v.roots, InMemory: v.cfg.MaxHeld}
	if f.content != nil {
		o.Beside = f.content
	}
	if at := f.head.GetAt(); at.IsValid() {
		o.At = at.AsTime()
	}
	var notes []string
	o.Trust, notes = v.lists.Trust(now)
	if v.cfg.Online {
		o.Ask = v.client.Ask(questions)
	}
	r, err := validation.ValidateSource(ctx, f.file, o)
	switch {
	case errors.Is(err, validation.ErrUnsigned):
		return nil, nil, fault.Invalid("FILE_UNSIGNED", "the file holds no signature and no time-stamp")
	case err != nil && ctx.Err() != nil:
		return nil, nil, ctx.Err()
	case errors.As(err, new(*os.PathError)):
		return nil, nil, fmt.Errorf("signer: %w", err)
	case err != nil:
		return nil, nil, fault.Invalid("FILE_UNREADABLE", "%s", strings.TrimPrefix(err.Error(), "validation: "))
	}
	return r, notes, nil
}

// fileToVerify is what arrived.
type fileToVerify struct {
	head          *signv1.VerifyHead
	file, content *spool.File // content is nil when there is none
}

func (f *fileToVerify) close() {
	for _, s := range []*spool.File{f.file, f.content} {
		if s != nil {
			_ = s.Close() // it was read
		}
	}
}

// Verify judges one file. It keeps nothing.
func (s *Service) Verify(stream grpc.BidiStreamingServer[signv1.VerifyRequest, signv1.VerifyResponse]) error {
	v := s.verifier
	ctx, cancel := context.WithTimeout(stream.Context(), v.cfg.Timeout)
	defer cancel()
	select {
	case v.hand <- struct{}{}:
		defer func() { <-v.hand }()
	default:
		return fault.Exhausted(time.Second, "VERIFICATION_BUSY", "%d files are in hand, which is all that are at a time: try again", cap(v.hand))
	}
	f, err := s.receive(ctx, stream)
	if err != nil {
		return err
	}
	defer f.close()
	r, notes, err := v.judge(ctx, f, s.now())
	if err != nil {
		return err
	}
	sum := f.file.SHA256()
	about := show.File{Name: f.head.GetFileName(), Size: f.file.Size(), SHA256: sum[:], Notes: notes}
	report, err := reportMessage(r, about)
	if err != nil {
		return err
	}
	err = stream.Send(&signv1.VerifyResponse{Part: &signv1.VerifyResponse_Report{Report: report}})
	if err != nil {
		return err
	}
	err = sendViews(stream, r, about, f.head)
	if err != nil || !f.head.GetReturnContent() || report.Content == nil {
		return err
	}
	content := io.NewSectionReader(r.Extracted, 0, r.Extracted.Size())
	for piece := make([]byte, answerChunk); ; {
		n, err := io.ReadFull(content, piece)
		if n > 0 {
			if err := stream.Send(&signv1.VerifyResponse{Part: &signv1.VerifyResponse_ContentChunk{ContentChunk: piece[:n]}}); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("signer: read content: %w", err)
		}
	}
}

// receive takes the head and what follows it. Reading a stream cannot be given up half-way, so it
// is done beside: a caller who sends nothing more is left behind when the time is over.
func (s *Service) receive(ctx context.Context, stream grpc.BidiStreamingServer[signv1.VerifyRequest, signv1.VerifyResponse]) (*fileToVerify, error) {
	type result struct {
		file *fileToVerify
		err  error
	}
	done := make(chan result, 1)
	go func() {
		f, err := s.upload(ctx, stream)
		done <- result{f, err}
	}()
	select {
	case r := <-done:
		return r.file, r.err
	case <-ctx.Done():
		go func() { // the stream ends with this call, and the upload with it
			if r := <-done; r.file != nil {
				r.file.close()
			}
		}()
		return nil, fault.Unavailable("VERIFICATION_TIMEOUT", "the file did not arrive within %s", s.cfg.Verification.Timeout).With(ctx.Err())
	}
}

func (s *Service) upload(ctx context.Context, stream grpc.BidiStreamingServer[signv1.VerifyRequest, signv1.VerifyResponse]) (f *fileToVerify, err error) {
	first, err := stream.Recv()
	if err != nil {
		if errors.Is(err, io.EOF) {
			return nil, fault.Invalid("HEAD_MISSING", "the first message is the head, and there was none")
		}
		return nil, err
	}
	f = &fileToVerify{head: first.GetHead()}
	if f.head == nil {
		return nil, fault.Invalid("HEAD_MISSING", "the first message is the head, and this one is a chunk")
	}
	given := f
	defer func() {
		if err != nil {
			given.close()
		}
	}()
	if f.file, err = s.given(ctx, f.head, "file", f.head.GetFile()); err != nil {
		return nil, err
	}
	if f.content, err = s.given(ctx, f.head, "content", f.head.GetContent()); err != nil {
		return nil, err
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if err := s.addChunk(f, m); err != nil {
			return nil, err
		}
	}
	if f.file == nil || f.file.Size() == 0 {
		return nil, fault.Invalid("FILE_EMPTY", "there is no file: name a blob in the head, or send chunks")
	}
	return f, nil
}

func (s *Service) newSpool() *spool.File {
	return spool.New(s.cfg.Verification.SpoolDir, s.cfg.Verification.MaxSize)
}

// given reads a blob of the tenant.
func (s *Service) given(ctx context.Context, head *signv1.VerifyHead, field string, b *eventv1.Blob) (*spool.File, error) {
	if b == nil {
		return nil, nil
	}
	ids, ok := cut(head.GetParent(), "tenants")
	if !ok {
		return nil, fault.Invalid("NAME_INVALID", "head.parent: %q is not tenants/{tenant}", head.GetParent())
	}
	ref, err := refFrom(ids[0], "head."+field, b)
	if err != nil {
		return nil, err
	}
	if ref.Size > s.cfg.Verification.MaxSize {
		return nil, s.tooLarge()
	}
	from, err := s.blobs.Open(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer from.Close()
	to := s.newSpool()
	_, err = io.Copy(to, from)
	if err == nil && to.SHA256() != ref.SHA256 {
		err = fault.Internal("BLOB_DAMAGED", "the bytes of head.%s are not those that were stored", field)
	}
	if err != nil {
		return nil, errors.Join(err, to.Close())
	}
	return to, nil
}

func (s *Service) tooLarge() error {
	return fault.Invalid("FILE_TOO_LARGE", "the file is larger than %d bytes, the most that is judged here (verification.max_size)", s.cfg.Verification.MaxSize)
}

func (s *Service) addChunk(f *fileToVerify, m *signv1.VerifyRequest) error {
	add := func(to **spool.File, chunk []byte, named bool) error {
		if named {
			return fault.Invalid("FILE_TWICE", "the head names a blob, and chunks of the same follow: give one of both")
		}
		if *to == nil {
			*to = s.newSpool()
		}
		_, err := (*to).Write(chunk)
		if errors.Is(err, spool.ErrTooLarge) {
			return s.tooLarge()
		}
		return err
	}
	switch part := m.GetPart().(type) {
	case *signv1.VerifyRequest_FileChunk:
		return add(&f.file, part.FileChunk, f.head.GetFile() != nil)
	case *signv1.VerifyRequest_ContentChunk:
		return add(&f.content, part.ContentChunk, f.head.GetContent() != nil)
	}
	return fault.Invalid("HEAD_TWICE", "a second head: one call judges one file")
}

func sendViews(stream grpc.BidiStreamingServer[signv1.VerifyRequest, signv1.VerifyResponse], r *validation.Report, about show.File, head *signv1.VerifyHead) error {
	lang := head.GetLanguage()
	if lang == "" {
		lang = "it"
	}
	for _, view := range head.GetViews() {
		var b bytes.Buffer
		var err error
		switch view {
		case signv1.ReportView_REPORT_VIEW_HTML:
			err = show.HTML(&b, r, about, show.Options{Lang: lang})
		case signv1.ReportView_REPORT_VIEW_PDF:
			err = show.PDF(&b, r, about, show.Options{Lang: lang})
		default:
			err = show.JSON(&b, r, about, lang)
		}
		if err != nil {
			return fmt.Errorf("signer: %w", err)
		}
		err = inChunks(b.Bytes(), func(piece []byte) error {
			return stream.Send(&signv1.VerifyResponse{Part: &signv1.VerifyResponse_View{View: &signv1.ReportViewChunk{View: view, Data: piece}}})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func inChunks(b []byte, send func([]byte) error) error {
	for len(b) > 0 {
		n := min(len(b), answerChunk)
		if err := send(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
