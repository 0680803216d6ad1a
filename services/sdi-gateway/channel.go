package sdigateway

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// The channels, as they are stored.
const (
	channelCoop = "SDICOOP"
	channelFTP  = "SDIFTP"
)

// channelHealth is whether new documents may go to a channel, and why not.
type channelHealth struct {
	name    string
	reason  string // empty: it is healthy
	contact time.Time
}

// choose gives the channel of a new document: the first of its channels that is healthy, the first of all when
// none is (it waits there, and may still move). Documents that have begun to move are never asked about.
func choose(preferred []string, health []channelHealth) string {
	for _, name := range preferred {
		for _, h := range health {
			if h.name == name && h.reason == "" {
				return name
			}
		}
	}
	return preferred[0]
}

// channelFacts is what the health of SDIFTP follows from. A zero time never was.
type channelFacts struct {
	contact   time.Time // SdI's client was here
	shown     time.Time // since when the oldest support waits to be taken
	withdrawn time.Time // a support was taken back because nobody came for it
	refused   time.Time // last ET02 or ER
	accepted  time.Time // last ET01
}

// ftpHealth says why SDIFTP takes no new documents now; empty when it does. After a refusal one support is
// tried every retry; after SdI stayed away the channel opens with its next visit.
func ftpHealth(f channelFacts, now time.Time, silent, retry time.Duration) string {
	latest := f.shown
	if f.contact.After(latest) {
		latest = f.contact
	}
	switch {
	case f.refused.After(f.accepted) && now.Before(f.refused.Add(retry)):
		return fmt.Sprintf("SdI refused the last support at %s; the next is tried at %s", f.refused.UTC().Format(time.RFC3339), f.refused.Add(retry).UTC().Format(time.RFC3339))
	case f.withdrawn.After(f.contact):
		return "SdI's client stayed away and supports were withdrawn; it opens when the client comes back"
	case !f.shown.IsZero() && now.After(latest.Add(silent)):
		return fmt.Sprintf("a support waits since %s and SdI's client stays away", f.shown.UTC().Format(time.RFC3339))
	}
	return ""
}

// healthBoard is the latest judgement of all channels, read without a query when a document is reserved.
type healthBoard struct {
	latest atomic.Pointer[[]channelHealth]
}

func (b *healthBoard) now() []channelHealth {
	if p := b.latest.Load(); p != nil {
		return *p
	}
	return nil
}

// preferred is the order of channels for an invoice: its company's, its tenant's, or everybody's.
func (c *Config) preferred(invoice string) []string {
	parts := strings.SplitN(invoice, "/", 5)
	for n := min(len(parts), 4); n >= 2; n -= 2 {
		if list, ok := c.ChannelsOf[strings.Join(parts[:n], "/")]; ok {
			return list
		}
	}
	return c.Channels
}

func (s *Service) channelFor(invoice string) string {
	return choose(s.orderOf(invoice))
}

// startChannels wires what the channels have in common, and SDIFTP when it is configured.
func (s *Service) startChannels(h *run.Host) error {
	sdiv1.RegisterSdiChannelServiceServer(h.RPC, s)
	if s.cfg.FTP.Listen != "" {
		err := s.startFTP(h)
		if err != nil {
			return err
		}
	}
	s.startPEC(h)
	h.Go("channels", s.watchChannels)
	return nil
}

// channelsEvery is how often the health of channels is judged.
const channelsEvery = time.Second

