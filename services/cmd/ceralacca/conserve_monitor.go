package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/format/custody"
	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/internal/fault"
)

// monitor follows the log from a place that its operator does not reach.
type monitor struct {
	c        *cli
	state    string // folder
	policy   tlog.Policy
	receipts []string
	webhook  string
	packages bool
	silence  time.Duration
	fresh    time.Duration // how old the last time stamp may be; 0: it is not asked for
	stamps   tlog.StampPolicy

	named map[string]string // packages by the names of their receipts, as rounds found them
}

// Files in the folder of a monitor.
const (
	lastSeen   = "last.checkpoint"
	statusFile = "status.json"
	alarmsDir  = "alarms"
	// Since when something is so, while it is: rounds that are begun one by one, by a timer, know it too.
	unreachedFile = "unreached.since"
	unstampedFile = "unstamped.since"
)

// What a monitor says besides what custody knows.
const (
	packageMissing   = "PACKAGE_MISSING"   // a receipt says that it was sealed, and the archive does not show it, or no replica gives it
	packageDestroyed = "PACKAGE_DESTROYED" // the archive says that it was destroyed by the rules: its owner knows whether
	logSilent        = "LOG_SILENT"        // it could not be reached for longer than is admitted
)

func (c *cli) monitorCommand() *cobra.Command {
	m := &monitor{c: c, named: map[string]string{}}
	var key, roots string
	var witnesses []string
	var quorum int
	var every time.Duration
	var once bool
	cmd := verb("monitor", "Follow the log: that it only grows, and that it still has what the receipts say", args(), func(ctx context.Context, _ []string) error {
		if m.state == "" || key == "" {
			return usage("--state and --log-key are needed: the folder that keeps what was seen, and the key that was kept from the first day")
		}
		if every <= 0 {
			return usage("--every %s is no pause between rounds: give one such as 1m", every)
		}
		if m.fresh < 0 {
			return usage("--fresh %s is no age: give one such as 48h, or 0s for a log that is not to be asked", m.fresh)
		}
		if quorum < 0 {
			return usage("--quorum is 0 or more, not %d", quorum)
		}
		if u, err := url.Parse(m.webhook); m.webhook != "" && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
			return usage("--webhook: %q is no address such as https://example.com/alarm: nobody would be told", m.webhook)
		}
		var err error
		m.policy, err = c.logPolicy(key)
		if err != nil {
			return err
		}
		for _, text := range witnesses {
			v, err := tlog.ParseVerifier(text)
			if err != nil {
				return usage("--witness: %v", err)
			}
			m.policy.Witnesses = append(m.policy.Witnesses, v)
		}
		if quorum > len(m.policy.Witnesses) {
			return usage("--quorum %d, and --log-key and --witness name %d witnesses: give the keys of all that must have cosigned", quorum, len(m.policy.Witnesses))
		}
		m.policy.Quorum = quorum
		if roots != "" {
			m.stamps.Roots, err = c.loadRoots(roots)
			if err != nil {
				return err
			}
		}
		err = os.MkdirAll(filepath.Join(m.state, alarmsDir), 0o700)
		if err != nil {
			return usage("--state: %v", err)
		}
		return m.run(ctx, every, once)
	})
	cmd.Long = cmd.Short + `.

Each round reads the log's last checkpoint and the tiles that prove it: that it grew out of the checkpoint that this monitor
saw last, and out of the checkpoint of each receipt, and that each receipt's leaf is still in its place. Nothing is believed
that the tiles do not prove, so the platform can hide no change; run it where the platform does not reach, with receipts
and the log's key from your own store. With --packages it also names sealed packages of which a receipt was given (conserve receipt
--package) and that the archive no longer shows, or shows with other bytes: they are downloaded whole, so that a long --every suits. Packages
without a receipt here are not looked at.

The log is stamped each day, also when it has nothing new: a last time stamp that is older than --fresh, or does not hold, is an
alarm (LOG_STALE, LOG_STAMP_INVALID), since a log that is read from an old copy is as good in all else. --roots says whose stamps count.
A log that does not answer is an alarm after --silence (LOG_SILENT). With --once, begun again and again by a timer, the same times count: --state keeps since
when it does not answer.

What is wrong goes to standard output, to the folder's ` + alarmsDir + ` (with both checkpoints, which are the evidence) and to --webhook as JSON;
the monitor then ends with exit code 1. Exit code 0: --once, and everything holds.`
	cmd.Flags().StringVar(&m.state, "state", "", "folder that keeps the last checkpoint seen")
	cmd.Flags().StringVar(&key, "log-key", "", "key of the log, or a file with it (and with keys of witnesses)")
	cmd.Flags().StringArrayVar(&witnesses, "witness", nil, "verifier key of a witness; may be given several times")
	cmd.Flags().IntVar(&quorum, "quorum", 0, "how many witnesses must have cosigned the checkpoint")
	cmd.Flags().StringArrayVar(&m.receipts, "receipt", nil, "a receipt that was kept, or a pattern such as 'receipts/*'; read anew in each round")
	cmd.Flags().StringVar(&m.webhook, "webhook", "", "address that is told of an alarm by POST")
	cmd.Flags().BoolVar(&m.packages, "packages", false, "compare the packages that receipts were kept of too (conserve receipt --package)")
	cmd.Flags().DurationVar(&m.silence, "silence", time.Hour, "a log that cannot be reached for so long is an alarm")
	cmd.Flags().DurationVar(&m.fresh, "fresh", 48*time.Hour, "how old the log's last time stamp may be; 0s does not ask")
	cmd.Flags().StringVar(&roots, "roots", "", "certificates that the authority of the stamp must lead to, PEM")
	cmd.Flags().DurationVar(&every, "every", time.Minute, "time between two rounds")
	cmd.Flags().BoolVar(&once, "once", false, "one round, then end")
	return cmd
}

