package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
)

// TestMessagesSayWhatProvesThem: a list tells certified mail, registered mail, ordinary mail and what merely claims to be something apart;
// a message says how far its preservation is.
func TestMessagesSayWhatProvesThem(t *testing.T) {
	var out bytes.Buffer
	c := &cli{out: &out, now: time.Now}
	c.messageTable([]*pecv1.Message{
		{Name: "a/1", Kind: pecv1.MessageKind_MESSAGE_KIND_ENVELOPE, Proven: true},
		{Name: "a/2", Kind: pecv1.MessageKind_MESSAGE_KIND_REGISTERED, RegisteredMail: &pecv1.RegisteredMail{Verified: true}},
		{Name: "a/3", Kind: pecv1.MessageKind_MESSAGE_KIND_REGISTERED, RegisteredMail: &pecv1.RegisteredMail{}},
		{Name: "a/4", Kind: pecv1.MessageKind_MESSAGE_KIND_ORDINARY},
		{Name: "a/5", Kind: pecv1.MessageKind_MESSAGE_KIND_ORDINARY, Doubts: []string{"it claims to be registered mail"}},
		{Name: "a/6", Direction: pecv1.MessageDirection_MESSAGE_DIRECTION_SENT},
	})
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 7)
	at, end := strings.Index(lines[0], "PROOF"), strings.Index(lines[0], "FROM")
	var proofs []string
	for _, l := range lines[1:] {
		proofs = append(proofs, strings.TrimSpace((l + strings.Repeat(" ", end))[at:end]))
	}
	require.Equal(t, []string{"proven", "REM verified", "REM NOT VERIFIED", "-", "NOT PROVEN", "ours"}, proofs)

	when := timestamppb.New(time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC))
	for want, p := range map[string]*pecv1.MessagePreservation{
		"not in custody yet": {HandOverTime: when},
		"in the set of 2026-05-05, in custody as tenants/a/units/u": {HandOverTime: when, Day: "2026-05-05", Unit: "tenants/a/units/u"},
		"sealed in tenants/a/packages/p":                            {HandOverTime: when, Unit: "tenants/a/units/u", Package: "tenants/a/packages/p"},
	} {
		require.Contains(t, preservationText(p), want)
		require.Contains(t, preservationText(p), "handed over 2026-05-06")
	}
}
