package sdigateway

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// channelPEC is certified mail. It is a channel of single companies, each with a mailbox of its own or shared,
// which the pec-gateway presides over.
const channelPEC = "PEC"

// Where certified mail stands among the channels of a company, as it is stored.
const (
	preferOnly  = "ONLY"
	preferFirst = "FIRST"
	preferNever = "NEVER" // the remaining one is LAST
)

// PECConfig of certified mail. Which company sends from which mailbox is set by SetPecChannel.
type PECConfig struct {
	// Enabled makes certified mail a channel; rpc.peers must then name pec-gateway and tenancy. Default false.
	Enabled bool `yaml:"enabled"`
	// FirstAddress gets the first message of a mailbox; SdI's answer assigns the address of the next ones.
	// Default sdi01@pec.fatturapa.it.
	FirstAddress string `yaml:"first_address"`
	// MessageFiles is how many files go in one message at most. Default 20.
	MessageFiles int32 `yaml:"message_files"`
	// MessageSize bounds their bytes together; mail needs a third more and SdI takes 30 MB. Default 20000000.
	MessageSize int64 `yaml:"message_size"`
	// AnswerAfter is how long the assigned address is awaited after the first message before documents that
	// have another channel take it. Default 1h.
	AnswerAfter time.Duration `yaml:"answer_after"`
	// SilentAfter is how long a message may wait for the mailbox's provider before the same. Default 15m.
	SilentAfter time.Duration `yaml:"silent_after"`
	// RetryFailed is the pause after a message that surely did not reach SdI; it doubles with each, up to an
	// hour. Default 1m.
	RetryFailed time.Duration `yaml:"retry_failed"`
}

const retryFailedMost = time.Hour

func defaultPEC() PECConfig {
	return PECConfig{FirstAddress: pec.SdIFirst, MessageFiles: 20, MessageSize: 20_000_000, AnswerAfter: time.Hour,
		SilentAfter: 15 * time.Minute, RetryFailed: time.Minute}
}

func (c *PECConfig) problems() []error {
	var problems []error
	if _, ok := pec.SdIAddress(c.FirstAddress); !ok {
		problems = append(problems, run.BadField("pec.first_address", "%q is no address of SdI, such as %s", c.FirstAddress, pec.SdIFirst))
	}
	if c.MessageFiles < 1 || c.MessageFiles > 500 {
		problems = append(problems, run.BadField("pec.message_files", "%d is not between 1 and 500", c.MessageFiles))
	}
	if most := int64(22_000_000); c.MessageSize < 1 || c.MessageSize > most {
		problems = append(problems, run.BadField("pec.message_size", "%d is not between 1 and %d: encoded for mail it must stay below 30 MB", c.MessageSize, most))
	}
	for key, d := range map[string]time.Duration{"answer_after": c.AnswerAfter, "silent_after": c.SilentAfter, "retry_failed": c.RetryFailed} {
		if d < 100*time.Millisecond {
			problems = append(problems, run.BadField("pec."+key, "%s is less than 100ms: too often", d))
		}
	}
	return problems
}

// postBoard is what is known of the companies that have a mailbox, read without a query when a document is
// reserved.
type postBoard struct {
	latest atomic.Pointer[map[string]postState]
}

// postState is certified mail as the channel of one company.
type postState struct {
	tenant, company, mailbox string
	preference               string
	reason                   string // why no new documents go there; empty: they may
	doubt                    string // of the address, for somebody to look at
	waiting                  bool   // a document waits for it
}

// startPEC wires certified mail, when it is enabled. Mail of SdI may then come to any mailbox of the platform.
func (s *Service) startPEC(h *run.Host) {
	sdiv1.RegisterSdiPecServiceServer(h.RPC, s)
	if !s.cfg.PEC.Enabled {
		return
	}
	if s.tenancy == nil {
		s.tenancy = tenancyv1.NewTenancyServiceClient(h.Dial("tenancy"))
	}
	mail := h.Dial("pec-gateway")
	s.mailboxes, s.mailed = pecv1.NewPecServiceClient(mail), pecv1.NewPecDeliveryServiceClient(mail)
	bus.On(h.Bus, "pec_received", s.onMessageReceived)
	bus.On(h.Bus, "pec_judged", s.onMessageJudged)
	bus.On(h.Bus, "pec_queued", s.onMessageQueued)
	bus.On(h.Bus, "pec_refused", s.onMessageRequestRefused)
	bus.On(h.Bus, "pec_state", s.onDeliveryStateChanged)
	bus.On(h.Bus, "pec_degraded", s.onMailboxDegraded)
	run.Work(h, run.WorkOptions{Workers: 4, MaxAttempts: 50, Timeout: 2 * time.Minute}, s.readArrival)
	h.Go("certified mail", s.post)
}

// orderOf is the order of channels for an invoice, and their health.
func (s *Service) orderOf(invoice string) ([]string, []channelHealth) {
	list, health := s.cfg.preferred(invoice), s.health.now()
	p, ok := s.postOf(companyOfInvoice(invoice))
	if !ok || p.preference == preferNever {
		return list, health
	}
	health = append(health[:len(health):len(health)], channelHealth{name: channelPEC, reason: p.reason})
	switch p.preference {
	case preferOnly:
		return []string{channelPEC}, health
	case preferFirst:
		return append([]string{channelPEC}, list...), health
	}
	return append(list[:len(list):len(list)], channelPEC), health
}