func (m *monitor) run(ctx context.Context, every time.Duration, once bool) error {
	for {
		round, err := m.round(ctx)
		if ctx.Err() != nil {
			return nil
		}
		var wrong usageError
		if once && errors.As(err, &wrong) {
			return err
		}
		since, kept := m.since(unreachedFile, err != nil)
		switch {
		case kept != nil:
			return kept
		case err != nil && m.c.now().Sub(since) >= m.silence:
			round = &custody.Round{}
			round.Problems = []custody.Problem{{Code: logSilent, What: "the log", Message: fmt.Sprintf("not reached since %s: %v", since.UTC().Format(time.RFC3339), err)}}
			err = m.keepAlarm(round, nil)
			if err != nil {
				return err
			}
		case err != nil && once:
			return err
		case err != nil:
			fmt.Fprintf(m.c.errOut, "not reached: %v\n", err)
		}
		if round != nil {
			end := m.tell(ctx, round)
			if end != nil || once {
				return end
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(every):
		}
	}
}

// since says since when something is so, and forgets it when it is so no more.
func (m *monitor) since(name string, so bool) (time.Time, error) {
	path, now := filepath.Join(m.state, name), m.c.now()
	raw, err := os.ReadFile(path) //nolint:gosec // the folder is the user's
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return now, usage("--state: %v", err)
	case err == nil && !so:
		return now, os.Remove(path)
	case !so:
		return now, nil
	}
	at, parsed := time.Parse(time.RFC3339Nano, strings.TrimSpace(string(raw)))
	if err == nil && parsed == nil && !at.After(now) {
		return at, nil
	}
	return now, replaceWith(path, private, []byte(now.UTC().Format(time.RFC3339Nano)+"\n"))
}

