package sdigateway

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

func TestPostHealth(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	c := defaultPEC()
	for name, x := range map[string]struct {
		facts postFacts
		up    bool
	}{
		"never used":                         {postFacts{}, true},
		"used for long":                      {postFacts{first: ago(1000 * time.Hour), assigned: true}, true},
		"the first message left a while ago": {postFacts{first: ago(time.Minute)}, true},
		"and is not answered":                {postFacts{first: ago(2 * time.Hour)}, false},
		"the last one failed":                {postFacts{retry: now.Add(time.Second), problem: "x", assigned: true}, false},
		"it is tried again":                  {postFacts{retry: ago(time.Second), assigned: true}, true},
		"somebody has to look":               {postFacts{degraded: ago(time.Minute), assigned: true}, false},
		"somebody had to look":               {postFacts{degraded: ago(time.Hour), assigned: true}, true},
		"a message is leaving":               {postFacts{leaving: ago(time.Minute), first: ago(time.Hour), assigned: true}, true},
		"a message does not leave":           {postFacts{leaving: ago(time.Hour), first: ago(time.Hour), assigned: true}, false},
	} {
		require.Equal(t, x.up, postHealth(x.facts, now, &c) == "", name)
	}
}

// TestWarningsKeepNothingBack: documents do not leave a mailbox that sends, since its password or contract ends in a month.
func TestWarningsKeepNothingBack(t *testing.T) {
	for _, code := range []string{"MAILBOX_QUOTA", "MAILBOX_ROOM_IMPOSSIBLE", "MESSAGE_UNFETCHABLE", "PASSWORD_EXPIRING", "MAILBOX_EXPIRING", "ARCHIVE_DAMAGED"} {
		require.True(t, keepsSending(code), code)
	}
	for _, code := range []string{"MAILBOX_AUTH_FAILED", "MAILBOX_SERVER_AWAY", "MAILBOX_NO_PASSWORD", "MAILBOX_READ_ONLY", "SENDING_LOGIN_REFUSED", "SENDING_SUSPENDED", "SENDING_TLS",
		"SENDING_SILENT", "PASSWORD_EXPIRED", "MAILBOX_EXPIRED", "SOMETHING_NEW"} {
		require.False(t, keepsSending(code), code)
	}
}

func TestOrderOf(t *testing.T) {
	s := &Service{cfg: defaultConfig(), health: &healthBoard{}, posts: &postBoard{}}
	s.health.latest.Store(&[]channelHealth{{name: channelCoop}})
	const company, invoice = "tenants/t/companies/c", "tenants/t/companies/c/invoices/i"
	for name, x := range map[string]struct {
		preference, reason, coop, want string
	}{
		"only":                    {preferOnly, "", "", channelPEC},
		"only, and it is away":    {preferOnly, "away", "", channelPEC},
		"first":                   {preferFirst, "", "", channelPEC},
		"first, and it is away":   {preferFirst, "away", "", channelCoop},
		"last":                    {"LAST", "", "", channelCoop},
		"last, the others away":   {"LAST", "", "away", channelPEC},
		"last, everything away":   {"LAST", "away", "away", channelCoop},
		"never":                   {preferNever, "", "", channelCoop},
		"never, the others away":  {preferNever, "", "away", channelCoop},
		"first, everything away":  {preferFirst, "away", "away", channelPEC},
		"first, only the others ": {preferFirst, "", "away", channelPEC},
	} {
		s.posts.latest.Store(&map[string]postState{company: {company: company, preference: x.preference, reason: x.reason}})
		s.health.latest.Store(&[]channelHealth{{name: channelCoop, reason: x.coop}})
		require.Equal(t, x.want, s.channelFor(invoice), name)
		require.Equal(t, channelCoop, s.channelFor("tenants/t/companies/other/invoices/i"), "companies without a mailbox are not touched")
	}
	require.Equal(t, []string{channelCoop}, s.cfg.Channels, "the configuration stays as it was")
}

// The state of a message is a function of the set of facts: order and repetition change nothing, a proven delivery
// is never undone, and nothing but a sure failure frees documents.
func TestMailState(t *testing.T) {
	all := []mailFacts{mailQueued, mailUnknown, mailSubmitted, mailAccepted, mailDelivered, mailFailed, mailOverdue, mailRefused}
	rapid.Check(t, func(t *rapid.T) {
		facts := rapid.SliceOf(rapid.SampledFrom(all)).Draw(t, "facts")
		var set mailFacts
		for _, f := range facts {
			set |= f
		}
		var again mailFacts
		for _, f := range rapid.Permutation(append(facts, facts...)).Draw(t, "again") {
			again |= f
		}
		state := mailState(set)
		require.Equal(t, state, mailState(again))
		if set&mailDelivered != 0 {
			require.Equal(t, mailStateDelivered, state)
		}
		require.Equal(t, state == mailStateFailed, set&mailDelivered == 0 && set&(mailFailed|mailRefused) != 0)
	})
	for state := range pecv1.MessageState_value {
		require.Equal(t, mailFailed, mailFactOf(state, true), "who has the receipts says what is sure")
		require.NotEqual(t, mailFailed, mailFactOf(state, false), state)
	}
}

// Who signed for a domain that is not its own proves nothing, and neither does any other letter that is not proven.
func TestLettersThatProveNothing(t *testing.T) {
	for doubts, code := range map[string]string{
		"": codeMailUnproven, "valid-cert-unlisted": codeMailUnproven, codeMailForeign + ": Gestore X signed it": codeMailForeign,
	} {
		r := &mailReading{row: db.ReadArrivalRow{Doubts: doubts}}
		require.Empty(t, (&Service{}).openMail(r, []byte("anything")))
		require.Len(t, r.problems, 1)
		require.Contains(t, r.problems[0], code)
	}
	r := &mailReading{row: db.ReadArrivalRow{Proven: true}}
	require.Empty(t, (&Service{}).openMail(r, []byte("From: sdi01@pec.fatturapa.it\r\n\r\nnothing")))
	require.Contains(t, r.problems[0], codeMailNotSdI)
}

func TestRetryFailed(t *testing.T) {
	s := &Service{cfg: Config{PEC: PECConfig{RetryFailed: time.Minute}}}
	require.Equal(t, time.Minute, s.retryFailed(0))
	require.Equal(t, 4*time.Minute, s.retryFailed(2))
	require.Equal(t, time.Hour, s.retryFailed(1000))
}

func TestConfigOfPEC(t *testing.T) {
	c := defaultPEC()
	require.Empty(t, c.problems())
	for name, change := range map[string]func(*PECConfig){
		"address": func(c *PECConfig) { c.FirstAddress = "sdi01@pec.example" }, "files": func(c *PECConfig) { c.MessageFiles = 0 },
		"size": func(c *PECConfig) { c.MessageSize = 30_000_000 }, "pause": func(c *PECConfig) { c.RetryFailed = 0 },
	} {
		c := defaultPEC()
		change(&c)
		require.Len(t, c.problems(), 1, name)
	}
}

func TestMetadataOf(t *testing.T) {
	require.True(t, metadataOf("IT01234567897_0000a_MT_001.xml", "IT01234567897_0000A.xml.p7m"))
	require.False(t, metadataOf("IT01234567897_0000a_MT_001.xml", "IT01234567897_0000b.xml"))
	require.False(t, metadataOf("x", "IT01234567897_0000b.xml"))
}