// watchChannels judges the channels, and moves documents that wait at an unhealthy one and of which nothing has
// reached SdI.
func (s *Service) watchChannels(ctx context.Context) error {
	tick := time.NewTicker(channelsEvery)
	defer tick.Stop()
	for {
		err := s.judgeChannels(ctx)
		if err == nil && s.cfg.PEC.Enabled {
			err = s.judgePosts(ctx)
		}
		if err == nil {
			err = s.rebalance(ctx)
		}
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "channels cannot be judged for now", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (s *Service) judgeChannels(ctx context.Context) error {
	coop := channelHealth{name: channelCoop}
	if state := s.breaker.State(); state.State == "open" {
		coop.reason = "SdI does not answer: " + state.LastError
	} else if away := s.gate.away(); away != nil {
		coop.reason = "SdI has not answered since " + away.UTC().Format(time.RFC3339)
	}
	list := []channelHealth{coop}
	if s.ftp != nil {
		ftp := channelHealth{name: channelFTP}
		facts, err := s.channelFacts(ctx)
		if err != nil {
			return err
		}
		ftp.reason, ftp.contact = ftpHealth(facts, s.now(), s.cfg.FTP.SilentAfter, s.cfg.FTP.RetryRefused), facts.contact
		list = append(list, ftp)
	}
	before := s.health.now()
	for i, h := range list {
		if i < len(before) && (before[i].reason == "") != (h.reason == "") {
			s.log.WarnContext(ctx, "channel changed", "channel", h.name, "healthy", h.reason == "", "reason", h.reason)
		}
	}
	s.health.latest.Store(&list)
	return nil
}

func (s *Service) channelFacts(ctx context.Context) (f channelFacts, err error) {
	err = s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		row, err := db.New(tx).ChannelFacts(ctx, s.cfg.FTP.Node)
		f = channelFacts{contact: since(row.ContactAt), shown: since(row.ShownAt), withdrawn: since(row.WithdrawnAt),
			refused: since(row.RefusedAt), accepted: since(row.AcceptedAt)}
		return err
	})
	return f, err
}

// since reads a time of which the epoch means never.
func since(t time.Time) time.Time {
	if t.Unix() <= 0 {
		return time.Time{}
	}
	return t
}

// rebalance moves what may move from channels that are not healthy to those that are.
func (s *Service) rebalance(ctx context.Context) error {
	for _, h := range s.health.now() {
		if h.reason == "" || !s.hasAlternative(h.name) {
			continue
		}
		if h.name == channelFTP {
			err := s.withdraw(ctx, h.reason)
			if err != nil {
				return err
			}
		}
		err := s.moveAway(ctx, h.name)
		if err != nil {
			return err
		}
	}
	return s.rebalancePosts(ctx)
}

// hasAlternative says whether anybody's order of channels leads from this one to another that is healthy.
func (s *Service) hasAlternative(from string) bool {
	if s.hasPostAlternative(from) {
		return true
	}
	lists := [][]string{s.cfg.Channels}
	for _, list := range s.cfg.ChannelsOf {
		lists = append(lists, list)
	}
	for _, list := range lists {
		if to := choose(list, s.health.now()); to != from && len(list) > 1 {
			return true
		}
	}
	return false
}

// moveTogether bounds one step of a move.
const moveTogether = 500

func (s *Service) moveAway(ctx context.Context, from string) error {
	after := uuid.UUID{}
	for {
		var rows []db.MovableTransmissionsRow
		err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
			rows, err = db.New(tx).MovableTransmissions(ctx, db.MovableTransmissionsParams{Channel: from, After: after, N: moveTogether})
			if err != nil {
				return err
			}
			return s.move500(ctx, tx, from, rows)
		})
		if err != nil || len(rows) < moveTogether {
			return err
		}
		after = rows[len(rows)-1].ID
	}
}

// move500 gives each of these its healthy channel, and promises the calls of those that go to SDICoop.
func (s *Service) move500(ctx context.Context, tx pgx.Tx, from string, rows []db.MovableTransmissionsRow) error {
	to := map[string][]uuid.UUID{}
	for _, t := range rows {
		channel := s.channelFor(t.Invoice)
		if channel == from {
			continue
		}
		to[channel] = append(to[channel], t.ID)
		if channel != channelCoop {
			continue
		}
		err := s.jobs.InsertTx(pg.WithTenant(story(ctx, t.TenantID, t.Invoice, "", t.Traceparent), t.TenantID), tx, transmitArgs{Transmission: t.ID}, nil)
		if err != nil {
			return err
		}
	}
	for channel, ids := range to {
		s.log.InfoContext(ctx, "documents move to another channel", "from", from, "to", channel, "count", len(ids))
		err := db.New(tx).SetChannel(ctx, db.SetChannelParams{Channel: channel, Ids: ids, Now: pg.Time(s.now())})
		if err != nil {
			return err
		}
	}
	return nil
}

// away is since when SdI has not answered calls; nil when it does.
func (g *gate) away() *time.Time {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.outage
}