// round is one look. What was seen is kept only when it holds.
func (m *monitor) round(ctx context.Context) (*custody.Round, error) {
	src, err := m.c.publishedLog()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(m.state, lastSeen)
	seen, err := os.ReadFile(path) //nolint:gosec // the folder is the user's
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, usage("--state: %v", err)
	}
	in := custody.Input{}
	err = m.c.readEvidence(&in, m.receipts, nil)
	if err != nil && len(m.receipts) > 0 {
		return nil, err
	}
	round, err := custody.Follow(ctx, src, seen, in.Receipts, m.policy, custody.Freshness{Within: m.fresh, Now: m.c.now(), Stamps: m.stamps})
	if err != nil {
		return nil, err
	}
	first, err := m.since(unstampedFile, round.Unstamped)
	if err != nil {
		return nil, err
	}
	if age := m.c.now().Sub(first); round.Unstamped && age > m.fresh {
		round.Problems = append(round.Problems, custody.Problem{Code: custody.LogStale, What: "the log", Message: fmt.Sprintf("none of its checkpoints was stamped since %s, when it was looked at first", first.UTC().Format(time.RFC3339))})
	}
	chain, err := custody.Verify(custody.Input{Receipts: in.Receipts, Policy: withoutQuorum(m.policy)})
	if err != nil {
		return nil, err
	}
	round.Problems = append(round.Problems, chain.Problems...)
	if m.packages {
		err = m.comparePackages(ctx, round, in.Receipts)
		if err != nil {
			return nil, err
		}
	}
	if len(round.Problems) > 0 {
		return round, m.keepAlarm(round, seen)
	}
	if len(round.Note) == 0 { // nothing was taken in charge yet
		return round, nil
	}
	return round, replaceWith(path, private, round.Note)
}

// withoutQuorum is the policy for receipts, which may be older than the witnesses.
func withoutQuorum(p tlog.Policy) tlog.Policy {
	p.Quorum = 0
	return p
}

// alarm is what is kept and sent.
type alarm struct {
	Time     time.Time         `json:"time"`
	Origin   string            `json:"origin"`
	Problems []custody.Problem `json:"problems"`
	Seen     string            `json:"seen,omitempty"` // checkpoint that was kept
	Got      string            `json:"got,omitempty"`  // checkpoint that contradicts it
}

func (m *monitor) keepAlarm(r *custody.Round, seen []byte) error {
	at := m.c.now().UTC()
	raw, err := json.MarshalIndent(alarm{at, m.policy.Origin, r.Problems, string(seen), string(r.Note)}, "", "  ")
	if err != nil {
		return err
	}
	return replaceWith(filepath.Join(m.state, alarmsDir, at.Format("20060102T150405.000000000Z")+".json"), private, raw)
}

// tell prints a round, notes when the log was last found good, and sends alarms. Its error ends the monitor.
func (m *monitor) tell(ctx context.Context, r *custody.Round) error {
	if len(r.Problems) == 0 {
		said := map[string]any{"verified": m.c.now().UTC(), "origin": m.policy.Origin, "size": r.Tree.Size, "root": r.Tree.Root.String(), "receipts": r.Receipts, "not_shown": r.Unshown}
		if !r.Stamped.IsZero() {
			said["stamped"] = r.Stamped
		}
		status, err := json.Marshal(said)
		if err != nil {
			return err
		}
		err = replaceWith(filepath.Join(m.state, statusFile), private, append(status, '\n'))
		if err != nil {
			return err
		}
		if m.c.format == formatJSON {
			_, err = fmt.Fprintf(m.c.out, "%s\n", status)
			return err
		}
		stamped := ""
		if !r.Stamped.IsZero() {
			stamped = ", stamped " + r.Stamped.Format(time.RFC3339)
		}
		_, err = fmt.Fprintf(m.c.out, "%s good: %d entries, %d receipts in it%s\n", m.c.now().UTC().Format(time.RFC3339), r.Tree.Size, r.Receipts, stamped)
		for _, text := range r.Unshown {
			fmt.Fprintln(m.c.out, "not shown  ", text)
		}
		return err
	}
	if m.webhook != "" {
		err := m.post(ctx, r)
		if err != nil {
			fmt.Fprintf(m.c.errOut, "the webhook was not told: %v\n", err)
		}
	}
	return m.c.verdict(&r.Report, m.policy.Origin)
}

func (m *monitor) post(ctx context.Context, r *custody.Round) error {
	raw, err := json.Marshal(alarm{m.c.now().UTC(), m.policy.Origin, r.Problems, "", string(r.Note)})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.webhook, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req) //nolint:gosec // the user names the address
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("it answers %s", resp.Status)
	}
	return nil
}

// publishedLog is the log as the API shows it.
type publishedLog struct {
	api conservationv1.EvidenceServiceClient
}

func (c *cli) publishedLog() (custody.Source, error) {
	api, err := c.evidence()
	return publishedLog{api}, err
}

