package pecgateway_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/sandbox/client"
)

// TestB13QuotaAtTheSandbox: a mailbox of the simulated provider fills: what its owner reads at 70, 90 and 100 % of the room, each told
// once, in the hub too; once it has more room it is well again, and told anew when that is used up. TESTPLAN B13.
func TestB13QuotaAtTheSandbox(t *testing.T) {
	t.Parallel()
	h := open(t, quick)
	h.believe()
	room := func(bytes int64) {
		_, err := h.sandbox.SetPECMailbox(t.Context(), client.PECMailbox{Address: recipient, Quota: bytes})
		require.NoError(t, err)
	}
	room(1 << 20)
	box := h.add(recipient)
	fill := func(name string, size int) {
		text := plain(name)
		line := "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n"
		raw := bytes.ReplaceAll([]byte(text), []byte("\n"), []byte("\r\n"))
		raw = append(raw, bytes.Repeat([]byte(line), (size-len(raw))/len(line))...)
		require.NoError(t, h.sandbox.InjectPEC(t.Context(), recipient, client.PECInject{Data: raw}))
	}
	level := func(want pecv1.QuotaLevel, told int) {
		t.Helper()
		h.eventually(want.String(), func() bool { return h.box(box).GetQuota().GetLevel() == want })
		h.lookedAgain(box)
		h.eventually("it is told", func() bool { return h.degraded("MAILBOX_QUOTA") == told })
	}
	level(pecv1.QuotaLevel_QUOTA_LEVEL_GOOD, 0)
	require.EqualValues(t, 1<<20, h.box(box).GetQuota().GetLimit())
	fill("settanta", 720<<10)
	level(pecv1.QuotaLevel_QUOTA_LEVEL_WARNING, 1)
	fill("novanta", 210<<10)
	level(pecv1.QuotaLevel_QUOTA_LEVEL_CRITICAL, 2)
	hub, err := h.desk().GetHub(t.Context(), &pecv1.GetHubRequest{Parent: parent})
	require.NoError(t, err)
	require.Equal(t, pecv1.QuotaLevel_QUOTA_LEVEL_CRITICAL, hub.GetEntries()[0].GetQuota().GetLevel())
	require.EqualValues(t, 1, hub.GetTroubled())
	fill("pieno", 110<<10)
	level(pecv1.QuotaLevel_QUOTA_LEVEL_FULL, 3)
	said := h.unwell()
	for i, percent := range []int{70, 90, 100} {
		require.Regexp(t, fmt.Sprintf(`^MAILBOX_QUOTA.*\b%d`, percent/10), said[i].GetCode()+" "+said[i].GetReason())
	}
	room(10 << 20)
	level(pecv1.QuotaLevel_QUOTA_LEVEL_GOOD, 3)
	room(1 << 20)
	level(pecv1.QuotaLevel_QUOTA_LEVEL_FULL, 4)
	h.invariants(box)
}
