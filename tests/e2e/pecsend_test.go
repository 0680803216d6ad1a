package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/tests/harness"
)

// TestCertifiedMailGoesOut sends certified mail over the API and from the command line: to its delivery, with the provider's
// receipts, each state told to the customer's endpoint, and once for each recipient whatever the connection does.
func TestCertifiedMailGoesOut(t *testing.T) {
	inBothModes(t, func(t *testing.T, p *harness.Platform) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		require.NoError(t, p.TrustCertifiedMail(ctx))
		c, err := p.Onboard(ctx, 1)
		require.NoError(t, err)
		hook := subscribe(ctx, t, c)
		box, err := c.CertifiedMailbox(ctx)
		require.NoError(t, err)
		conn, err := p.Conn("pec-gateway")
		require.NoError(t, err)
		api := pecv1.NewPecServiceClient(conn)
		await := func(name string, want pecv1.MessageState) *pecv1.Message {
			t.Helper()
			var m *pecv1.Message
			require.Eventually(t, func() bool {
				m, err = api.GetMessage(c.Ctx(ctx), &pecv1.GetMessageRequest{Name: name})
				return err == nil && m.GetState() == want
			}, time.Minute, 100*time.Millisecond, "%s is not %s", name, want)
			return m
		}

		req := &pecv1.SendMessageRequest{
			Parent: box.GetName(), To: []string{"destinatario@beta.test"}, Cc: []string{"inesistente@beta.test"}, Subject: "Disdetta – perché così", Text: "Buongiorno.",
			RequestId: uuid.NewString(), Attachments: []*pecv1.Attachment{{FileName: "contratto.pdf", MediaType: "application/pdf", Data: []byte("%PDF-1.4 prova")}},
		}
		sent, err := api.SendMessage(c.Ctx(ctx), req)
		require.NoError(t, err)
		again, err := api.SendMessage(c.Ctx(ctx), req)
		require.NoError(t, err)
		require.Equal(t, sent.GetName(), again.GetName())
		m := await(sent.GetName(), pecv1.MessageState_MESSAGE_STATE_PARTLY_DELIVERED)
		require.Equal(t, []string{"delivered", "not-delivered"}, []string{m.GetRecipients()[0].GetState(), m.GetRecipients()[1].GetState()})

		// The same from the command line, over a connection that is cut after the provider has taken the message.
		cli := terminal{t, p, c.Key, c.Tenant}
		file := filepath.Join(t.TempDir(), "lettera.txt")
		require.NoError(t, os.WriteFile(file, []byte("una riga\nsenza fine"), 0o600))
		name := field(t, cli.does("pec", "send", box.GetAddress(), "--to", "destinatario@beta.test,taglia-accetta@beta.test", "--subject", "Dal terminale", "--text", "Buongiorno.",
			"--attach", file, "--receipt", "brief"), "message")
		await(name, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
		require.Contains(t, cli.says("pec", "status", name), "DELIVERED")
		require.Contains(t, cli.says("pec", "message", "show", name), "Buongiorno.")
		receipts := cli.says("pec", "message", "ls", box.GetAddress(), "--about", name, "--kind", "delivery")
		id := strings.Fields(strings.Split(strings.TrimSpace(receipts), "\n")[1])[0]
		require.Contains(t, cli.says("pec", "message", "get", box.GetAddress()+"/"+id), "hash of lettera.txt: the same")

		log, err := p.Sandbox.PECSubmissions(ctx, box.GetAddress())
		require.NoError(t, err)
		require.Len(t, log, 2, "each message was taken once")
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			byID, types, forged := hook.Taken()
			told := map[string]int{}
			for _, kind := range types {
				told[kind]++
			}
			assert.Zero(c, forged, "calls of the webhook that were not signed rightly")
			// of each message: an acceptance and an outcome for each recipient; and its last state, before which come as many as the order of
			// its receipts makes
			assert.Equal(c, 6, told["pec.receipt_verified"], "told: %v, calls: %v", told, byID)
			var states []string
			for _, said := range hook.Said("pec.delivery_state_changed") {
				states = append(states, fmt.Sprint(said["subject"], " ", said["state"]))
			}
			assert.Contains(c, states, sent.GetName()+" MESSAGE_STATE_PARTLY_DELIVERED")
			assert.Contains(c, states, name+" MESSAGE_STATE_DELIVERED")
		}, time.Minute, 100*time.Millisecond)

		await(draftByHand(t, cli, box.GetAddress(), file), pecv1.MessageState_MESSAGE_STATE_DELIVERED)
		log, err = p.Sandbox.PECSubmissions(ctx, box.GetAddress())
		require.NoError(t, err)
		require.Len(t, log, 3, "the draft was sent once")
		parked, err := c.Parked(ctx)
		require.NoError(t, err)
		require.Empty(t, parked)
	})
}

// draftByHand keeps a draft with the command line tool, finishes it, sends it, and gives the message's name.
func draftByHand(t *testing.T, cli terminal, box, file string) string {
	t.Helper()
	draft := field(t, cli.does("pec", "draft", "save", box, "--subject", "Bozza", "--text", "Da finire.", "--attach", file), "draft")
	require.Contains(t, cli.says("pec", "draft", "ls", box), "Bozza")
	short := box + "/" + draft[strings.LastIndex(draft, "/")+1:]
	_, errOut, code := cli.run("pec", "draft", "send", short)
	require.NotZero(t, code, "nobody is named")
	require.Contains(t, errOut, "MESSAGE_NOT_ACCEPTABLE")
	require.Contains(t, cli.does("pec", "draft", "change", short, "--to", "destinatario@beta.test", "--text", "Finita."), "lettera.txt (19 bytes)")
	require.Contains(t, cli.says("pec", "draft", "get", short), "Finita.")
	name := field(t, cli.does("pec", "draft", "send", draft), "message")
	_, errOut, code = cli.run("pec", "draft", "rm", short)
	require.NotZero(t, code)
	require.Contains(t, errOut, "DRAFT_NOT_FOUND")
	return name
}