func (s *Service) postOf(company string) (postState, bool) {
	all := s.posts.latest.Load()
	if all == nil {
		return postState{}, false
	}
	p, ok := (*all)[company]
	return p, ok
}

// knowPosts makes sure that the mailboxes of companies are known before the first document chooses its channel.
func (s *Service) knowPosts(ctx context.Context) error {
	if !s.cfg.PEC.Enabled || s.posts.latest.Load() != nil {
		return nil
	}
	return s.judgePosts(ctx)
}

// companyOfInvoice is tenants/T/companies/C of an invoice's name; empty for other names.
func companyOfInvoice(invoice string) string {
	parts := strings.SplitN(invoice, "/", 5)
	if len(parts) < 5 {
		return ""
	}
	return strings.Join(parts[:4], "/")
}

// postFacts is what the health of certified mail follows from. A zero time never was.
type postFacts struct {
	retry    time.Time // not to be sent before: the last message failed
	degraded time.Time // somebody has to look after the mailbox
	problem  string
	leaving  time.Time // since when the oldest message waits for the provider
	first    time.Time // the first message left
	assigned bool      // SdI has assigned an address
	doubt    string    // why its last word on that is not followed
}

// postHealth says why a company's new documents do not go by certified mail now; empty when they do.
func postHealth(f postFacts, now time.Time, c *PECConfig) string {
	at := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	switch {
	case f.retry.After(now):
		return fmt.Sprintf("the last message did not reach SdI (%s); the next is tried at %s", f.problem, at(f.retry))
	case !f.degraded.IsZero() && now.Before(f.degraded.Add(c.SilentAfter)):
		return "the mailbox cannot be used: " + f.problem
	case !f.leaving.IsZero() && now.After(f.leaving.Add(c.SilentAfter)):
		return fmt.Sprintf("a message waits since %s for the mailbox's provider", at(f.leaving))
	case !f.assigned && f.doubt != "":
		return "SdI has assigned no address: " + f.doubt
	case !f.assigned && !f.first.IsZero() && now.After(f.first.Add(c.AnswerAfter)):
		return fmt.Sprintf("SdI has not answered the first message of %s, so it has assigned no address", at(f.first))
	}
	return ""
}

// judgePosts reads the companies that have a mailbox and judges each.
func (s *Service) judgePosts(ctx context.Context) error {
	var rows []db.AllPecChannelsRow
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		rows, err = db.New(tx).AllPecChannels(ctx)
		return err
	})
	if err != nil {
		return err
	}
	now := s.now()
	all := make(map[string]postState, len(rows))
	for _, r := range rows {
		f := postFacts{problem: r.Problem, leaving: since(r.LeavingSince), first: since(r.FirstAt), assigned: r.Assigned, doubt: r.Doubt}
		if r.RetryAt != nil {
			f.retry = *r.RetryAt
		}
		if r.DegradedAt != nil {
			f.degraded = *r.DegradedAt
		}
		p := postState{tenant: r.TenantID, company: r.Company, mailbox: r.Mailbox, preference: r.Preference, waiting: r.Waiting, reason: postHealth(f, now, &s.cfg.PEC), doubt: r.Doubt}
		if before, ok := s.postOf(r.Company); ok && (before.reason == "") != (p.reason == "") {
			s.log.WarnContext(ctx, "channel changed", "channel", channelPEC, "company", p.company, "healthy", p.reason == "", "reason", p.reason)
		}
		all[r.Company] = p
	}
	s.posts.latest.Store(&all)
	return nil
}

// rebalancePosts moves documents that wait for certified mail and may take another channel.
func (s *Service) rebalancePosts(ctx context.Context) error {
	all := s.posts.latest.Load()
	if all == nil {
		return nil
	}
	for _, p := range *all {
		away := p.preference == preferNever || p.reason != "" && p.preference != preferOnly
		if p.waiting && away {
			return s.moveAway(ctx, channelPEC) // each of its documents chooses for itself
		}
	}
	return nil
}

// hasPostAlternative says whether a document of anybody may go from a channel to certified mail.
func (s *Service) hasPostAlternative(from string) bool {
	all := s.posts.latest.Load()
	if all == nil || from == channelPEC {
		return false
	}
	for _, p := range *all {
		if p.preference != preferNever && p.reason == "" {
			return true
		}
	}
	return false
}

// post sends what waits for certified mail until ctx ends.
func (s *Service) post(ctx context.Context) error {
	tick := time.NewTicker(channelsEvery / 2)
	defer tick.Stop()
	for {
		err := s.takeBack(ctx)
		if all := s.posts.latest.Load(); all != nil {
			for _, p := range *all {
				if p.waiting && p.preference != preferNever && ctx.Err() == nil {
					err = errors.Join(err, s.postSome(ctx, p))
				}
			}
		}
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "certified mail cannot be sent for now", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