// Checkpoint implements custody.Source.
func (p publishedLog) Checkpoint(ctx context.Context) ([]byte, error) {
	point, err := p.api.GetCheckpoint(ctx, &conservationv1.GetCheckpointRequest{})
	if errors.Is(err, fault.NotFound("CHECKPOINT_NOT_FOUND", "")) {
		return nil, fmt.Errorf("%w: a checkpoint", tlog.ErrNotFound)
	}
	return point.GetNote(), err
}

// Stamped implements custody.Source.
func (p publishedLog) Stamped(ctx context.Context) (*custody.Stamped, error) {
	list, err := p.api.ListCheckpoints(ctx, &conservationv1.ListCheckpointsRequest{Stamped: true, PageSize: 1})
	if err != nil || len(list.GetCheckpoints()) == 0 {
		return nil, err
	}
	point := list.GetCheckpoints()[0]
	stamp := point.GetNewestStamp()
	if len(stamp) == 0 {
		stamp = point.GetStamp()
	}
	return &custody.Stamped{Note: point.GetNote(), Stamp: stamp}, nil
}

// Get implements custody.Source.
func (p publishedLog) Get(ctx context.Context, path string) ([]byte, error) {
	tile, err := p.api.GetTile(ctx, &conservationv1.GetTileRequest{Path: path})
	if errors.Is(err, fault.NotFound("TILE_NOT_FOUND", "")) {
		return nil, fmt.Errorf("%w: %s", tlog.ErrNotFound, path)
	}
	return tile.GetData(), err
}

// comparePackages reads every package that a receipt was kept of.
func (m *monitor) comparePackages(ctx context.Context, r *custody.Round, receipts []custody.Receipt) error {
	sealed := custody.PackageReceipts(receipts)
	if len(sealed) == 0 {
		r.Unshown = append(r.Unshown, "packages: no receipt of one was given, so none was looked at (conserve receipt --package PACKAGE)")
		return nil
	}
	api, tenant, err := m.c.archive()
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for token := ""; ; {
		page, err := api.ListPackages(ctx, &conservationv1.ListPackagesRequest{Parent: tenant, PageToken: token, PageSize: 1000})
		if err != nil {
			return err
		}
		for _, p := range page.GetPackages() {
			if _, known, _ := custody.SealedAs(sealed, last(p.GetName()), [32]byte{}); !known {
				continue
			}
			sum, err := hashPackage(ctx, api, p.GetName())
			name, _, same := custody.SealedAs(sealed, last(p.GetName()), sum)
			seen[name], m.named[name] = true, p.GetName()
			said := func(code, format string) {
				r.Problems = append(r.Problems, custody.Problem{Code: code, What: name, Message: fmt.Sprintf(format, p.GetName(), err)})
			}
			switch {
			case errors.Is(err, fault.Unavailable("OBJECT_UNREADABLE", "")):
				said(packageMissing, "%s is in the archive's list, and no replica gives it (%v)")
			case errors.Is(err, fault.Precondition("UNIT_DESTROYED", "")):
				said(packageDestroyed, "%s: %v. Compare with what you authorised, then put the receipt away")
			case err != nil && !fault.Permanent(err) && fault.Of(err).Kind != fault.KindInternal:
				return err
			case err != nil || !same:
				said(custody.PackageChanged, "%s is not the package that was sealed (%v)")
			}
		}
		token = page.GetNextPageToken()
		if token == "" {
			break
		}
	}
	for _, s := range sealed {
		if !seen[s.Name] {
			which := "a package" // a receipt has its name as a digest
			if name := m.named[s.Name]; name != "" {
				which = name
			}
			r.Problems = append(r.Problems, custody.Problem{Code: packageMissing, What: s.Name, Message: which + " was sealed with this receipt, and the archive does not show it"})
		}
	}
	return nil
}

func hashPackage(ctx context.Context, api conservationv1.ConservationServiceClient, name string) (sum [32]byte, err error) {
	stream, err := api.DownloadPackageFile(ctx, &conservationv1.DownloadPackageFileRequest{Name: name, File: conservationv1.PackageFile_PACKAGE_FILE_ARCHIVE})
	if err != nil {
		return sum, err
	}
	h := sha256.New()
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return [32]byte(h.Sum(nil)), nil
		}
		if err != nil {
			return sum, err
		}
		h.Write(part.GetChunk())
	}
}
